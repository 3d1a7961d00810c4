"""Phantom domains small enough to adapt between in seconds."""

from pathlib import Path

import pytest

from monai_transfer.phantoms import write_phantoms


@pytest.fixture(scope="session")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ct`` with three and ``mr`` with four labelled subjects."""
    root = tmp_path_factory.mktemp("domains")
    write_phantoms(root / "ct", modality="ct", subjects=3, size=0.3)
    write_phantoms(root / "mr", modality="mr", subjects=4, size=0.3)
    return root
