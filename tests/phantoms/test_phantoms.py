import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from monai_transfer.datasets import check_dataset, read_dataset, read_exams
from monai_transfer.errors import UserError
from monai_transfer.phantoms import (
    LABEL_NAMES,
    Phantom,
    make_phantom,
    make_radiograph,
    write_phantoms,
    write_radiographs,
)
from monai_transfer.phantoms.acquisition import Modality
from monai_transfer.phantoms.findings import Finding
from monai_transfer.phantoms.geometry import Ellipsoid, Tube, Waves, carve, grid_points, rotation_matrix

MODALITIES: tuple[Modality, ...] = ("ct", "mr")


def volumes_ml(phantom: Phantom) -> np.ndarray:
    return np.bincount(phantom.label.ravel(), minlength=6)[1:] * abs(np.linalg.det(phantom.affine[:3, :3])) / 1000


def mean_of(phantom: Phantom, value: int) -> float:
    inside = ndimage.binary_erosion(phantom.label == value)
    return float(phantom.image[inside].mean())


@pytest.mark.parametrize("modality", MODALITIES)
def test_equal_arguments_give_equal_voxels(modality: Modality) -> None:
    one, other = (make_phantom(modality=modality, subject=3, seed=5, size=0.25) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.label, other.label)
    assert np.array_equal(one.affine, other.affine)


@pytest.mark.parametrize("modality", MODALITIES)
def test_people_differ(modality: Modality) -> None:
    people = [make_phantom(modality=modality, subject=n, size=0.4) for n in range(5)]
    people.append(make_phantom(modality=modality, subject=0, seed=1, size=0.4))
    sizes = np.array([volumes_ml(person) for person in people])
    assert (sizes.std(axis=0) / sizes.mean(axis=0) > 0.04).all()
    assert len({tuple(row.round(1)) for row in sizes.tolist() for row in [np.array(row)]}) == len(people)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("subject", range(4))
def test_organs_have_the_size_of_organs(modality: Modality, subject: int) -> None:
    phantom = make_phantom(modality=modality, subject=subject, size=0.5)
    assert set(np.unique(phantom.label)) == set(LABEL_NAMES)
    liver, spleen, right, left, aorta = volumes_ml(phantom)
    assert 350 < liver < 1800
    assert 30 < spleen < 350
    assert 40 < right < 300
    assert 40 < left < 300
    assert 80 < aorta < 350


@pytest.mark.parametrize("modality", MODALITIES)
def test_sides_and_order_in_the_world(modality: Modality) -> None:
    phantom = make_phantom(modality=modality, subject=1, size=0.4)
    points = grid_points(phantom.affine, phantom.label.shape)
    liver, spleen, right, left, aorta = (
        np.array([axis[phantom.label == value].mean() for axis in points]) for value in range(1, 6)
    )
    assert liver[0] > aorta[0] > spleen[0]
    assert right[0] > aorta[0] > left[0]
    assert liver[2] > right[2]
    assert spleen[2] > left[2]


def test_a_person_does_not_depend_on_the_voxel_size() -> None:
    coarse, fine = (make_phantom(modality="ct", subject=2, size=size) for size in (0.5, 1.0))
    assert volumes_ml(coarse) == pytest.approx(volumes_ml(fine), rel=0.12)


def test_pairs_show_the_same_person() -> None:
    ct, mr = (make_phantom(modality=modality, subject=0, size=0.6, paired=True) for modality in MODALITIES)
    assert volumes_ml(ct)[:4] == pytest.approx(volumes_ml(mr)[:4], rel=0.15)
    alone = make_phantom(modality="mr", subject=0, size=0.6)
    assert volumes_ml(alone)[:4] != pytest.approx(volumes_ml(mr)[:4], rel=0.05)


def test_grids_are_honest() -> None:
    ct, mr = (make_phantom(modality=modality, subject=0, size=0.5) for modality in MODALITIES)
    assert nib.aff2axcodes(ct.affine) == ("L", "P", "S")
    assert nib.aff2axcodes(mr.affine) == ("R", "A", "S")
    for phantom in (ct, mr):
        spacing = np.linalg.norm(phantom.affine[:3, :3], axis=0)
        assert spacing.max() / spacing.min() > 1.2
        assert np.abs(phantom.affine[:3, 3]).min() > 1
    assert np.abs(mr.affine[:3, :3]).min() > 1e-4, "oblique"


