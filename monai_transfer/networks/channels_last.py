"""Mixed precision on a CPU, in the order in which its convolutions read bfloat16: the channels of a voxel together.

A network in PyTorch's usual order is turned around for each convolution and back. Weights stay as they are, for the
optimizer and the moving average work on them in float32: the copies that mixed precision casts anyway are made in that
order, and two layers that would fall back to the usual one, instance normalisation and PReLU, are computed in it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_LAYOUT = torch.channels_last_3d

_FLAT = 2
"""Voxels along an axis of a convolution's result up to which it is computed in float32 (:func:`_is_flat`)."""


@contextmanager
def mixed_precision(device: torch.device, **options: Any) -> Iterator[None]:
    """Autocast; on a CPU to bfloat16, and with :class:`ChannelsLast`.

    Args:
        device: where the network is.
        options: of ``torch.autocast``.
    """
    if device.type != "cpu":
        with torch.autocast(device.type, **options):
            yield
        return
    with torch.autocast("cpu", **{"dtype": torch.bfloat16, **options}), ChannelsLast():
        yield


class ChannelsLast(TorchFunctionMode):
    """In its ``with`` block what a 3D network does under autocast on a CPU is done with the channels last.

    Of a 2D network layers of next to no voxels are computed in float32, as those of a 3D one are.

    Example:
        >>> layer = torch.nn.Conv3d(2, 4, 3)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16), ChannelsLast():
        ...     features = layer(torch.rand(1, 2, 6, 6, 6))
        >>> features.is_contiguous(memory_format=torch.channels_last_3d), layer.weight.is_contiguous()
        (True, True)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See :class:`torch.overrides.TorchFunctionMode`."""
        # what is given by name alone goes the usual way
        other = _OTHERS.get((func, getattr(args[0], "ndim", 0))) if args else None
        if other is None or args[0].device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        return other(func, *args, **(kwargs or {}))


def _convolution(func: Callable[..., Tensor], input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if func is F.conv3d and _is_flat(input, *args, **kwargs):
        return _in_float32(func, input, weight, *args, **kwargs)
    dtype = torch.get_autocast_dtype("cpu")
    cast = [tensor.to(dtype) for tensor in (input, weight)]
    if func is F.conv3d and input.shape[1] == 1:
        # of a single channel nobody can tell where it stands, and a slow convolution is taken: a second one of zeros
        cast = [F.pad(tensor, (0, 0, 0, 0, 0, 0, 0, 1)) for tensor in cast]
    # cast before it is turned around: both at once is slower
    return func(*(tensor.contiguous(memory_format=_LAYOUT) for tensor in cast), *args, **kwargs)


def _planar(func: Callable[..., Tensor], input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if _is_flat(input, *args, **kwargs):
        return _in_float32(func, input, weight, *args, **kwargs)
    return func(input, weight, *args, **kwargs)


def _in_float32(func: Callable[..., Tensor], input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return func(input.float(), weight, *args, **kwargs)


def _is_flat(input: Tensor, bias: Tensor | None = None, stride: Any = 1, *_: Any, **__: Any) -> bool:
    """Whether the result of a convolution has an axis of two voxels or one.

    There oneDNN reads memory that nobody wrote for the gradient of the weight, in bfloat16 on processors without AMX
    (found with torch 2.13 on an AMD EPYC; of 2D ones where a stride of two meets an axis of one), and a layer of so few
    voxels costs next to nothing in float32.
    """
    steps = (stride,) * (input.ndim - 2) if isinstance(stride, int) else stride
    return any(size <= _FLAT * step for size, step in zip(input.shape[2:], steps, strict=True))


def _transposed(
    func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    if bias is None:
        return _convolution(func, input, weight, None, *args, **kwargs)
    found = _convolution(func, input, weight, bias.detach(), *args, **kwargs)
    biased: Tensor = _WithBias.apply(found, bias)  # type: ignore[no-untyped-call]
    return biased


class _WithBias(torch.autograd.Function):
    """Leaves features as they are; the gradient of the bias in them, a sum that oneDNN's own way makes slowly."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype = bias.dtype
        ctx.mark_dirty(features)  # no view, so that a layer behind may work in place
        return features

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        of_bias = gradient.sum([0, 2, 3, 4]).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return gradient, of_bias


def _instance_norm(
    func: Callable[..., Tensor],
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """That of torch joins cases and channels into one axis, for which the channels have to come first."""
    if running_mean is not None or not use_input_stats:
        return func(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    cases = torch.split(input.contiguous(memory_format=_LAYOUT), 1)
    return torch.cat([F.batch_norm(case, None, None, weight, bias, True, momentum, eps) for case in cases])


def _prelu(func: Callable[..., Tensor], input: Tensor, weight: Tensor) -> Tensor:
    if weight.numel() > 1:
        return func(input, weight)
    found: Tensor = _OneSlope.apply(input.to(torch.get_autocast_dtype("cpu")), weight)  # type: ignore[no-untyped-call]
    return found


class _OneSlope(torch.autograd.Function):
    """PReLU of one slope; torch's own gradient of the slope is slow: it takes no account of bfloat16."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return F.leaky_relu(input, float(weight))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        input, weight = ctx.saved_tensors
        slope = input.clamp(max=0).mul_(gradient).sum(dtype=torch.float32)
        below = torch.ops.aten.leaky_relu_backward(gradient, input, float(weight), False)
        return below, slope.to(weight.dtype).reshape(weight.shape)


_OTHERS: dict[tuple[Any, int], Callable[..., Tensor]] = {
    (F.conv2d, 4): _planar,
    (F.conv3d, 5): _convolution,
    (F.conv_transpose3d, 5): _transposed,
    (F.instance_norm, 5): _instance_norm,
    (F.prelu, 5): _prelu,
}
"""Function and axes of its first argument -> what is done in its place."""
