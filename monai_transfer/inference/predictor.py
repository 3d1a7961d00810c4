"""One network, or an ensemble, on a batch of windows: precision, memory layout, mirroring, running out of memory.

What is large runs on all cores of a CPU, everything else on one.
Cutting windows and interpolating slices are thousands of small operations. Where torch spreads each of them over the
cores, every one waits for the slowest core, and on a machine with other work that wait can be many times the work. So
the calling thread uses one core. The network and sums over windows' logits run in a thread that has them all
(:func:`on_all_cores`); small operations that need not wait for each other have a thread for each core
(:func:`one_core_each`).
"""

import functools
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.inference.batches import OneDnnConvolutions
from monai_transfer.inference.conversion import (
    ConversionError,
    ConvertedNetwork,
    is_installed,
    require_installed,
    runtimes_folder,
)
from monai_transfer.inference.mapped import move_weights_to_disk
from monai_transfer.machine import has_bfloat16, require_precision
from monai_transfer.options import Precision, Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
_cores: ContextVar[int] = ContextVar("cores", default=0)
"""The cores that torch had before the calling thread was left one."""

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
        threads = _cores.get() or torch.get_num_threads()
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


@contextmanager
def one_core(device: torch.device) -> Iterator[None]:
    """Let torch use one core in this block, save for what is called by :func:`on_all_cores` and :func:`one_core_each`.

    Nothing changes where ``device`` is not a CPU.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    _thread(threads, os.getpid())  # begins while the number of threads is still whole
    token = _cores.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _cores.reset(token)


def on_all_cores(function: Callable[[], T]) -> T:
    """Call ``function`` with all the cores that torch had before :func:`one_core`, and wait for it."""
    threads = _cores.get()
    if not threads:
        return function()
    inference = torch.is_inference_mode_enabled()
    return _thread(threads, os.getpid()).submit(_call, inference, function).result()


def one_core_each(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Call ``function`` on each part, as many at a time as torch had cores before :func:`one_core`, each call on one.

    Returns:
        what it returned, in the order of the parts.
    """
    threads = _cores.get()
    if not threads or len(parts) == 1:
        return [function(part) for part in parts]
    inference = torch.is_inference_mode_enabled()
    return list(_threads(threads, os.getpid()).map(functools.partial(_call, inference, function), parts))


def _call(inference: bool, function: Callable[..., R], *given: object) -> R:
    with torch.inference_mode(inference):  # every thread has a mode of its own
        return function(*given)


@functools.cache
def _thread(threads: int, process: int) -> ThreadPoolExecutor:  # a forked process has none of its parent's threads
    pool = ThreadPoolExecutor(1, "network")
    pool.submit(_use_cores, threads).result()
    return pool


@functools.cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "core", initializer=_use_cores, initargs=(1,))


def _use_cores(threads: int) -> None:
    torch.get_num_threads()  # sets this thread's number once, which would otherwise happen after the next line
    torch.set_num_threads(threads)


def flat_axis(network: torch.nn.Module, roi_size: Sequence[int]) -> int | None:
    """The axis across which a 2D network sees a volume slice by slice: along it a window has one voxel."""
    if len(roi_size) == 2:
        return 2
    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    is_3d = next(
        (isinstance(module, torch.nn.Conv3d) for module in network.modules() if isinstance(module, kinds)), True
    )
    return roi_size.index(1) if 1 in roi_size and not is_3d else None