def test_ct_is_in_hounsfield_units() -> None:
    phantom = make_phantom(modality="ct", subject=0, size=0.5)
    assert np.percentile(phantom.image, 1) == pytest.approx(-1000, abs=60)
    assert phantom.image.max() > 250
    assert 30 < mean_of(phantom, 1) < 140
    assert phantom.image.min() >= -1024


def test_contrast_is_partly_inverted() -> None:
    for subject in range(4):
        ct, mr = (make_phantom(modality=modality, subject=subject, size=0.5) for modality in MODALITIES)
        assert mean_of(mr, 5) < 0.5 * mean_of(mr, 1), "flow void"
        assert mean_of(ct, 5) > mean_of(ct, 1) - 40
        bright = np.percentile(mr.image, 99)
        assert bright > 1.2 * mean_of(mr, 1), "fat is the brightest in MR"


def test_scanners_have_their_own_scale() -> None:
    tops = [np.percentile(make_phantom(modality="mr", subject=n, size=0.2).image, 99) for n in range(8)]
    assert max(tops) / min(tops) > 2


def test_noise_of_mr_is_rician() -> None:
    phantom = make_phantom(modality="mr", subject=0, size=0.5)
    corner = phantom.image[:5, :5, :].astype(float)
    assert corner.min() >= 0
    assert corner.mean() / corner.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.2)


def test_full_size_is_that_of_a_scan() -> None:
    shape = make_phantom(modality="ct", subject=0).image.shape
    assert np.abs(np.array(shape) - (112, 96, 64)).max() < 12


@pytest.mark.parametrize("modality", MODALITIES)
def test_written_set_is_sound(tmp_path: Path, modality: Modality) -> None:
    calls: list[tuple[int, int, str]] = []
    names = write_phantoms(
        tmp_path, modality=modality, subjects=3, seed=1, size=0.25, progress=lambda *call: calls.append(call)
    )
    assert names == [f"{modality}_{n:03d}" for n in (1, 2, 3)]
    assert calls[-1] == (3, 3, names[-1])
    dataset = read_dataset(tmp_path)
    assert dataset.label_names == LABEL_NAMES
    assert dataset.channel_names == (modality.upper(),)
    report = check_dataset(dataset)
    assert report.sound
    assert report.warnings == ()
    assert report.fingerprint is not None
    assert report.fingerprint.modality == modality
    assert not list(tmp_path.rglob("*.tmp*"))


def test_a_set_can_be_extended(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "whole", modality="ct", subjects=2, size=0.15)
    write_phantoms(tmp_path / "parts", modality="ct", subjects=1, size=0.15)
    write_phantoms(tmp_path / "parts", modality="ct", subjects=1, first=2, size=0.15)
    for part in ("images", "labels"):
        whole, parts = (nib.load(tmp_path / d / part / "ct_002.nii.gz").get_fdata() for d in ("whole", "parts"))
        assert np.array_equal(whole, parts)
    listed = json.loads((tmp_path / "parts" / "dataset.json").read_text())
    assert [entry["image"] for entry in listed["training"]] == ["./images/ct_001.nii.gz", "./images/ct_002.nii.gz"]


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="modality"):
        make_phantom(modality="pet", subject=0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="size"):
        make_phantom(modality="ct", subject=0, size=0)
    with pytest.raises(UserError, match="negative"):
        make_phantom(modality="ct", subject=0, seed=-1)
    with pytest.raises(UserError, match="--subjects 0"):
        write_phantoms(tmp_path, modality="ct", subjects=0)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_phantoms(tmp_path / "file", modality="ct", subjects=1, size=0.1)


def test_ellipsoid_by_hand() -> None:
    points = np.array([[3.0, 1], [2, 1], [1, 4]], np.float32).reshape(3, 2, 1, 1)
    field = Ellipsoid((1, 2, 1), (2, 5, 4)).field(points)
    assert field.ravel() == pytest.approx([1, np.sqrt(1 / 25 + 9 / 16)])


