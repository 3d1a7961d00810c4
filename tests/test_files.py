"""Files appear when they are complete, and what dead processes left is swept."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write, replacing, require_folder, sweep, temporary_beside, write_text


def _killed_while_writing(path: Path) -> None:
    child = os.fork()
    if child == 0:
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_killed_process_left_is_swept_and_the_old_file_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    _killed_while_writing(tmp_path / "file")
    assert len(list(tmp_path.iterdir())) == 2
    assert len(sweep(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_of_a_dead_process_is_swept_with_its_content(tmp_path: Path) -> None:
    alive = temporary_beside(tmp_path / "x").name
    dead = tmp_path / alive.replace(f"-{os.getpid()}-", "-4194305-")  # above the largest number of a process
    (dead / "configs").mkdir(parents=True)
    assert sweep(tmp_path) == [dead]


def test_the_file_of_a_process_at_work_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as file:
        assert sweep(tmp_path) == []
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_number_that_was_given_to_a_younger_process_does_not_protect(tmp_path: Path) -> None:
    left = temporary_beside(tmp_path / "x")
    left.touch()
    os.utime(left, (1, 1))
    assert sweep(tmp_path) == [left]


def test_another_machine_is_given_a_week(tmp_path: Path) -> None:
    fresh, old = (tmp_path / f".making-00000000-1-{n:08x}" for n in (1, 2))
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    assert sweep(tmp_path) == [old]


@pytest.mark.parametrize("name", [".making-x", ".making-00000000-1-zz", "making", ".scan.nii.gz.tmp"])
def test_files_of_others_are_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert sweep(tmp_path) == []


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "content")
    assert (tmp_path / ("x" * 255)).read_text() == "content"


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="a file is in the way"):
            require_folder(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="choose a folder"):
        require_folder(tmp_path / "out")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission"), (errno.EROFS, "read-only")],
)
def test_what_stands_in_the_way_is_said(number: int, sentence: str) -> None:
    assert sentence in str(cannot_write(Path("out"), OSError(number, os.strerror(number))))
