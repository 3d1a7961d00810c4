"""What commands need when a test calls them without their ``main``."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_transfer.phantoms import write_phantoms


@pytest.fixture
def quiet() -> Iterator[None]:
    """What ``main`` does before it runs a command."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ct`` and ``mr`` with three labelled subjects each, small enough to train on in seconds."""
    root = tmp_path_factory.mktemp("domains")
    write_phantoms(root / "ct", modality="ct", subjects=3, size=0.2)
    write_phantoms(root / "mr", modality="mr", subjects=3, size=0.2)
    return root