def test_a_turned_ellipsoid() -> None:
    along_y = np.array([0.0, 4, 0], np.float32).reshape(3, 1, 1, 1)
    assert Ellipsoid((0, 0, 0), (4, 1, 1)).field(along_y)[0, 0, 0] == pytest.approx(4)
    assert Ellipsoid((0, 0, 0), (4, 1, 1), (0, 0, np.pi / 2)).field(along_y)[0, 0, 0] == pytest.approx(1)


def test_a_shape_in_the_frame_of_another() -> None:
    whole = Ellipsoid((5, 0, 0), (4, 1, 1), (0, 0, np.pi / 2))
    tip = whole.relative((1.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    points = np.array(tip.centre, np.float32).reshape(3, 1, 1, 1)
    assert whole.field(points)[0, 0, 0] == pytest.approx(1)
    assert tip.axes == (2, 0.5, 0.5)


def test_tube_and_carving_by_hand() -> None:
    points = np.array([5.0, 3, 70], np.float32).reshape(3, 1, 1, 1)
    assert Tube((2, -1), 5).field(points)[0, 0, 0] == pytest.approx(1)
    assert carve(np.float32([0.5, 0.5]), np.float32([0.2, 3.0])) == pytest.approx([1.8, 0.5])


def test_waves_equal_the_sum_of_cosines() -> None:
    waves = Waves.random(np.random.default_rng(0), shortest=20, longest=50, amplitude=3)
    affine = np.eye(4)
    affine[:3, :3] = rotation_matrix((0.2, -0.1, 0.4)) * [2.0, 3.0, 1.5]
    affine[:3, 3] = (7, -4, 90)
    points = grid_points(affine, (5, 6, 7)).astype(float)
    expected = sum(
        amplitude * np.cos(np.tensordot(vector, points, 1) + phase)
        for vector, phase, amplitude in zip(waves.vectors, waves.phases, waves.amplitudes, strict=True)
    )
    assert waves.on_grid(affine, (5, 6, 7)) == pytest.approx(expected, abs=1e-4)


def test_waves_have_the_wanted_size() -> None:
    waves = Waves.random(np.random.default_rng(0), shortest=5, longest=9, amplitude=2)
    assert waves.on_grid(np.eye(4), (40, 40, 40)).std() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_one_of_two_people_has_a_lesion(tmp_path: Path, modality: Modality) -> None:
    write_phantoms(tmp_path, modality=modality, subjects=4, size=0.3, lesions=True)
    exams = read_exams(tmp_path)
    assert exams.counts == {"healthy": 2, "lesion": 2}
    for exam in exams.exams:
        label = np.asarray(nib.load(tmp_path / "labels" / exam.images[0].name).dataobj)
        assert (label == 6).any() == (exam.target == (0.0, 1.0))


def test_people_without_a_finding_look_as_ever() -> None:
    healthy = make_phantom(modality="ct", subject=3, size=0.25)
    ill = make_phantom(modality="ct", subject=3, size=0.25, finding="lesion")
    changed = healthy.label != ill.label
    assert changed.any()
    assert set(np.unique(healthy.label[changed])) == {1}  # it lies in the liver
    inside = healthy.image[changed].astype(float) - ill.image[changed]
    assert inside.mean() > 15  # and is darker


@pytest.mark.parametrize("finding", ["mass", "pneumonia"])
def test_a_finding_casts_a_shadow(finding: Finding) -> None:
    differences = []
    for subject in range(3):
        clear = make_radiograph(subject=subject, finding="healthy", size=0.4).astype(float)
        ill = make_radiograph(subject=subject, finding=finding, size=0.4).astype(float)
        assert clear.shape == ill.shape
        differences.append((ill - clear).max())
    assert min(differences) > 15  # of 255 grey values


def test_radiographs_lie_in_a_folder_per_finding(tmp_path: Path) -> None:
    write_radiographs(tmp_path, subjects=4, size=0.2)
    assert read_exams(tmp_path).counts == {"healthy": 2, "mass": 1, "pneumonia": 1}
