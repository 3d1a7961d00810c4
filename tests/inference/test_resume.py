"""``--resume`` keeps what is finished and right, and does everything else again."""

import json
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from monai_transfer.files import temporary_beside
from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.workflows.segmenting import segment

from .conftest import MakeBundle, body, write_nifti


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_nifti(tmp_path / "in" / f"s{number}.nii.gz", body((9, 9, 9), seed=number))
    return tmp_path / "in"


@pytest.fixture(scope="module")
def segmenter(bundle: Path) -> Segmenter:
    return Segmenter.from_bundle(bundle, device="cpu")


def _stamps(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("s*.nii.gz")}


def _replace_keeping_size_and_time(path: Path) -> None:
    """Another scan whose file has the size and the time of the old one."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[9] = 3  # the byte of a gzip that names the operating system: the smallest change there is
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Path, Path], Any]] = {
    "the scan was replaced": lambda scans, out: write_nifti(scans / "s1.nii.gz", body((9, 9, 9), seed=9)),
    "the scan was touched": lambda scans, out: os.utime(scans / "s1.nii.gz", (1, 1)),
    "the scan was replaced by one of the same size and time": lambda scans, out: _replace_keeping_size_and_time(
        scans / "s1.nii.gz"
    ),
    "the result is gone": lambda scans, out: (out / "s1.nii.gz").unlink(),
    "the result is cut short": lambda scans, out: os.truncate(out / "s1.nii.gz", 50),
    "the result is empty": lambda scans, out: os.truncate(out / "s1.nii.gz", 0),
    "a bit of the result turned": lambda scans, out: (out / "s1.nii.gz").write_bytes(
        (lambda b: b[:-20] + bytes([b[-20] ^ 1]) + b[-19:])((out / "s1.nii.gz").read_bytes())
    ),
    "the result was exchanged": lambda scans, out: shutil.copy(out / "s0.nii.gz", out / "s1.nii.gz"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_case_is_done_again(scans: Path, segmenter: Segmenter, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    segment(scans, segmenter, out)
    before = _stamps(out)
    CHANGES[change](scans, out)
    manifest = segment(scans, segmenter, out, resume=True)
    after = _stamps(out)
    assert [name for name in sorted(after) if after[name] != before[name]] == ["s1.nii.gz"]
    fresh = segmenter.segment(scans / "s1.nii.gz").labels
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(out / "s1.nii.gz").dataobj), fresh)
    assert [case["status"] for case in manifest["cases"]] == ["ok"] * 3


def test_a_side_product_that_is_newly_asked_for(scans: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(scans, bundle, out)
    segment(scans, bundle, out, preview=True, resume=True, options=SegmentOptions(uncertainty=True))
    assert len(list(out.glob("*_uncertainty.nii.gz"))) == len(list(out.glob("*_preview.png"))) == 3
    before = _stamps(out)
    segment(scans, bundle, out, resume=True)  # less is asked for: all of it is there
    assert _stamps(out) == before


def test_other_options_or_another_bundle_do_all_again(
    scans: Path, bundle: Path, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    segment(scans, bundle, out)
    for which, options in ((bundle, SegmentOptions(mirror_axes=(0,))), (make_bundle(smooth=False), SegmentOptions())):
        before = _stamps(out)
        segment(scans, which, out, resume=True, options=options)
        assert all(after != before[name] for name, after in _stamps(out).items())


def test_results_of_different_runs_are_told_apart(scans: Path, bundle: Path, tmp_path: Path) -> None:
    """A run with other options that ended after one case leaves a head that does not fit the other cases."""
    out, mirrored = tmp_path / "out", SegmentOptions(mirror_axes=(0,))
    segment(scans, bundle, out)
    segment(scans / "s0.nii.gz", bundle, out, options=mirrored, overwrite=True)
    before = _stamps(out)
    segment(scans, bundle, out, options=mirrored, resume=True)
    assert {name for name, after in _stamps(out).items() if after != before[name]} == {"s1.nii.gz", "s2.nii.gz"}


def test_a_case_that_failed_is_tried_again(scans: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    (scans / "s1.nii.gz").write_bytes(b"broken")
    out = tmp_path / "out"
    assert segment(scans, segmenter, out)["cases"][1]["status"] == "failed"
    write_nifti(scans / "s1.nii.gz", body((9, 9, 9)))
    assert segment(scans, segmenter, out, resume=True)["cases"][1]["status"] == "ok"


def test_a_result_whose_input_now_fails_does_not_stay(scans: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(scans, segmenter, out)
    (scans / "s1.nii.gz").write_bytes(b"broken")
    assert segment(scans, segmenter, out, resume=True)["cases"][1]["status"] == "failed"
    assert not (out / "s1.nii.gz").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cases": [3, null, {}]}', '{"cases": [{"case": "s0", "status": "ok"}]}']
)
def test_a_damaged_manifest(scans: Path, segmenter: Segmenter, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    segment(scans, segmenter, out)
    (out / "manifest.json").write_text(text)
    manifest = segment(scans, segmenter, out, resume=True, overwrite=True)
    assert [case["status"] for case in manifest["cases"]] == ["ok"] * 3


def test_what_libraries_say_is_told_per_case(
    scans: Path,
    segmenter: Segmenter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import logging

    from monai_transfer.inference.cases import InputCase

    read = InputCase.read

    def odd(case: InputCase, *reading: Any) -> Any:
        if case.name == "s1":
            warnings.warn("an odd\nheader", stacklevel=1)
            logging.getLogger("nibabel.global").warning("pixdim[0] is 7")
        return read(case, *reading)

    monkeypatch.setattr(InputCase, "read", odd)
    manifest = segment(scans, segmenter, tmp_path / "out")
    told = {case["case"]: case["warnings"] for case in manifest["cases"]}
    assert {"an odd header", "pixdim[0] is 7"} <= set(told["s1"])
    assert not {"an odd header", "pixdim[0] is 7"} & {*told["s0"], *told["s2"]}
    assert "pixdim" not in capfd.readouterr().err


def test_what_a_killed_run_left_is_swept(scans: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(scans, segmenter, out)
    left = temporary_beside(out / "s0.nii.gz")
    left.write_bytes(b"half")
    os.utime(left, (1, 1))  # before this process began: the number of the process was another's
    segment(scans, segmenter, out, resume=True)
    assert not left.exists()


def _run_in_child(scans: Path, segmenter: Segmenter, out: Path, *, kill_after: float | None) -> int:
    """Segment in a fork of this process, which has imported everything; its status, or minus the ending signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            segment(scans, segmenter, out, resume=True)
            status = 0
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_fifty_kills_lose_nothing(segmenter: Segmenter, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    scans, whole, out = tmp_path / "in", tmp_path / "whole", tmp_path / "out"
    scans.mkdir()
    for number in range(40):
        write_nifti(scans / f"s{number:02d}.nii.gz", body((12, 10, 9), seed=number))
    begin = time.monotonic()
    assert _run_in_child(scans, segmenter, whole, kill_after=None) == 0
    seconds = time.monotonic() - begin
    dice, kills, finished_at = random.Random(0), 0, []
    while kills < 50:
        status = _run_in_child(scans, segmenter, out, kill_after=dice.uniform(0, 0.25 * seconds))
        kills += status == -signal.SIGKILL
        if status == 0:  # all was done before the signal came: begin a new folder, so that every kill hits work
            finished_at.append(kills)
            assert _results(out) == _results(whole)
            shutil.rmtree(out)
        assert status in (0, -signal.SIGKILL)
    assert _run_in_child(scans, segmenter, out, kill_after=None) == 0
    torch.set_num_threads(threads)
    assert _results(out) == _results(whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    cases = json.loads((out / "manifest.json").read_text())["cases"]
    assert [case["case"] for case in cases] == [f"s{number:02d}" for number in range(40)]
    assert {case["status"] for case in cases} == {"ok"}
    print(f"{kills} kills, whole runs in between: {finished_at}, one undisturbed run {seconds:.2f} s")


def _results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
