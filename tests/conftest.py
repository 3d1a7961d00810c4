"""Fixtures that every room shares."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes beside the project, where there is one."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real volumes are not here: ../shared/data is absent")
    return SHARED_DATA
