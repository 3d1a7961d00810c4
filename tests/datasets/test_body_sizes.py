from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_transfer.datasets import body_scale, read_dataset

CASES = 3


ORGANS = (((0.2, 0.1, 0.3), 0.25, 0.9), ((-0.25, 0.2, -0.1), 0.2, 0.2), ((0.0, -0.3, 0.0), 0.15, 1.0))
"""Middle, radius and brightness."""


def write_bodies(
    folder: Path, *, scale: float = 1.0, inverted: bool = False, cases: int = CASES, first: int = 0
) -> Path:
    """Egg-shaped bodies with three organs, which larger voxels make larger."""
    (folder / "images").mkdir(parents=True)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij"))
    for number in range(first, first + cases):
        rng = np.random.default_rng(number)
        at = places / rng.uniform(0.95, 1.05, (3, 1, 1, 1))
        image = np.where(sum((at[axis] / (0.6, 0.7, 0.85)[axis]) ** 2 for axis in range(3)) < 1, 0.5, 0.0)
        for middle, radius, value in ORGANS:
            image[((at - np.reshape(middle, (3, 1, 1, 1))) ** 2).sum(0) < radius**2] = value
        image = np.where(image > 0, 1.2 - image, 0.0) if inverted else image
        image = image + 0.03 * rng.standard_normal(image.shape)
        affine = np.diag([3.0 * scale, -3.0 * scale, 3.0 * scale, 1.0])
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / "images" / f"case_{number}.nii.gz")
    return folder


def test_bodies_of_another_size_and_contrast_are_measured(tmp_path: Path) -> None:
    source = read_dataset(write_bodies(tmp_path / "source"))
    target = read_dataset(write_bodies(tmp_path / "target", scale=0.7, inverted=True, first=10))
    found = body_scale(source, target)
    assert found == pytest.approx(0.7, rel=0.08)
    assert found == body_scale(source, target)  # a training that goes on is planned once more
    assert body_scale(target, source) == pytest.approx(1 / found, rel=0.01)  # whichever of them is moved


def test_a_difference_within_what_people_differ_by_is_none(tmp_path: Path) -> None:
    source = read_dataset(write_bodies(tmp_path / "source"))
    target = read_dataset(write_bodies(tmp_path / "target", scale=1.06, inverted=True, first=10))
    assert body_scale(source, target) == 1.0


def test_images_of_nothing_in_common_say_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "noise" / "images"
    folder.mkdir(parents=True)
    for number in range(CASES):
        noise = np.random.default_rng(number).random((20, 30, 25), np.float32)
        nib.save(nib.Nifti1Image(noise, np.diag([1.0, 1.0, 1.0, 1.0])), folder / f"case_{number}.nii.gz")
    source = read_dataset(write_bodies(tmp_path / "source"))
    assert body_scale(source, read_dataset(tmp_path / "noise")) == 1.0


def test_too_few_cases_or_slices_say_nothing(tmp_path: Path) -> None:
    source = read_dataset(write_bodies(tmp_path / "source"))
    few = read_dataset(write_bodies(tmp_path / "few", scale=0.7, cases=CASES - 1))
    assert body_scale(source, few) == body_scale(few, source) == 1.0
    for name, shape in (("flat", (30, 30, 2)), ("empty", (12, 12, 12))):
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        for number in range(CASES):
            nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), folder / f"case_{number}.nii.gz")
        assert body_scale(source, read_dataset(tmp_path / name)) == 1.0
