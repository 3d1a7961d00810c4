"""What the cores of a CPU compute: which work has all of them, and the fast convolution for a single window.

What is large runs on all cores of a CPU, everything else on one.
Cutting windows and interpolating slices are thousands of small operations. Where torch spreads each of them over the
cores, every one waits for the slowest core, and on a machine with other work that wait can be many times the work. So
the calling thread uses one core. The network and sums over windows' logits run in a thread that has them all
(:func:`on_all_cores`); small operations that need not wait for each other have a thread for each core
(:func:`one_core_each`).

On a CPU PyTorch hands convolutions in float32 to oneDNN, unless a layer's input is of one window and has few voxels
(channels × slices × rows of 20480 or less): then it takes a loop of its own, which is slower on all but tiny inputs. So
deep layers would need two windows at a time, and with them twice the memory of activations.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
R = TypeVar("R")
_cores: ContextVar[int] = ContextVar("cores", default=0)
"""The cores that torch had before the calling thread was left one."""


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


def all_cores() -> int:
    """The cores that torch had before :func:`one_core`."""
    return _cores.get() or torch.get_num_threads()


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
