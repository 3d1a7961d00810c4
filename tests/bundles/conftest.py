"""Phantoms small enough to train on in seconds, laid out as the bundles expect them."""

from pathlib import Path

import pytest

from monai_transfer.phantoms import write_phantoms


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ct`` and ``mr``, each with two labelled subjects."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantoms(root / "ct", modality="ct", subjects=2, size=0.25)
    write_phantoms(root / "mr", modality="mr", subjects=2, size=0.25)
    return root
