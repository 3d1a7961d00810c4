"""On what, and with which versions, figures were measured; how much memory is free and how much was taken."""

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from monai_transfer.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

    from monai_transfer.options import Precision

_TRAINING = 4 << 30
"""Bytes that have to be free for each of several trainings at once: with the planned windows one takes 2 to 3 GB."""

_DENSEST, _SLACK = 16, 1 << 26
"""A network takes at most so many bytes for each byte of its weights, and these besides.

Four-bit weights become eight times as large; the rest is for a file that is small because it is damaged, which deserves
the sentence about itself.
"""

MOST_CORRECTED = 2**28
"""Probabilities of a volume, classes times voxels, that are corrected at once: 1 GB in float32, with copies 8 GB."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of what ``mallopt`` adjusts, from ``malloc.h``."""

PACKAGES = (
    "monai-transfer",
    "torch",
    "monai",
    "pytorch-ignite",
    "numpy",
    "scipy",
    "nibabel",
    "itk",
    "SimpleITK",
    "scikit-image",
)


def require_device(name: str) -> None:
    """See that a device is there; torch is asked for CUDA devices alone.

    Raises:
        UserError: when the name is none of ``auto``, ``cpu``, ``cuda`` and ``cuda:N``, or there is no such device.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name) is None:
        raise UserError(f"--device {name} is not known: give auto, cpu, cuda or cuda:N.")
    if not name.startswith("cuda"):
        return
    import torch  # here, for options are checked before anything that takes seconds

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UserError(f"--device {name} is not possible: there is no CUDA device; use --device cpu.")
    if int(name.partition(":")[2] or 0) >= count:
        raise UserError(f"--device {name} is not possible: there are {count} CUDA device(s), counted from cuda:0.")


def require_precision(precision: str, device: str) -> None:
    """Refuse a precision in which a kind of device (``"cpu"``, ``"cuda"``) does not compute."""
    if precision == "float16" and device == "cpu":
        raise UserError("--precision float16 needs a CUDA device: on the CPU choose bfloat16 or float32.")


def choose_device(name: str) -> "torch.device":
    """The device of a name; ``auto`` is CUDA where there is one.

    Raises:
        UserError: when the name is none of ``auto``, ``cpu``, ``cuda`` and ``cuda:N``, or there is no such device.
    """
    import torch  # here, for reading volumes asks for the free memory and should not wait for torch

    require_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def launched() -> int:
    """How many processes ``torchrun`` or another launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device_of_process(name: str) -> str:
    """The device of one process of ``torchrun``: for ``auto`` and ``cuda`` the GPU of its ``LOCAL_RANK``."""
    local = os.environ.get("LOCAL_RANK")
    if name not in ("auto", "cuda") or launched() < 2 or local is None:
        return name
    import torch

    return f"cuda:{int(local) % torch.cuda.device_count()}" if torch.cuda.is_available() else name


def free_cores() -> int:
    """Cores that this process may use and that others leave free, at least one, by the load of the last minute."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    load = float(psutil.getloadavg()[0])
    return max(1, int(cores) - round(load))


def trainings_at_once(device: "torch.device", wanted: int) -> int:
    """How many of several trainings go on side by side unless the user says otherwise.

    On a CPU as many as there are threads and memory for: two trainings of one thread each do nearly twice the steps of
    one, which with two threads does a fifth more. Trainings on one GPU would share it, and its memory.
    """
    if device.type != "cpu" or launched() > 1:
        return 1
    import torch

    return max(1, min(wanted, torch.get_num_threads(), free_memory() // _TRAINING))


def hardware() -> dict[str, Any]:
    """Return processor, cores this process may use, memory, and the GPUs by name."""
    import torch

    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": _processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the installed versions of Python and the packages that decide the figures."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def has_bfloat16() -> bool:
    """Whether the processor is known to multiply in bfloat16 as PyTorch does; elsewhere that may be emulated."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def usual_precision(device: "torch.device") -> "Precision":
    """What a training computes in where nobody says: mixed precision on whatever is faster by it."""
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if has_bfloat16() else "float32"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory(device: "torch.device | None" = None) -> int:
    """Bytes that can still be taken without swapping.

    Of a GPU where ``device`` is one; else of the machine, or of its container where that allows less.
    """
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # version 2; a container sees its own group here
    with suppress(OSError, ValueError, StopIteration):
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = (group / "memory.stat").read_text().splitlines()
        # Cached files count as used, but are given back as soon as memory is asked for.
        cached = next(int(line.split()[1]) for line in statistics if line.startswith("inactive_file "))
        free = min(free, max(limit - used + cached, 0))
    return free


def require_memory(needed: float, what: str, remedy: str, *, device: "torch.device | None" = None) -> None:
    """See that so many bytes are free, before they are asked for.

    Args:
        needed: bytes, the least that the work cannot do without.
        what: begins the sentence: the option or file that needs them.
        remedy: ends it: what the user can change.
        device: whose memory; main memory by default.

    Raises:
        UserError: when less is free.
    """
    free = free_memory(device)
    if needed > free:
        raise UserError(f"{what} needs at least {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: {remedy}.")


def require_holdable(build: Callable[[], "Module"], weights: Path, what: str) -> None:
    """See that a network is not far larger than the file of its weights, before memory is taken for it.

    Args:
        build: builds the network; here on torch's device without memory. What it raises is left to the real building.
        weights: the file, which may be absent.
        what: begins the sentence: the network.

    Raises:
        UserError: it is.
    """
    import torch

    size = 0
    with warnings.catch_warnings(), suppress(Exception), torch.device("meta"):
        warnings.simplefilter("ignore")
        size = sum(tensor.numel() * tensor.element_size() for tensor in build().state_dict().values())
    if weights.is_file() and size > _DENSEST * weights.stat().st_size + _SLACK:
        raise UserError(f"{what} has {size / 1e9:.1f} GB, which {weights} cannot hold: make the bundle anew.")
    require_memory(size, what, "make the bundle anew")


def require_disk(folder: Path, needed: float, what: str) -> None:
    """See that so many bytes are free on the disk of a folder, which need not exist yet, before they are written.

    Args:
        folder: where they will lie.
        needed: bytes.
        what: begins the sentence: what needs them.

    Raises:
        UserError: when less is free.
    """
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{what} take at least {needed / 1e6:.1f} MB while {free / 1e6:.1f} MB are free in {there}; free some "
            "space or choose another --output."
        )


def keep_memory() -> None:
    """Keep the memory of freed tensors for the next ones, where the C library is GNU's; elsewhere nothing happens.

    It gives blocks of megabytes back to the system at once, and gets new ones page by page, each of them cleared: in a
    training step, which frees and takes the same blocks again, that is up to a fifth of the time (docs/machines.md).
    """
    with suppress(OSError, AttributeError):
        adjust = ctypes.CDLL(None).mallopt
        adjust(_M_MMAP_THRESHOLD, 1 << 30)
        adjust(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def reset_peak_memory() -> None:
    """Start a new measurement of the peak, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """Peak of resident memory since the last reset; of the whole process, or only now, where the system tells less."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024, 1)
    now = psutil.Process().memory_info()
    return round(float(getattr(now, "peak_wset", now.rss)) / 1024**2, 1)
