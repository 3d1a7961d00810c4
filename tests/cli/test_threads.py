import os

import psutil
import pytest

from monai_transfer import machine
from monai_transfer.cli.threads import settle_threads

VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (1.2, 0.0, 0.0))


@pytest.mark.parametrize(("load", "cores"), [(0.0, 4), (1.2, 3), (9.0, 1)])
def test_cores_that_others_use_are_left_to_them(monkeypatch: pytest.MonkeyPatch, load: float, cores: int) -> None:
    monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    assert machine.free_cores() == cores


def test_threads_wait_passively_and_segment_takes_the_free_cores() -> None:
    settle_threads(["--debug", "segment", "x.nii.gz"])
    assert [os.environ[name] for name in VARIABLES] == ["3", "PASSIVE", "0"]


def test_a_training_keeps_its_number_of_threads() -> None:
    settle_threads(["train", "--data", "segment"])
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    settle_threads(["segment"])
    assert [os.environ[name] for name in VARIABLES] == ["7", "ACTIVE", "0"]
