"""One network, or an ensemble, on a batch of windows: precision, memory layout, mirroring, running out of memory."""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.inference.conversion import (
    ConversionError,
    ConvertedNetwork,
    is_installed,
    require_installed,
    runtimes_folder,
)
from monai_transfer.inference.cores import OneDnnConvolutions, all_cores, on_all_cores
from monai_transfer.inference.mapped import move_weights_to_disk
from monai_transfer.machine import has_bfloat16, require_precision
from monai_transfer.options import Precision, Runtime

logger = logging.getLogger(__name__)

_TORCH_BATCH = 2
"""Windows per forward pass of PyTorch in float32 on a CPU, where they are small or the network is compiled: weights are
packed once for both, and layers of few voxels, transposed ones too, escape PyTorch's slow convolution."""

_LARGE_WINDOW = 1 << 19
"""Voxels from which one window at a time is as fast as two (a U-Net on 96³: 0.296 s and 0.301 s for two; on 64³ it is
a fifth slower), and takes half the memory of activations."""

_LARGE_LOGITS_MB = 150.0
"""Megabytes of logits per window above which a CPU takes one window at a time, to spare memory."""

WORTH_CONVERTING = 12_000_000
"""Voxels of all windows of a case from which ``auto`` takes OpenVINO, 14 windows of 96³: a conversion takes about as
long as it saves on so many. The choice depends on the case alone, so equal runs give equal voxels."""

