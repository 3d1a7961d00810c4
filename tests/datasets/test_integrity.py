import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_transfer.datasets import CaseDataset, CheckReport, check_dataset, read_dataset, require_sound
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms
from tests.conftest import AFFINE, WriteVolume

WritePair = Callable[..., tuple[Path, Path]]


def report_of(root: Path) -> CheckReport:
    return check_dataset(read_dataset(root))


def the_fault(root: Path, path: Path) -> str:
    """The kind of the only fault, which must be about ``path`` and one sentence."""
    report = report_of(root)
    assert len(report.faults) == 1, [fault.message for fault in report.faults]
    fault = report.faults[0]
    assert fault.path == path
    assert str(path) in fault.message
    assert fault.message.endswith(".")
    assert "\n" not in fault.message
    return fault.kind


def test_sound_set(write_pair: WritePair, tmp_path: Path) -> None:
    write_pair("a"), write_pair("b")
    report = report_of(tmp_path)
    assert report.sound
    assert report.warnings == ()
    assert require_sound(read_dataset(tmp_path), labelled=True) == report.fingerprint


def test_unreadable(write_pair: WritePair, tmp_path: Path) -> None:
    write_pair("a")
    image, _ = write_pair("b")
    image.write_bytes(image.read_bytes()[:60])
    assert the_fault(tmp_path, image) == "unreadable"
    with pytest.raises(UserError, match=r"b\.nii\.gz cannot be read"):
        require_sound(read_dataset(tmp_path), labelled=True)


def four_channels(write_pair: WritePair, write_volume: WriteVolume, *names: str, count: int = 4) -> None:
    for name in names:
        write_pair(name)
        write_volume(f"images/{name}.nii.gz", shape=(6, 5, 4, count))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_channels_inside_a_file(write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path, count: int) -> None:
    four_channels(write_pair, write_volume, "a", "b", count=count)
    modality = {str(n): name for n, name in enumerate(("FLAIR", "T1w", "t1gd", "T2w")[:count])}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality}))
    report = report_of(tmp_path)
    assert report.sound
    assert report.fingerprint is not None
    assert len(report.fingerprint.channel_intensity) == count
    assert len(read_dataset(tmp_path).channel_names) == count


@pytest.mark.parametrize("modality", [{}, {"0": "T1", "1": "T2"}, {"0": "CT"}])
def test_channels_that_the_description_does_not_name(
    write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path, modality: dict[str, str]
) -> None:
    four_channels(write_pair, write_volume, "a")
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality}))
    assert the_fault(tmp_path, tmp_path / "images/a.nii.gz") == "channels"


@pytest.mark.parametrize("shape", [(6, 5, 4, 2), (6, 5, 4, 3), (6, 5, 4, 10)])
def test_labels_of_several_volumes(
    write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_pair("a")
    label = write_volume("labels/a.nii.gz", np.resize(np.array([0, 1], np.uint8), shape))
    assert the_fault(tmp_path, label) == "not_3d"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(write_volume: WriteVolume, tmp_path: Path, value: float) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    voxels[1, 2, 3] = value
    assert the_fault(tmp_path, write_volume("a.nii.gz", voxels)) == "not_finite"


def test_constant(write_volume: WriteVolume, tmp_path: Path) -> None:
    assert the_fault(tmp_path, write_volume("a.nii.gz", np.full((6, 5, 4), 7, np.int16))) == "constant"


def test_label_of_another_shape(write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path) -> None:
    write_pair("a")
    label = write_volume("labels/a.nii.gz", np.ones((6, 5, 3), np.uint8))
    assert the_fault(tmp_path, label) == "grid_shape"


@pytest.mark.parametrize(("shift", "sound"), [(0.4, True), (0.6, False)])
def test_label_that_lies_elsewhere(
    write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path, shift: float, sound: bool
) -> None:
    write_pair("a")
    affine = AFFINE.copy()
    affine[2, 3] += shift
    label = write_volume("labels/a.nii.gz", np.resize(np.array([0, 1], np.uint8), (6, 5, 4)), affine)
    if sound:
        assert report_of(tmp_path).sound
    else:
        assert the_fault(tmp_path, label) == "grid_affine"


def test_label_in_another_orientation_is_the_same_grid(write_pair: WritePair, tmp_path: Path) -> None:
    _, label = write_pair("a")
    nib.save(nib.as_closest_canonical(nib.load(label)), label)
    report = report_of(tmp_path)
    assert report.sound
    assert [warning.kind for warning in report.warnings] == ["orientation"]


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_label_values(write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path, value: float) -> None:
    write_pair("a")
    voxels = np.zeros((6, 5, 4), np.float32)
    voxels[0, 0, 0] = value
    label = write_volume("labels/a.nii.gz", voxels)
    assert the_fault(tmp_path, label) == "label_values"


def test_an_image_as_its_own_label(write_pair: WritePair, tmp_path: Path) -> None:
    image, label = write_pair("a")
    label.write_bytes(image.read_bytes())
    assert the_fault(tmp_path, label) == "label_values"


def test_empty_label(write_pair: WritePair, tmp_path: Path) -> None:
    _, label = write_pair("a", values=(0,))
    assert the_fault(tmp_path, label) == "label_empty"


def test_label_without_a_name(write_pair: WritePair, tmp_path: Path) -> None:
    _, label = write_pair("a", values=(0, 1, 4))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "liver", "2": "spleen"}}))
    assert the_fault(tmp_path, label) == "label_names"
    assert "4" in report_of(tmp_path).faults[0].message


