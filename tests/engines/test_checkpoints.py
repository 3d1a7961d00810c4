"""A state on the disk is whole, or it is not used."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_transfer.engines import Checkpoints
from monai_transfer.errors import UserError


def _state(step: int) -> dict[str, Any]:
    return {"weight": torch.full((1000,), float(step)), "names": ["a", None, 1.5, True], "step": step}


def _read(folder: Path) -> int | None:
    state = Checkpoints(folder).newest()
    return None if state is None else state["step"]


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "states")
    assert (checkpoints.steps, checkpoints.newest()) == ([], None)
    for step in (25, 50, 75, 100):
        checkpoints.save(step, _state(step))
    assert checkpoints.steps == [75, 100]
    state = checkpoints.newest()
    assert state is not None
    assert torch.equal(state["weight"], torch.full((1000,), 100.0))
    assert state["names"] == ["a", None, 1.5, True]
    checkpoints.clear()
    assert not (tmp_path / "states").exists()


@pytest.mark.parametrize("fault", ["cut short", "empty", "a flipped bit", "grown"])
def test_a_torn_state_is_noticed_and_the_one_before_it_used(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(25, _state(25))
    newest = checkpoints.save(50, _state(50))
    content = bytearray(newest.read_bytes())
    if fault == "cut short":
        del content[len(content) // 2 :]
    elif fault == "empty":
        content.clear()
    elif fault == "grown":
        content += b"\0"
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert _read(tmp_path) == 25
    assert f"{newest} is torn" in caplog.text
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert _read(tmp_path) is None


def test_a_process_that_is_killed_while_it_writes_leaves_the_states_before(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(25, _state(25))
    child = os.fork()
    if child == 0:

        class Killed(dict[str, Any]):
            def __reduce__(self) -> Any:
                os.kill(os.getpid(), signal.SIGKILL)

        Checkpoints(tmp_path).save(50, {"first": torch.zeros(100_000), "second": Killed()})
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert _read(tmp_path) == 25
    Checkpoints(tmp_path).clear()
    assert not tmp_path.exists()


def test_code_in_a_state_is_not_run(tmp_path: Path) -> None:
    """A digest tells of accidents and not of intent: what is read is read without unpickling."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "run"),)

    Checkpoints(tmp_path).save(25, {"weight": Evil()})
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        Checkpoints(tmp_path).newest()
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_sentence_and_the_state_before_stays(tmp_path: Path) -> None:
    """The limit on the size of files stands in for the disk: writing fails in the middle of the file."""
    Checkpoints(tmp_path).save(25, _state(25))
    child = os.fork()
    if child == 0:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            Checkpoints(tmp_path).save(50, {"weight": torch.zeros(1_000_000)})
        except UserError as error:
            os._exit(7 if f"{tmp_path} cannot be written" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert _read(tmp_path) == 25
    assert len(list(tmp_path.iterdir())) == 1


def test_a_state_replaces_an_earlier_one_of_its_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in range(6):  # by chance of the digests each order of the names occurs
        checkpoints.save(3, {"number": number})
        assert (checkpoints.newest() or {})["number"] == number
    assert checkpoints.steps == [3]
