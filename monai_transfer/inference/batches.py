"""How many windows go through the networks at a time, and the fast convolution for a single one.

On a CPU PyTorch hands convolutions in float32 to oneDNN, unless a layer's input is of one window and has few voxels
(channels × slices × rows of 20480 or less): then it takes a loop of its own, which is slower on all but tiny inputs. So
deep layers would need two windows at a time, and with them twice the memory of activations.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from monai_transfer.inference.predictor import Predictor

_TORCH_BATCH = 2
"""Windows per forward pass of PyTorch in float32 on a CPU, where they are small or the network is compiled: weights are
packed once for both, and layers of few voxels, transposed ones too, escape PyTorch's slow convolution."""

_LARGE_WINDOW = 1 << 19
"""Voxels from which one window at a time is as fast as two (a U-Net on 96³: 0.296 s and 0.301 s for two; on 64³ it is
a fifth slower), and takes half the memory of activations."""

_LARGE_LOGITS_MB = 150.0
"""Megabytes of logits per window above which a CPU takes one window at a time, to spare memory."""


def batch_for_cpu(predictor: "Predictor", window: torch.Tensor, *, classes: int) -> int:
    """How many windows a CPU computes at a time: two where that is faster, else one.

    Args:
        predictor: the networks.
        window: one window, (1, C_in, *roi).
        classes: of all the networks together.
    """
    voxels = window[0, 0].numel()
    large = (voxels >= _LARGE_WINDOW and not predictor.full_batches) or 4e-6 * classes * voxels >= _LARGE_LOGITS_MB
    return _TORCH_BATCH if predictor.used == "torch" and predictor.dtype is None and not large else 1


def batch_for_memory(predictor: "Predictor", window: torch.Tensor, *, share: float = 0.6, most: int = 32) -> int:
    """How many windows fit a CUDA device: one is run, and its peak divides ``share`` of the free memory.

    Args:
        predictor: the networks.
        window: one window, (1, C_in, *roi).
        share: part of the free memory to plan with.
        most: never more windows than this.
    """
    if predictor.device.type != "cuda":
        return predictor.batch
    torch.cuda.reset_peak_memory_stats(predictor.device)
    before = torch.cuda.memory_allocated(predictor.device)
    predictor(window)
    used = max(torch.cuda.max_memory_allocated(predictor.device) - before, 1)
    free, _ = torch.cuda.mem_get_info(predictor.device)
    return int(min(max(share * free // used, 1), most))


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