def test_named_label_that_nobody_has(write_pair: WritePair, tmp_path: Path) -> None:
    write_pair("a", values=(0, 1))
    (tmp_path / "labels.json").write_text(json.dumps({"liver": 1, "spleen": 2}))
    report = report_of(tmp_path)
    assert report.sound
    assert ["spleen" in warning.message for warning in report.warnings] == [True]


def test_duplicate(write_pair: WritePair, tmp_path: Path) -> None:
    first, _ = write_pair("a")
    second, _ = write_pair("b")
    nib.save(nib.load(first), second)
    assert the_fault(tmp_path, second) == "duplicate"
    assert str(first) in report_of(tmp_path).faults[0].message


def test_label_without_image(write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path) -> None:
    write_pair("a")
    label = write_volume("labels/b.nii.gz")
    assert the_fault(tmp_path, label) == "no_image"


def test_image_without_label_is_sound(write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path) -> None:
    write_pair("a")
    write_volume("images/b.nii.gz")
    report = report_of(tmp_path)
    assert report.sound
    assert report.fingerprint is not None
    assert (report.fingerprint.cases, report.fingerprint.labelled) == (2, 1)


def test_channels(write_volume: WriteVolume, tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "b_0001", "c_0000"):
        write_volume(f"imagesTr/{name}.nii.gz")
    assert the_fault(tmp_path, tmp_path / "imagesTr/c_0001.nii.gz") == "missing"


def test_channels_on_different_grids(write_volume: WriteVolume, tmp_path: Path) -> None:
    write_volume("imagesTr/a_0000.nii.gz")
    second = write_volume("imagesTr/a_0001.nii.gz", shape=(6, 5, 7))
    assert the_fault(tmp_path, second) == "grid_shape"


def test_fingerprint_of_every_channel(write_volume: WriteVolume, tmp_path: Path) -> None:
    write_volume("imagesTr/a_0000.nii.gz")
    write_volume("imagesTr/a_0001.nii.gz", np.arange(120, dtype=np.float32).reshape(6, 5, 4) + 5000)
    fingerprint = report_of(tmp_path).fingerprint
    assert fingerprint is not None
    assert [round(channel["max"] / 1000) for channel in fingerprint.channel_intensity] == [1, 5]


def test_listed_but_missing(write_pair: WritePair, tmp_path: Path) -> None:
    write_pair("a")
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "images/gone.nii.gz"}]}))
    assert the_fault(tmp_path, tmp_path / "images/gone.nii.gz") == "missing"


def test_mixed_modalities_are_a_warning(tmp_path: Path) -> None:
    write_phantoms(tmp_path, modality="ct", subjects=1, size=0.2)
    write_phantoms(tmp_path, modality="mr", subjects=1, size=0.2)
    (tmp_path / "dataset.json").unlink()
    report = report_of(tmp_path)
    assert report.sound
    assert "modalities" in [warning.kind for warning in report.warnings]


def test_one_bad_file_leaves_the_fingerprint_of_the_rest(write_pair: WritePair, tmp_path: Path) -> None:
    write_pair("a")
    image, _ = write_pair("b")
    image.write_bytes(b"")
    fingerprint = report_of(tmp_path).fingerprint
    assert fingerprint is not None
    assert fingerprint.cases == 1


def test_every_fault_is_reported(write_pair: WritePair, write_volume: WriteVolume, tmp_path: Path) -> None:
    write_pair("a", values=(0,))
    image, _ = write_pair("b")
    image.unlink()
    assert sorted(fault.kind for fault in report_of(tmp_path).faults) == ["label_empty", "no_image"]
    with pytest.raises(UserError, match=r"1 more: monai-transfer check"):
        require_sound(read_dataset(tmp_path), labelled=False)


def test_labels_are_required(write_volume: WriteVolume, tmp_path: Path) -> None:
    write_volume("images/a.nii.gz")
    assert require_sound(read_dataset(tmp_path), labelled=False).cases == 1
    with pytest.raises(UserError, match="has no labels"):
        require_sound(read_dataset(tmp_path), labelled=True)
    with pytest.raises(UserError, match="no cases"):
        require_sound(CaseDataset(tmp_path, ()), labelled=False)


def test_progress(write_pair: WritePair, tmp_path: Path) -> None:
    write_pair("a"), write_pair("b")
    calls: list[tuple[int, int, str]] = []
    check_dataset(read_dataset(tmp_path), progress=lambda *call: calls.append(call))
    assert calls == [(1, 2, "a"), (2, 2, "b")]


@pytest.mark.parametrize("folder", ["spinal_cord/MT", "spinal_cord/T2star", "ms_lesion_t1_t2_flair/FLAIR"])
def test_real_sets_are_sound(shared_data: Path, folder: str) -> None:
    report = report_of(shared_data / folder)
    assert report.sound
    assert report.warnings == ()
