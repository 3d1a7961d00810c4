"""Which slice is shown and which way up."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_transfer.errors import UserError
from monai_transfer.figures.slices import CT_WINDOW_HU, OverlayCase, shown_slice
from tests.evaluation.conftest import AFFINE, Write, two_boxes

RAS = np.diag([1.0, 2.0, 3.0, 1.0])


def case(truth: np.ndarray, affine: np.ndarray = RAS, image: np.ndarray | None = None) -> OverlayCase:
    image = np.full(truth.shape, 50.0) + truth if image is None else image
    return OverlayCase(name="a", image=image, affine=affine, label_names={1: "x", 2: "y"}, truth=truth)


def test_right_is_left_and_front_is_up() -> None:
    truth = np.zeros((20, 16, 4), dtype=np.uint8)
    truth[15, 12, 2] = 1  # towards the right and the front of a RAS volume
    image = np.ones(truth.shape) * 100
    image[0, 0] = 0
    cut = shown_slice(case(truth, np.eye(4), image))
    rows, columns = np.nonzero(cut.maps["truth"])
    assert (rows[0], columns[0]) == (16 - 1 - 12, 20 - 1 - 15)
    assert cut.left_is_right


def test_every_orientation_shows_the_same_picture() -> None:
    truth = two_boxes()
    reference = shown_slice(case(truth, RAS))
    volume = nib.Nifti1Image(truth, RAS)
    for code in ("LAS", "LPS", "PIR", "SAL"):
        turn = nib.orientations.ornt_transform(nib.io_orientation(RAS), nib.orientations.axcodes2ornt(code))
        turned = volume.as_reoriented(turn)
        cut = shown_slice(case(np.asarray(turned.dataobj), turned.affine))
        assert np.array_equal(cut.maps["truth"], reference.maps["truth"])
        assert cut.aspect == pytest.approx(reference.aspect)


def test_proportions_are_those_of_the_voxels() -> None:
    assert shown_slice(case(two_boxes(), np.diag([1.0, 1.4, 1.4, 1.0]))).aspect == pytest.approx(1.4)


def test_thick_slices_are_shown_in_their_own_plane() -> None:
    truth = two_boxes()
    truth[:, 6] = np.where(truth[:, 6] > 0, truth[:, 6], 0)
    cut = shown_slice(case(truth, np.diag([1.0, 5.0, 1.0, 1.0])))  # coronal slices, 5 mm thick
    assert cut.maps["truth"].shape[0] <= 12
    assert cut.aspect == 1


def test_the_fullest_slice_is_taken() -> None:
    truth = np.zeros((12, 12, 8), dtype=np.uint8)
    truth[2:10, 2:8, 2] = 1
    truth[2:9, 2:8, 5] = 1
    truth[9:11, 9:11, 5] = 2
    assert set(np.unique(shown_slice(case(truth, np.eye(4))).maps["truth"])) == {0, 1, 2}


def test_without_truth_the_predictions_choose() -> None:
    prediction = two_boxes()
    given = OverlayCase(
        name="a", image=prediction * 1.0, affine=RAS, label_names={1: "x"}, predictions={"adapted": prediction}
    )
    assert list(shown_slice(given).maps) == ["adapted"]


def test_empty_maps_take_the_middle() -> None:
    assert shown_slice(case(np.zeros((8, 8, 8), dtype=np.uint8))).image.ndim == 2


def test_ct_has_a_soft_tissue_window_and_mr_its_own_range() -> None:
    truth = two_boxes()
    ct = np.where(truth > 0, 60.0, -1000.0)
    assert shown_slice(case(truth, image=ct)).grey == CT_WINDOW_HU
    low, high = shown_slice(case(truth, image=truth * 300.0 + np.random.default_rng(0).normal(20, 2, truth.shape))).grey
    assert 0 < low < high <= 640


def test_two_dimensional_image() -> None:
    assert shown_slice(case(two_boxes()[:, :, 5])).maps["truth"].max() == 2


def test_reading_turns_every_map_to_the_image(write: Write) -> None:
    image = write("i.nii.gz", two_boxes().astype(np.float32))
    turned = nib.as_closest_canonical(nib.Nifti1Image(two_boxes(), AFFINE))
    truth = write("t.nii.gz", np.asarray(turned.dataobj), turned.affine)
    read = OverlayCase.read("a", image, label_names={1: "x"}, truth=truth)
    assert np.array_equal(read.truth, read.image)


def test_reading_refuses_another_grid(write: Write) -> None:
    image: Path = write("i.nii.gz", two_boxes())
    prediction = write("p.nii.gz", two_boxes()[:-1])
    with pytest.raises(UserError, match=r"p\.nii\.gz has shape"):
        OverlayCase.read("a", image, label_names={1: "x"}, predictions={"adapted": prediction})


def test_a_long_strip_is_cut_around_the_labels() -> None:
    truth = np.zeros((20, 200, 6), dtype=np.uint8)
    truth[8:12, 150:160, 2] = 1
    cut = shown_slice(case(truth, np.eye(4), np.full(truth.shape, 100.0)))
    assert cut.image.shape == (32, 20)
    assert np.count_nonzero(cut.maps["truth"]) == 40
