"""Weights that lie on the disk until somebody looks at them, and pages that nobody looks at any more.

A network that another runtime computes is in memory three times: as PyTorch's tensors, as the runtime's file, which it
maps, and as the weights that the runtime packed for its own loops. Only the last are read again. So the file's pages
are let go, and PyTorch's tensors move into a file that is mapped too: they stay what they were, and whoever computes
with them has the system read them.
"""

import ctypes
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

_WORTH_MOVING = 1 << 20
"""Bytes of the smallest tensor that is moved: the others are few beside the rest of a process."""

_DONTNEED = 4
"""Of ``madvise``: the pages will not be looked at soon, and are read from the file again where they are."""


def move_weights_to_disk(networks: Iterable[nn.Module], folder: Path) -> None:
    """Keep the weights of networks in an unnamed file instead of in memory; where it cannot be written nothing happens.

    Args:
        networks: on the CPU; they go on as before, and write to no weight.
        folder: on whose disk the file lies until this process ends or the networks are gone.

    Example:
        >>> network = nn.Linear(512, 1024)
        >>> before = network.weight.detach().clone()
        >>> move_weights_to_disk([network], Path())
        >>> torch.equal(network.weight, before)
        True
    """
    found = {id(t): t for network in networks for t in (*network.parameters(), *network.buffers())}
    large = [t for t in found.values() if t.numel() * t.element_size() >= _WORTH_MOVING and t.device.type == "cpu"]
    if not large:
        return
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        # as they lie in memory, the axis of the longest stride first: convolutions read weights in channels-last order
        orders = [np.argsort([-step for step in t.stride()], kind="stable").tolist() for t in large]
        for tensor, order in zip(large, orders, strict=True):
            file.write(_in_bytes(tensor.detach().permute(order)).data)
        file.flush()
        mapped = torch.from_numpy(np.memmap(file, np.uint8, "c"))  # a write would copy the page and not reach the file
        start = 0
        for tensor, order in zip(large, orders, strict=True):
            stop = start + tensor.numel() * tensor.element_size()
            values = mapped[start:stop].view(tensor.dtype).view([tensor.shape[axis] for axis in order])
            tensor.data = values.permute([order.index(axis) for axis in range(tensor.ndim)])
            start = stop
    give_memory_back()


def let_pages_go(folder: Path) -> None:
    """Take out of memory what this process has mapped of the files in a folder; reading it brings it back (Linux)."""
    within = f"{folder.resolve()}/"
    with suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in Path("/proc/self/maps").read_text().splitlines():
            addresses, rights, _, _, _, *path = line.split(maxsplit=5)
            if path and path[0].startswith(within) and "w" not in rights:
                begin, end = (int(address, 16) for address in addresses.split("-"))
                advise(begin, end - begin, _DONTNEED)


def give_memory_back() -> None:
    """Return the freed memory that GNU's C library keeps for later; elsewhere nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _in_bytes(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy()
