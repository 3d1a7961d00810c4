"""From folders of volumes to MONAI datalists: layouts, integrity check, domain loader, phantoms."""

from typing import TYPE_CHECKING, Any

from monai_transfer.data.datasets import Case, CaseDataset
from monai_transfer.data.fingerprint import Fingerprint
from monai_transfer.data.grids import GRID_TOLERANCE_MM, largest_shift, same_grid_tolerance
from monai_transfer.data.integrity import CheckReport, Fault, check_dataset, require_sound
from monai_transfer.data.layouts import read_dataset
from monai_transfer.data.phantom import Phantom, make_phantom, write_phantoms
from monai_transfer.data.volumes import Volume, VolumeFaultError, read_volume

if TYPE_CHECKING:
    from monai_transfer.data.domains import CyclingSampler, DomainLoader

__all__ = [
    "GRID_TOLERANCE_MM",
    "Case",
    "CaseDataset",
    "CheckReport",
    "CyclingSampler",
    "DomainLoader",
    "Fault",
    "Fingerprint",
    "Phantom",
    "Volume",
    "VolumeFaultError",
    "check_dataset",
    "largest_shift",
    "make_phantom",
    "read_dataset",
    "read_volume",
    "require_sound",
    "same_grid_tolerance",
    "write_phantoms",
]


def __getattr__(name: str) -> Any:
    """Import the loader, and torch and MONAI with it, when it is first asked for: checking files needs neither."""
    if name in ("CyclingSampler", "DomainLoader"):
        from monai_transfer.data import domains

        return getattr(domains, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