PRECISIONS: Mapping[Precision, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Predictor:
    """Calls networks on windows and returns float32 logits, whatever happens to memory on the way.

    Several networks (an ensemble) yield their logits one after another along the channel axis; with ``mirror_axes``
    the logits are averaged over all mirrorings of the window along these axes.

    Args:
        networks: networks with the same input and output channels.
        device: where they run.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` (autocast; float16 on CUDA only).
        mirror_axes: spatial axes (0, 1, 2) of test-time mirroring.
        batch: windows per forward pass to begin with.
        compile: run the networks through ``torch.compile``; on CUDA with CUDA graphs.
        flat_axis: the axis along which a 2D network sees a 3D window of one voxel, if so.
        runtime: what computes the networks, once :meth:`prepare` was called.

    Attributes:
        used: the runtime that computes now.

    Raises:
        UserError: for an unknown precision, or a runtime that is not installed or cannot be used here.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        device: torch.device,
        precision: Precision = "float32",
        mirror_axes: Sequence[int] = (),
        batch: int = 1,
        compile: bool = False,
        flat_axis: int | None = None,
        runtime: Runtime = "torch",
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"--precision {precision} is not known: choose one of {', '.join(PRECISIONS)}.")
        require_precision(precision, device.type)
        if runtime not in ("auto", "torch"):
            require_installed(runtime)
            if device.type != "cpu" or compile:
                raise UserError(f"--runtime {runtime} runs on the CPU and without --compile: add --device cpu.")
            if runtime == "onnx" and precision != "float32":
                raise UserError(f"--runtime onnx computes in float32: omit --precision {precision}.")
        self.device, self.runtime = device, runtime
        self.used: Runtime = "torch"
        self._converted: dict[tuple[int, ...], list[ConvertedNetwork] | None] = {}
        self.dtype = PRECISIONS[precision]
        self.batch = max(batch, 1)
        self.full_batches = compile
        self.flat_axis = flat_axis
        self.layout = torch.channels_last_3d if flat_axis is None else torch.channels_last
        self.mirrorings = [axes for n in range(len(mirror_axes) + 1) for axes in itertools.combinations(mirror_axes, n)]
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        prepared = [n.to(device).to(memory_format=self.layout).eval() for n in networks]  # type: ignore[call-overload]
        self.networks: list[Any] = [torch.compile(n, mode=mode, dynamic=False) if compile else n for n in prepared]
        self._running: Sequence[Callable[[torch.Tensor], object]] = self.networks
        self.output_device: torch.device = device

    def prepare(self, window: torch.Tensor, *, voxels: int) -> None:
        """Choose what computes the windows of a case, and convert the networks for it where that is new.

        A network that cannot be converted is computed by PyTorch, with one warning.

        Args:
            window: one window, (1, C_in, *roi).
            voxels: of all its windows together.
        """
        self._running, self.used = self.networks, "torch"
        runtime = self.runtime
        if runtime == "auto":
            pays = voxels >= WORTH_CONVERTING and (self.dtype is None or has_bfloat16())
            able = pays and self.device.type == "cpu" and not self.full_batches and is_installed("openvino")
            runtime = "openvino" if able else "torch"
        if runtime == "torch":
            return
        seen = window if self.flat_axis is None else window.squeeze(2 + self.flat_axis)
        shape = tuple(seen.shape[1:])
        if shape not in self._converted:
            self._converted[shape] = self._convert(shape, runtime)
        if converted := self._converted[shape]:
            self._running, self.used = converted, runtime

    def _convert(self, shape: tuple[int, ...], runtime: Runtime) -> list[ConvertedNetwork] | None:
        threads = all_cores()
        low = self.dtype is torch.bfloat16
        try:
            made = [ConvertedNetwork(n, shape, runtime=runtime, threads=threads, bfloat16=low) for n in self.networks]
        except ConversionError as error:
            logger.warning("%s cannot run this network (%s): PyTorch computes it.", runtime, error)
            return None
        move_weights_to_disk(self.networks, runtimes_folder())  # the runtime has its own
        return made

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows (B, C_in, *roi) -> logits (B, networks * C, *roi), float32, on ``output_device``.

        When memory runs out, the batch is halved, for this call and all later ones.

        Raises:
            torch.OutOfMemoryError: when not even one window fits.
        """
        try:
            return on_all_cores(lambda: self._forward(windows)).to(self.output_device)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(windows) == 1:
                raise
        # Outside the handler: the exception keeps the failed forward's tensors alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.batch = max(len(windows) // 2, 1)
        logger.warning("Out of memory with %d windows at once; going on with %d.", len(windows), self.batch)
        return torch.cat([self(part) for part in torch.split(windows, self.batch)])

    def autocast(self) -> AbstractContextManager[object]:
        """The autocast context of the chosen precision."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def _computing(self) -> AbstractContextManager[object]:
        """How the networks are computed: autocast, or with oneDNN's convolutions; a compiled graph has its own."""
        return self.autocast() if self.dtype is not None or self.full_batches else OneDnnConvolutions()

    @torch.inference_mode()
    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        count = len(windows)
        windows = windows.to(self.device, non_blocking=True)
        if self.full_batches and count < self.batch:  # a compiled network wants one shape
            windows = torch.cat([windows, windows[-1:].expand(self.batch - count, *windows.shape[1:])])
        if self.flat_axis is not None:
            windows = windows.squeeze(2 + self.flat_axis)
        total: torch.Tensor | None = None
        with self._computing():
            for axes in self.mirrorings:
                dims = [2 + a - (self.flat_axis is not None and a > self.flat_axis) for a in axes]
                seen = (windows.flip(dims) if dims else windows).contiguous(memory_format=self.layout)
                found = [first_tensor(network(seen)).float() for network in self._running]
                logits = torch.cat(found, dim=1) if len(found) > 1 else found.pop()
                logits = logits.flip(dims) if dims else logits
                total = logits if total is None else total.add_(logits)
        assert total is not None
        if self.flat_axis is not None:
            total = total.unsqueeze(2 + self.flat_axis)
        if len(self.mirrorings) > 1:
            total.div_(len(self.mirrorings))
        return total[:count]


def first_tensor(output: object) -> torch.Tensor:
    """The segmentation in what a network returns: a tensor, the first of a sequence, or the first value of a dict."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    if isinstance(output, (list, tuple)):
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise UserError(f"The network returns {type(output).__name__}; it must return a tensor of logits.")
    return output


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the device or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


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


def flat_axis(network: torch.nn.Module, roi_size: Sequence[int]) -> int | None:
    """The axis across which a 2D network sees a volume slice by slice: along it a window has one voxel."""
    if len(roi_size) == 2:
        return 2
    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    is_3d = next(
        (isinstance(module, torch.nn.Conv3d) for module in network.modules() if isinstance(module, kinds)), True
    )
    return roi_size.index(1) if 1 in roi_size and not is_3d else None
