"""``manifest.json``: what became of every input, written after each of them, by any number of processes."""

import fcntl
import json
import platform
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import monai
import nibabel
import numpy as np
import torch

import monai_transfer
from monai_transfer.files import write_text

NAME = "manifest.json"


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {
        "monai-transfer": monai_transfer.__version__,
        "monai": monai.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "nibabel": nibabel.__version__,
        "python": platform.python_version(),
    }


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: the output folder.
        head: what stands before the cases: versions, bundle, options.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.lock = folder / f".{NAME}.lock"
        self.head = dict(head)
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, Any]:
        """The manifest as it stands; empty when there is none or it is broken."""
        with suppress(OSError, ValueError):
            content = json.loads(self.path.read_text())
            if isinstance(content, dict) and isinstance(content.get("cases"), list):
                return content
        return {"cases": []}

    def record(self, entry: Mapping[str, Any]) -> None:
        """Add the entry of one case, in place of an older one of the same name."""
        with self._locked():
            others = [c for c in self.read()["cases"] if c.get("case") != entry["case"]]
            cases = sorted([*others, dict(entry)], key=lambda c: str(c.get("case")))
            write_text(self.path, json.dumps({**self.head, "cases": cases}, indent=2) + "\n")

    def finished(self) -> dict[str, dict[str, Any]]:
        """The cases that an earlier run with the same bundle and options finished, by name."""
        content = self.read()
        if any(content.get(key) != self.head.get(key) for key in ("bundle", "options")):
            return {}
        return {c["case"]: c for c in content["cases"] if c.get("status") == "ok"}


def reset_peak_memory() -> None:
    """Start a new measurement of the peak, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """Peak of resident memory since the last reset, or of the whole process where that cannot be reset."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
