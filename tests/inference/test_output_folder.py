"""Results never stand in the place of an input, or of the results of another."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_transfer.errors import UserError
from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.inference.case_work import Recorder
from monai_transfer.inference.output_folder import Manifest
from monai_transfer.workflows.segmenting import segment

from .conftest import body, write_nifti


@pytest.fixture(scope="module")
def segmenter(bundle: Path) -> Segmenter:
    return Segmenter.from_bundle(bundle, device="cpu")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write_nifti(tmp_path / "in" / "a.nii.gz", body((9, 9, 9)))
    write_nifti(tmp_path / "in" / "deep" / "b.nii.gz", body((9, 9, 9), seed=1))
    return tmp_path / "in"


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _link(place: Path, target: Path) -> Path:
    place.symlink_to(target)
    return place


SITUATIONS: dict[str, Callable[[Path], tuple[list[Path], Path]]] = {
    "the folder itself": lambda t: ([t / "in"], t / "in"),
    "the folder, spelled otherwise": lambda t: ([t / "in"], t / "in" / "deep" / ".."),
    "a link to the folder": lambda t: ([t / "in"], _link(t / "link", t / "in")),
    "the input through a link": lambda t: ([_link(t / "link", t / "in")], t / "in"),
    "a folder above": lambda t: ([t / "in"], t),
    "the folder of a file": lambda t: ([t / "in" / "a.nii.gz"], t / "in"),
    "far above a file": lambda t: ([t / "in" / "deep" / "b.nii.gz"], t),
    "a folder of inputs within": lambda t: ([t / "in"], t / "in" / "deep"),
    "a link in the input to a file in the output": lambda t: (
        [_link(t / "in" / "c.nii.gz", t / "in" / "deep" / "b.nii.gz").parent.joinpath("c.nii.gz")],
        t / "in" / "deep",
    ),
    "where one of several lies": lambda t: ([t / "in" / "a.nii.gz", t / "in" / "deep"], t / "in" / "deep"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_inputs_are_never_among_the_results(scans: Path, segmenter: Segmenter, tmp_path: Path, situation: str) -> None:
    inputs, output = SITUATIONS[situation](tmp_path)
    before = _content(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="lies in the"):
            segment(inputs, segmenter, output, overwrite=overwrite)
    assert _content(tmp_path) == before


def test_the_working_folder(scans: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    before = _content(scans)
    with pytest.raises(UserError, match="lies in the output folder"):
        segment(".", segmenter, ".")
    assert _content(scans) == before


def test_a_result_that_is_a_hard_link_to_an_input(scans: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.link(scans / "a.nii.gz", tmp_path / "out" / "a.nii.gz")
    with pytest.raises(UserError, match="are one file"):
        segment(scans, segmenter, tmp_path / "out", overwrite=True)


def test_an_output_within_the_input_is_never_an_input(scans: Path, segmenter: Segmenter) -> None:
    first = segment(scans, segmenter, scans / "out")
    assert [c["case"] for c in first["cases"]] == ["a", "b"]
    again = segment(scans, segmenter, scans / "out", resume=True)
    assert [c["case"] for c in again["cases"]] == ["a", "b"]
    other = segment(scans, segmenter, scans / "out2")
    assert [c["case"] for c in other["cases"]] == ["a", "b"]
    assert {Path(s["input"]).name for s in other["skipped"]} >= {"out"}


def test_results_of_others_are_not_replaced(scans: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(scans / "a.nii.gz", segmenter, out)
    other = write_nifti(tmp_path / "a.nii.gz", body((9, 9, 9), seed=5))
    before = _content(out)
    for resume in (False, True):
        with pytest.raises(UserError, match="is the result of another input"):
            segment(other, segmenter, out, resume=resume)
    with pytest.raises(UserError, match="--resume to keep what is finished, --overwrite"):
        segment(scans / "a.nii.gz", segmenter, out)
    assert _content(out) == before
    segment(scans / "deep", segmenter, out)  # other names: they come beside
    (entry,) = segment(other, segmenter, out, overwrite=True)["cases"]
    assert entry["input"] == str(other)
    assert {c["case"] for c in json.loads((out / "manifest.json").read_text())["cases"]} == {"a", "b"}


def test_side_products_of_an_old_result_do_not_stay_beside_a_new_one(scans: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(scans / "a.nii.gz", bundle, out, options=SegmentOptions(uncertainty=True))
    assert (out / "a_uncertainty.nii.gz").is_file()
    segment(write_nifti(tmp_path / "a.nii.gz", body((9, 9, 9), seed=5)), bundle, out, overwrite=True)
    assert not (out / "a_uncertainty.nii.gz").exists()


@pytest.mark.parametrize("name", ["a.nii.gz", "labels.json", "manifest.json"])
def test_files_of_the_user_are_not_replaced(scans: Path, segmenter: Segmenter, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(UserError, match="add --overwrite or choose another --output"):
        segment(scans, segmenter, out)
    assert _content(out) == {name: b"mine"}


def test_results_with_other_labels_are_not_mixed(
    scans: Path, segmenter: Segmenter, make_bundle: Any, tmp_path: Path
) -> None:
    segment(scans / "a.nii.gz", segmenter, tmp_path / "out")
    other = make_bundle(channels={"0": "background", "1": "spleen", "2": "liver", "3": "aorta"})
    with pytest.raises(UserError, match="results with other labels, such as a"):
        segment(scans / "deep", other, tmp_path / "out")


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_an_output_that_is_a_file(scans: Path, segmenter: Segmenter, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="a file is in the way"):
        segment(scans, segmenter, tmp_path / place)


def test_a_disk_that_fills_up_fails_the_case_and_leaves_nothing(
    scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_transfer.volumes import reading

    real = reading.write_volume

    def full(array: np.ndarray, path: Path, **options: Any) -> None:
        if path.name == "a.nii.gz":
            raise OSError(28, "No space left on device")
        real(array, path, **options)

    monkeypatch.setattr(reading, "write_volume", full)
    out = tmp_path / "out"
    manifest = segment(scans, bundle, out, options=SegmentOptions(uncertainty=True))
    assert [c["status"] for c in manifest["cases"]] == ["failed", "ok"]
    assert "the disk is full" in manifest["cases"][0]["error"]
    assert not list(out.glob("a*"))


def test_names_that_meet(segmenter: Segmenter, tmp_path: Path) -> None:
    inputs = [tmp_path / "in" / name for name in ("x.nii.gz", "x_uncertainty.nii.gz", "X.nii", "ct/x.nii.gz")]
    for number, path in enumerate(inputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, body((8, 8, 8 + number), seed=number))
    manifest = segment(tmp_path / "in", segmenter, tmp_path / "out")
    assert len({c["output"].lower() for c in manifest["cases"]}) == 4
    for case in manifest["cases"]:
        assert nibabel.load(case["input"]).shape == nibabel.load(case["output"]).shape


@pytest.mark.parametrize("sizes", [(100, 100, 100), (-100, 100, 100), (900, 900, 20), (30, 30, 900)])
def test_memory_is_compared_before_it_is_taken(
    segmenter: Segmenter, tmp_path: Path, sizes: tuple[float, float, float]
) -> None:
    coarse = write_nifti(tmp_path / "coarse.nii.gz", np.zeros((64, 64, 64), np.int16), np.diag([*map(float, sizes), 1]))
    (entry,) = segment(coarse, segmenter, tmp_path / "out")["cases"]
    voxels = " × ".join(str(round(64 * abs(size) / step)) for size, step in zip(sizes, (1.5, 1.5, 2.0), strict=True))
    assert f"working grid of {voxels} voxels" in entry["error"]
    assert f"({' × '.join(f'{abs(size):g}' for size in sizes)} mm)" in entry["error"]


def test_room_on_the_disk_is_compared(scans: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: Any) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    manifest = segment(scans, segmenter, tmp_path / "out")
    assert all("0.0 MB are free" in case["error"] for case in manifest["cases"])


def test_the_manifest_is_not_written_anew_after_each_of_many_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, written = Manifest(tmp_path, {"bundle": {}}), []
    record = manifest.record

    def slowly(entries: Any) -> None:
        time.sleep(0.1)  # so it is due again in two seconds
        written.append(len(entries))
        record(entries)

    monkeypatch.setattr(manifest, "record", slowly)
    with Recorder(manifest) as take:
        for number in range(50):
            take({"case": f"{number:02}"})
    assert written == [1, 49]
    assert list(manifest.entries()) == [f"{number:02}" for number in range(50)]
