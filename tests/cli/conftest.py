"""What commands need when a test calls them without their ``main``."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet() -> Iterator[None]:
    """What ``main`` does before it runs a command."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)
