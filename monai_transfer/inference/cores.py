"""The network on all cores of a CPU, everything else on one.

Cutting windows, adding logits and interpolating slices are thousands of small operations. Where torch spreads each of
them over the cores, every one waits for the slowest core, and on a machine with other work that wait can be many times
the work. So the calling thread uses one core, and the network runs in a thread that has them all.
"""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

T = TypeVar("T")
_cores: ContextVar[int] = ContextVar("cores", default=0)


@contextmanager
def one_core(device: torch.device) -> Iterator[None]:
    """Let torch use one core in this block, save for what is called through :func:`on_all_cores`.

    Nothing changes where ``device`` is no CPU.
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
    return _thread(threads, os.getpid()).submit(function).result()


@functools.cache
def _thread(threads: int, process: int) -> ThreadPoolExecutor:  # a forked process has none of its parent's threads
    pool = ThreadPoolExecutor(1, "network")
    pool.submit(_use_cores, threads).result()
    return pool


def _use_cores(threads: int) -> None:
    torch.get_num_threads()  # sets this thread's number once, which would otherwise happen after the next line
    torch.set_num_threads(threads)
