"""Folders as they come: links, lost channels, names that meet, things that are no files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.datasets import check_dataset, read_dataset
from monai_transfer.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def channels(root: Path, **how: Any) -> dict[str, list[str]]:
    return {case.name: [path.name for path in case.images] for case in read_dataset(root, **how).cases}


@pytest.mark.parametrize("target", ["../.git/annex/objects/x.nii.gz", "/nowhere/x.nii.gz", "a.nii.gz"])
@pytest.mark.parametrize("folder", ["images", "labels", "imagesTr"])
def test_links_that_lead_nowhere_are_faults(tmp_path: Path, target: str, folder: str) -> None:
    images = "imagesTr" if folder == "imagesTr" else "images"
    touch(tmp_path, f"{images}/b.nii.gz")
    (tmp_path / folder).mkdir(exist_ok=True)
    if folder == "labels":
        touch(tmp_path, "images/a.nii.gz")
    (tmp_path / folder / "a.nii.gz").symlink_to(target)  # the last target is the link itself
    dataset = read_dataset(tmp_path)
    assert dataset.names == ("a", "b")
    assert "a" in {fault.case for fault in check_dataset(dataset).faults}


@pytest.mark.parametrize("folder", ["images", "labels", "imagesTr", "labelsTr"])
@pytest.mark.parametrize("target", ["nowhere", None])
def test_folders_that_are_links_to_nothing(tmp_path: Path, folder: str, target: str | None) -> None:
    touch(tmp_path, ("imagesTr" if folder == "labelsTr" else "images") + "/a.nii.gz") if "labels" in folder else None
    (tmp_path / folder).symlink_to(target or folder)
    with pytest.raises(UserError, match=f"{folder} is a link that leads nowhere"):
        read_dataset(tmp_path)


def test_folders_that_link_back_to_themselves(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz")
    for loop in ("images/again", "labels/up", "self"):
        (tmp_path / loop).symlink_to(tmp_path, target_is_directory=True)
    assert read_dataset(tmp_path).names == ("a",)
    assert read_dataset(tmp_path / "self/self/self").names == ("a",)


@pytest.mark.parametrize("name", ["images/p.nii.gz", "labels/a.nii.gz", "images/p.nrrd"])
def test_named_pipes_are_not_opened(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "images/a.nii.gz")
    (tmp_path / "labels").mkdir()
    os.mkfifo(tmp_path / name)
    report = check_dataset(read_dataset(tmp_path))
    assert report.faults


@pytest.mark.parametrize("name", ["c.nii.gz", "c.mha", "c.nii"])
def test_a_folder_named_as_a_volume_is_a_fault(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "images/a.nii.gz")
    (tmp_path / "images" / name).mkdir()
    assert "c" in {fault.case for fault in check_dataset(read_dataset(tmp_path)).faults}


@pytest.mark.parametrize("lost", ["b_0000", "b_0001", "b_0002"])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_lost_channel_keeps_its_place(tmp_path: Path, lost: str, labels: bool, named: bool) -> None:
    names = [f"{case}_000{n}" for case in "abc" for n in range(3)]
    touch(tmp_path, *[f"imagesTr/{name}.nii.gz" for name in names if name != lost])
    if labels:
        touch(tmp_path, *[f"labelsTr/{case}.nii.gz" for case in "abc"])
    if named:
        (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2", "2": "PD"}}))
    assert channels(tmp_path)["b"] == [f"b_000{n}.nii.gz" for n in range(3)]
    faults = [fault for fault in check_dataset(read_dataset(tmp_path)).faults if fault.case == "b"]
    assert len(faults) == 1
    assert not (tmp_path / f"imagesTr/{lost}.nii.gz").exists()


def test_a_channel_that_everybody_lost(tmp_path: Path) -> None:
    touch(tmp_path, *[f"imagesTr/{case}_{n}.nii.gz" for case in "ab" for n in ("0000", "0002")])
    assert channels(tmp_path)["a"] == ["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"]


def test_nnunet_1_lists_stand_for_all_channels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/b_0000.nii.gz")
    entries = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in "ab"]
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "T2"}, "training": entries}))
    assert channels(tmp_path) == {case: [f"{case}_0000.nii.gz", f"{case}_0001.nii.gz"] for case in "ab"}


def test_one_described_channel_and_numbered_cases(tmp_path: Path) -> None:
    touch(tmp_path, *[f"imagesTr/la_000{n}.nii.gz" for n in range(3)])
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}}))
    assert list(channels(tmp_path)) == ["la_0000", "la_0001", "la_0002"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_slicer_labels(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, f"images/a{ending}", "labels/a.seg.nrrd", f"flat/b{ending}", "flat/b.seg.nrrd")
    assert read_dataset(tmp_path).cases[0].label == tmp_path / "labels/a.seg.nrrd"
    flat = read_dataset(tmp_path / "flat")
    assert flat.names == ("b",)
    assert flat.cases[0].label == tmp_path / "flat/b.seg.nrrd"


@pytest.mark.parametrize(("first", "second"), [("Scan", "scan"), ("ÄB", "äb"), ("a_STRASSE", "a_straße")])
def test_names_that_differ_in_capitals_only(tmp_path: Path, first: str, second: str) -> None:
    touch(tmp_path, f"images/{first}.nii.gz", f"images/{second}.nii.gz")
    with pytest.raises(UserError, match="capital letters"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("labels", ["labels/A.nii.gz", "labels/a_label.nii.gz", "labels/a_0000.nii.gz"])
def test_a_label_under_another_name_is_a_fault(tmp_path: Path, labels: str) -> None:
    touch(tmp_path, "images/a.nii.gz", labels)
    assert [fault.kind for fault in read_dataset(tmp_path).faults] == ["no_image"]


def test_equal_names_in_training_and_test(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "imagesTs/a.nii.gz", "imagesTr/b.nii.gz")
    assert read_dataset(tmp_path, section="all").names == ("imagesTr_a", "imagesTr_b", "imagesTs_a")
    assert read_dataset(tmp_path).names == ("a", "b")


@pytest.mark.parametrize(("first", "second"), [("training", "training"), ("training", "validation")])
def test_one_image_in_two_lists(tmp_path: Path, first: str, second: str) -> None:
    touch(tmp_path, "a.nii.gz")
    lists: dict[str, list[str]] = {first: ["a.nii.gz"]}
    lists[second] = [*lists.get(second, []), "./a.nii.gz"]
    (tmp_path / "dataset.json").write_text(json.dumps(lists))
    with pytest.raises(UserError, match="more than once"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["scan[1]", "a*b", "what?", "$exec", "@x", "%y", "a;b", "[red]", "=cmd", "²", "x" * 244]
)
def test_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"images/{name}.nii.gz", "images/scan1.nii.gz")
    dataset = read_dataset(tmp_path)
    assert set(dataset.names) == {name, "scan1"}
    assert dataset.only([name]).names == dataset.select([name]).names == (name,)


@pytest.mark.parametrize("name", [b"\xff", b"Gr\xf6\xdfe", b"a\xed\xa0\x80"])
def test_names_that_are_no_text(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "images").mkdir()
    with open(os.fsencode(tmp_path / "images") + b"/" + name + b".nii.gz", "wb"):  # noqa: PTH123 (a Path needs text)
        pass
    with pytest.raises(UserError, match="not written in UTF-8"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("path", ["~nobody_of_this_name/x", "nowhere", "a\0b", "x" * 5000])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(UserError):
        read_dataset(path)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_folders_that_cannot_be_listed(tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "images/a.nii.gz")

    def refuse(_: Path) -> None:
        raise error

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=rf"cannot be read \({error.strerror}\)"):
        read_dataset(tmp_path)


def test_other_endings_than_described_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0000.mha", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    dataset = read_dataset(tmp_path)
    assert channels(tmp_path) == {"a": ["a_0000.nii.gz"]}
    assert [warning.kind for warning in dataset.warnings] == ["file_ending"]
