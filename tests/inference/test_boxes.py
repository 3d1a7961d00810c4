"""Boxes around what a coarse network found, and a finer one that looks there alone."""

import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.handing_on import give_finder, hand_on
from monai_transfer.bundle.reading import read_bundle
from monai_transfer.bundle.trust import UntrustedBundleError
from monai_transfer.errors import UserError
from monai_transfer.inference import Segmenter, SegmentOptions, find_cases
from monai_transfer.inference.boxes import box_of
from monai_transfer.volumes.reading import read_volume
from monai_transfer.workflows.explaining import explain
from monai_transfer.workflows.exporting import export_bundle
from monai_transfer.workflows.segmenting import segment
from monai_transfer.workflows.source_free import adapt_network, adapt_source_free, choose_images
from monai_transfer.workflows.target_profile import measure_target

from .conftest import MakeBundle, write_nifti

AFFINE = np.diag([-2.0, 2.0, 2.5, 1.0])
ORGANS = slice(20, 32)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Air with one stack of all tissues, and a single voxel of bone far from it."""
    voxels = np.full((60, 52, 40), -1000, np.int16)
    for first, value in ((20, -30), (24, 140), (28, 300)):
        voxels[first : first + 4, 18:26, 14:22] = value
    voxels[56:59, 46:49, 35:38] = 300
    return write_nifti(tmp_path / "scan.nii.gz", voxels, AFFINE)


@pytest.fixture
def boxed(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    """A bundle on a fine grid with a finder on a coarse one."""
    root = tmp_path / "boxed"
    shutil.copytree(make_bundle(pixdim=(1.5, 1.5, 1.5)), root)
    give_finder(BundleFolder(root), make_bundle(pixdim=(3.0, 3.0, 3.0)))
    return root


def test_a_box_is_around_the_large_pieces_with_a_margin_of_25_mm() -> None:
    mask = np.zeros((60, 60, 60), bool)
    mask[30:40, 30:40, 30:40] = True
    mask[58, 58, 58] = True  # a thousandth of the other piece
    other = np.zeros_like(mask)
    other[28, 35, 41] = True
    spacing = np.diag([2.0, 5.0, 50.0, 1.0])
    # 25 mm are 13, 5 and one voxel
    assert box_of([mask, other], spacing) == (slice(15, 53), slice(25, 45), slice(29, 43))
    mask[50:56, 50:56, 50:58] = True  # 288 of 1000 voxels
    assert box_of([mask], spacing) == (slice(17, 60), slice(25, 60), slice(29, 59))


def test_a_label_that_is_not_found_leaves_no_box() -> None:
    mask = np.ones((4, 4, 4), bool)
    assert box_of([mask, ~mask], np.eye(4)) is None
    assert box_of([], np.eye(4)) is None


def test_within_its_box_a_bundle_gives_what_it_gives_of_the_box_alone(boxed: Path, scan: Path, tmp_path: Path) -> None:
    options = SegmentOptions(probabilities=True, uncertainty=True)
    found = Segmenter.from_bundle(boxed, device="cpu", options=options).segment(scan)
    whole = read_volume(scan)
    assert found.labels.shape == whole.shape == found.entropy.shape == found.probabilities.shape[1:]
    assert found.source.path == scan
    np.testing.assert_array_equal(found.affine, whole.affine)

    first = Segmenter.from_bundle(boxed / "models" / "finder", device="cpu").segment(scan)
    box = box_of([first.labels == number for number in (1, 2, 3)], whole.affine)
    assert box is not None
    assert box[0].start > 0
    assert box[0].stop < 50
    shutil.rmtree(boxed / "models" / "finder")
    alone = Segmenter.from_bundle(boxed, device="cpu", options=options)
    inner = alone.segment(whole.cropped(box))
    np.testing.assert_array_equal(found.labels[box], inner.labels)
    np.testing.assert_array_equal(found.probabilities[(slice(None), *box)], inner.probabilities)
    np.testing.assert_array_equal(found.entropy[box], inner.entropy)
    assert found.volumes_ml == inner.volumes_ml

    outside = np.ones(whole.shape, bool)
    outside[box] = False
    assert not found.labels[outside].any()
    assert not found.entropy[outside].any()
    assert (found.probabilities[0][outside] == 1).all()
    assert not found.probabilities[1:, outside].any()
    assert alone.segment(scan).labels[outside].any()  # it would call the lonely bone by its name


def test_where_the_finder_misses_a_label_the_whole_volume_is_looked_at(
    boxed: Path, scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = boxed / "models" / "finder" / "models" / "model.pt"
    blind = torch.load(weights, weights_only=True)
    blind["bias"][1] = -1000  # it never calls anything fat
    torch.save(blind, weights)
    with caplog.at_level(logging.WARNING):
        found = Segmenter.from_bundle(boxed, device="cpu").segment(scan, keep_voxels=False)
    assert str(scan) in caplog.text
    shutil.rmtree(boxed / "models" / "finder")
    alone = Segmenter.from_bundle(boxed, device="cpu").segment(scan)
    np.testing.assert_array_equal(found.labels, alone.labels)


def test_a_folder_is_segmented_on_the_whole_grids(boxed: Path, scan: Path, tmp_path: Path) -> None:
    manifest = segment(scan, boxed, tmp_path / "out", device="cpu", preview=True)
    assert [case["status"] for case in manifest["cases"]] == ["ok"]
    written = nib.load(tmp_path / "out" / "scan.nii.gz")
    assert written.shape == (60, 52, 40)
    np.testing.assert_array_equal(written.affine, nib.load(scan).affine)
    assert set(np.unique(np.asarray(written.dataobj))) == {0, 1, 2, 3}


def test_a_bundle_is_another_with_another_finder(boxed: Path, make_bundle: MakeBundle) -> None:
    before = read_bundle(boxed)
    assert before.finder is not None
    assert before.finder.finder is None
    shutil.copytree(boxed, boxed.parent / "finder")  # a bundle may be called anything
    assert read_bundle(boxed.parent / "finder").finder is not None
    weights = boxed / "models" / "finder" / "models" / "model.pt"
    torch.save({name: 2 * value for name, value in torch.load(weights, weights_only=True).items()}, weights)
    assert read_bundle(boxed).checksum != before.checksum
    with pytest.raises(UserError, match="boxes of another bundle"):
        give_finder(BundleFolder(boxed), make_bundle(pixdim=(3.0, 3.0, 3.0)))


def test_copies_keep_the_finder(boxed: Path, scan: Path, tmp_path: Path) -> None:
    for copy in (
        hand_on(boxed, tmp_path / "copy").root,
        adapt_source_free(boxed, choose_images(scan.parent, None)[0], tmp_path / "adapted", device="cpu").bundle.root,
    ):
        finder = read_bundle(copy).finder
        assert finder is not None
        assert finder.checksum == read_bundle(boxed / "models" / "finder").checksum


def test_a_finder_of_a_stranger_runs_no_code_unasked(boxed: Path, tmp_path: Path) -> None:
    canary, config = tmp_path / "canary", boxed / "models" / "finder" / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["network_def"]["bias"] = f"$open({str(canary)!r}, 'w') is not None"
    config.write_text(json.dumps(content))
    assert "network_def" in str(inspect_bundle(boxed).concerns)
    with pytest.raises(UntrustedBundleError):
        read_bundle(boxed)
    assert not canary.exists()
    read_bundle(boxed, trust=True)
    assert canary.exists()


def cut(scan: Path, box: tuple[slice, ...], place: Path) -> Path:
    """The box of a scan as a file of its own."""
    part = read_volume(scan).cropped(box)
    return write_nifti(place, part.array[0], part.affine)


def box_in(boxed: Path, scan: Path) -> tuple[slice, ...]:
    """Where the bundle looks."""
    found = Segmenter.from_bundle(boxed / "models" / "finder", device="cpu").segment(scan)
    box = box_of([found.labels == number for number in (1, 2, 3)], found.affine)
    assert box is not None
    return box


def test_an_explanation_is_of_the_box(boxed: Path, scan: Path, tmp_path: Path) -> None:
    box = box_in(boxed, scan)
    whole = explain([scan], boxed, tmp_path / "whole", method="occlusion", device="cpu")
    shutil.rmtree(boxed / "models" / "finder")
    alone = explain([cut(scan, box, tmp_path / "part.nii.gz")], boxed, tmp_path / "alone", method="occlusion")
    maps = [content["volumes"][0]["maps"] for content in (whole, alone)]
    assert len(maps[0]) == len(maps[1]) == 3
    for ours, theirs in zip(*maps, strict=True):
        heat = np.asarray(nib.load(tmp_path / "whole" / ours["map"]).dataobj)
        inner = np.asarray(nib.load(tmp_path / "alone" / theirs["map"]).dataobj)
        np.testing.assert_allclose(heat[box], inner, atol=1e-6)
        assert inner.max() > 0
        outside = np.ones(heat.shape, bool)
        outside[box] = False
        assert not heat[outside].any()


def test_a_bundle_adapts_to_its_boxes(boxed: Path, scan: Path, tmp_path: Path) -> None:
    part = cut(scan, box_in(boxed, scan), tmp_path / "part.nii.gz")
    whole = adapt_network(read_bundle(boxed), find_cases([scan], channels=1).cases)
    shutil.rmtree(boxed / "models" / "finder")
    alone, unlike = (adapt_network(read_bundle(boxed), find_cases([image], channels=1).cases) for image in (part, scan))
    assert whole.score_before == pytest.approx(alone.score_before)
    assert whole.score_after == pytest.approx(alone.score_after)
    assert whole.score_before != pytest.approx(unlike.score_before)


def test_what_is_of_whole_images_names_the_finder(
    boxed: Path, scan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"give the bundle that finds the boxes, .*models/finder"):
        measure_target(choose_images(scan.parent, None)[0], boxed, device="cpu")
    with caplog.at_level(logging.WARNING):
        export_bundle(boxed, output=tmp_path / "model.ts")
    assert "export the other too" in caplog.text
