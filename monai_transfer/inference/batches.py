"""How many windows go through the networks at a time."""

import torch

from monai_transfer.inference.predictor import Predictor

_TORCH_BATCH = 2
"""Windows per forward pass of PyTorch in float32 on a CPU, where they are small or the network is compiled: weights are
packed once for both, and layers of few voxels, transposed ones too, escape PyTorch's slow convolution."""

_LARGE_WINDOW = 1 << 19
"""Voxels from which one window at a time is as fast as two (a U-Net on 96³: 0.296 s and 0.301 s for two; on 64³ it is
a fifth slower), and takes half the memory of activations."""

_LARGE_LOGITS_MB = 150.0
"""Megabytes of logits per window above which a CPU takes one window at a time, to spare memory."""


def batch_for_cpu(predictor: Predictor, window: torch.Tensor, *, classes: int) -> int:
    """How many windows a CPU computes at a time: two where that is faster, else one.

    Args:
        predictor: the networks.
        window: one window, (1, C_in, *roi).
        classes: of all the networks together.
    """
    voxels = window[0, 0].numel()
    large = (voxels >= _LARGE_WINDOW and not predictor.full_batches) or 4e-6 * classes * voxels >= _LARGE_LOGITS_MB
    return _TORCH_BATCH if predictor.used == "torch" and predictor.dtype is None and not large else 1


def batch_for_memory(predictor: Predictor, window: torch.Tensor, *, share: float = 0.6, most: int = 32) -> int:
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
