from pathlib import Path

import numpy as np
import pytest

from monai_transfer.datasets import check_dataset, read_dataset
from monai_transfer.datasets.fingerprint import guess_modality, image_facts
from monai_transfer.phantoms import make_phantom
from tests.conftest import WriteVolume


def test_figures_by_hand(write_volume: WriteVolume, tmp_path: Path) -> None:
    voxels = np.zeros((10, 10, 10), np.int16)
    voxels[5:] = np.arange(500, dtype=np.int16).reshape(5, 10, 10) + 1000
    label = np.zeros((10, 10, 10), np.uint8)
    label[0, 0, :4] = 3
    affine = np.array([[0, 0, -2.0, 0], [1.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 0, 1]])
    write_volume("images/a.nii.gz", voxels, affine)
    write_volume("labels/a.nii.gz", label, affine)
    fingerprint = check_dataset(read_dataset(tmp_path)).fingerprint
    assert fingerprint is not None
    assert fingerprint.spacing == (2, 1, 5)
    assert fingerprint.extent_mm == (20, 10, 50)
    assert fingerprint.shape == (10, 10, 10)
    assert fingerprint.label_values == (0, 3)
    assert fingerprint.label_volumes_ml == {3: pytest.approx(0.04)}
    assert fingerprint.modality == "mr"
    assert fingerprint.intensity["min"] == 1000
    assert fingerprint.intensity["max"] == 1499
    assert fingerprint.intensity["median"] == pytest.approx(1249.5)
    assert (fingerprint.cases, fingerprint.labelled) == (1, 1)


def test_medians_over_cases(write_volume: WriteVolume, tmp_path: Path) -> None:
    for name, size in (("a", 1.0), ("b", 2.0), ("c", 9.0)):
        write_volume(f"{name}.nii.gz", affine=np.diag([size, 1, 1, 1]))
    fingerprint = check_dataset(read_dataset(tmp_path)).fingerprint
    assert fingerprint is not None
    assert fingerprint.spacing == (2, 1, 1)
    assert fingerprint.spacing_range == ((1, 1, 1), (9, 1, 1))
    length = fingerprint.shape[0]
    assert fingerprint.extent_mm[0] == 2 * length
    assert fingerprint.largest_mm[0] == 9 * length
    assert fingerprint.whole_mm[0] == 3 * length  # not the largest: half as much again as the median
    assert fingerprint.whole_mm[1:] == fingerprint.extent_mm[1:]
    assert fingerprint.labelled == 0
    assert fingerprint.label_values == ()


def test_organs_in_one_piece_and_what_is_none(write_volume: WriteVolume, tmp_path: Path) -> None:
    def write(number: int) -> None:
        label = np.zeros((12, 12, 12), np.uint8)
        label[:4, :4, :4] = 1  # an organ
        label[8, 8, : number + 1] = label[0, 8, 8] = 2  # a pair
        label[6, 6, 6 : 7 + 9 * (number == 3)] = label[6:12, 4, 4] = 3
        label[6 : 7 + 5 * (number % 2), 10, 10 : 11 + (number % 2)] = 4  # a lesion: 1 or 12 voxels
        label[10, 0, :5] = 5 if number else 0  # not in everybody
        write_volume(f"images/{number}.nii.gz", np.random.default_rng(number).normal(size=label.shape))
        write_volume(f"labels/{number}.nii.gz", label)

    for number in range(4):
        write(number)
    few = check_dataset(read_dataset(tmp_path)).fingerprint
    write(4)
    enough = check_dataset(read_dataset(tmp_path)).fingerprint
    assert few is not None
    assert enough is not None
    assert few.whole_labels == ()
    assert enough.whole_labels == (1,)
    assert enough.label_values == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("modality", ["ct", "mr"])
@pytest.mark.parametrize("subject", range(3))
def test_modality_of_phantoms(modality: str, subject: int) -> None:
    phantom = make_phantom(modality=modality, subject=subject, size=0.3)  # type: ignore[arg-type]
    assert image_facts(phantom.image).modality == modality


def test_modality_of_standardised_mr() -> None:
    values = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    assert guess_modality(values) == "mr"


def test_modality_of_a_cropped_ct() -> None:
    fat_and_organs = np.concatenate([np.full(500, -105.0), np.full(500, 60.0)]).astype(np.float32)
    assert guess_modality(fat_and_organs) == "ct"


@pytest.mark.parametrize(("folder", "modality"), [("CT", "ct"), ("MR", "mr")])
def test_real_modalities(shared_data: Path, folder: str, modality: str) -> None:
    report = check_dataset(read_dataset(shared_data / "abdomen_ct_mr" / folder))
    assert report.sound
    assert report.fingerprint is not None
    assert report.fingerprint.modality == modality
    assert report.fingerprint.spacing == pytest.approx((3, 3, 3), abs=1e-3)
