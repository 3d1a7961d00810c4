"""The fast convolution for a single window.

On a CPU PyTorch hands convolutions in float32 to oneDNN, unless a layer's input is of one window and has few voxels
(channels × slices × rows of 20480 or less): then it takes a loop of its own, which is slower on all but tiny inputs. So
deep layers would need two windows at a time, and with them twice the memory of activations.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class OneDnnConvolutions(TorchFunctionMode):
    """In its ``with`` block 3D convolutions of a single window in float32 are oneDNN's, however few voxels they have.

    Example:
        >>> window, weight = torch.rand(1, 4, 6, 6, 6), torch.rand(8, 4, 3, 3, 3)
        >>> with OneDnnConvolutions():
        ...     found = F.conv3d(window, weight, padding=1)
        >>> torch.allclose(found, F.conv3d(window, weight, padding=1), atol=1e-5)
        True
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See :class:`torch.overrides.TorchFunctionMode`."""
        if func is F.conv3d:
            return _convolved(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``F.conv3d``."""
    alone = input.ndim == 5 and len(input) == 1 and input.device.type == "cpu"
    # a kernel of one voxel is a product of matrices, which PyTorch does no slower
    simple = input.dtype == weight.dtype == torch.float32 and weight[0, 0].numel() > 1 and not isinstance(padding, str)
    there = torch.backends.mkldnn.enabled and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (alone and simple and there):
        return F.conv3d(input, weight, bias, stride, padding, dilation, groups)
    stride, padding, dilation = ([n] * 3 if isinstance(n, int) else list(n) for n in (stride, padding, dilation))
    return torch.mkldnn_convolution(input, weight, bias, padding, stride, dilation, groups)
