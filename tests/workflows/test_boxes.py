"""Domains cut down to boxes around their labels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.request import choose_domains
from monai_transfer.datasets import read_dataset, require_sound
from monai_transfer.errors import UserError
from monai_transfer.inference.boxes import box_of
from monai_transfer.workflows.boxes import boxes_beside, within_boxes

LABELS = ("liver", "spleen", "right_kidney", "left_kidney", "aorta")


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _finder(tmp_path_factory.mktemp("finder") / "coarse")


def _finder(root: Path, channels: int = 1) -> Path:
    """Takes the brightest voxels of an MR for all organs at once, one band of intensity each."""
    configs = {"inference": _banded(channels), "metadata": _described(channels)}
    BundleFolder.create("segmentation_transfer", root, configs=configs)
    (root / "models").mkdir()
    centres = torch.linspace(-1, 3, len(LABELS) + 1)
    weight = torch.zeros(len(centres), channels, 1, 1, 1)
    weight[:, 0, 0, 0, 0] = 4 * centres
    torch.save({"weight": weight, "bias": -2 * centres**2}, root / "models" / "model.pt")
    return root


def _banded(channels: int) -> dict[str, Any]:
    from monai_transfer.bundle.configs import template_config

    content = template_config("segmentation_transfer", "inference")
    content["network_def"] = {"_target_": "torch.nn.Conv3d", "in_channels": channels, "out_channels": 6}
    content["network_def"]["kernel_size"] = 1
    steps = content["preprocessing"]["transforms"]
    content["preprocessing"]["transforms"] = [
        step for step in steps if step["_target_"] in ("LoadImaged", "EnsureChannelFirstd", "EnsureTyped")
    ]
    normalise = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
    content["preprocessing"]["transforms"].append(normalise)
    return content


def _described(channels: int) -> dict[str, Any]:
    from monai_transfer.bundle.configs import template_config

    content = template_config("segmentation_transfer", "metadata")
    content["network_data_format"]["inputs"]["image"]["num_channels"] = channels
    pred = content["network_data_format"]["outputs"]["pred"]
    pred["num_channels"] = 6
    pred["channel_def"] = {str(number): name for number, name in enumerate(("background", *LABELS))}
    return content


def test_boxes_hold_the_labels_where_they_lie_in_space(domains: Path, finder: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    said: list[str] = []
    cut = within_boxes(chosen, finder, tmp_path / "fine", device="cpu", say=said.append)
    assert cut.source.names == chosen.source.names
    assert cut.target.names == chosen.target.names
    assert cut.test is chosen.test
    assert cut.finder == finder.resolve()
    assert "models/finder is a copy" in cut.notes[-1]
    assert "3 source cases" in said[0]
    assert "3 target cases" in said[1]
    for whole, part in zip(chosen.source.cases, cut.source.cases, strict=True):
        image, label = nib.load(whole.images[0]), nib.load(whole.label)
        drawn = np.asarray(label.dataobj)
        box = box_of([drawn == value for value in range(1, 6)], label.affine)
        np.testing.assert_array_equal(np.asarray(nib.load(part.label).dataobj), drawn[box])
        inner = nib.load(part.images[0])
        np.testing.assert_array_equal(np.asarray(inner.dataobj), np.asarray(image.dataobj)[box])
        corner = image.affine @ [*(each.start for each in box), 1]
        np.testing.assert_allclose(inner.affine[:, 3], corner, atol=1e-4)
        np.testing.assert_allclose(inner.affine[:3, :3], image.affine[:3, :3])
    known = require_sound(cut.source, labelled=True)
    assert known.modality == "ct"
    assert cut.source.label_names[1] == "liver"


def test_boxes_of_the_target_are_those_that_the_finder_sees(domains: Path, finder: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    with_labels = within_boxes(chosen, finder, tmp_path / "one", device="cpu")
    hidden = replace(chosen, target=chosen.target.unlabelled)
    without = within_boxes(hidden, finder, tmp_path / "two", device="cpu")
    assert not without.target.labelled.cases
    assert len(with_labels.target.labelled) == 3
    for one, two in zip(with_labels.target.cases, without.target.cases, strict=True):
        assert nib.load(one.images[0]).shape == nib.load(two.images[0]).shape  # whatever labels there are
        assert nib.load(one.label).shape == nib.load(one.images[0]).shape


def test_only_boxes_are_replaced_and_only_when_asked(domains: Path, finder: Path, tmp_path: Path) -> None:
    chosen, output = choose_domains(domains / "ct", domains / "mr"), tmp_path / "fine"
    place = boxes_beside(output)
    within_boxes(chosen, finder, output, device="cpu")
    with pytest.raises(UserError, match="not empty"):
        within_boxes(chosen, finder, output, device="cpu")
    (place / "source" / "images" / "stranger.nii.gz").write_bytes(b"")
    again = within_boxes(chosen, finder, output, device="cpu", overwrite=True)
    assert read_dataset(place / "source").names == again.source.names == chosen.source.names
    shutil.rmtree(place)
    place.mkdir()
    (place / "thesis.docx").write_text("precious")
    with pytest.raises(UserError, match="holds something else"):
        within_boxes(chosen, finder, output, device="cpu", overwrite=True)
    assert [path.name for path in place.iterdir()] == ["thesis.docx"]


def test_a_finder_has_to_draw_every_label(domains: Path, finder: Path, tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    shutil.copytree(finder, lacking)
    BundleFolder(lacking).change("metadata", {"network_data_format#outputs#pred#channel_def#5": "vein"})
    with pytest.raises(UserError, match=r"draws no 'aorta', which .*ct has"):
        within_boxes(choose_domains(domains / "ct", domains / "mr"), lacking, tmp_path / "fine", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["lacking"]


def test_a_fault_is_told_by_its_own_name_and_leaves_nothing(domains: Path, finder: Path, tmp_path: Path) -> None:
    shutil.copytree(domains / "mr", tmp_path / "mr")
    (tmp_path / "mr" / "images" / "mr_002.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UserError, match="mr_002"):
        within_boxes(choose_domains(domains / "ct", tmp_path / "mr"), finder, tmp_path / "fine", device="cpu")
    assert not boxes_beside(tmp_path / "fine").exists()


def test_boxes_keep_all_channels(domains: Path, tmp_path: Path) -> None:
    for name in ("ct", "mr"):
        _double(domains / name, tmp_path / name)
    chosen = choose_domains(tmp_path / "ct", tmp_path / "mr")
    cut = within_boxes(chosen, _finder(tmp_path / "coarse", channels=2), tmp_path / "fine", device="cpu")
    assert cut.source.channel_names == ("CT", "map")
    assert cut.target.channel_names == ("T2", "map")
    assert require_sound(cut.source, labelled=True).modality == "ct"
    for whole, part in zip(chosen.source.cases, cut.source.cases, strict=True):
        label = nib.load(whole.label)
        drawn = np.asarray(label.dataobj)
        box = box_of([drawn == value for value in range(1, 6)], label.affine)
        channels = [np.asarray(nib.load(image).dataobj)[box] for image in whole.images]
        inner = nib.load(part.images[0])
        np.testing.assert_array_equal(np.asarray(inner.dataobj), np.stack(channels, -1))
    with pytest.raises(UserError, match=r"takes 1 channel\(s\) where .*ct has 2"):
        within_boxes(chosen, _finder(tmp_path / "other"), tmp_path / "no", device="cpu")
    assert not boxes_beside(tmp_path / "no").exists()


def _double(whole: Path, root: Path) -> None:
    """The data set with its images, halved, as a second channel."""
    shutil.copytree(whole / "labels", root / "labels")
    for image in (whole / "images").iterdir():
        volume = nib.load(image)
        name = image.name.removesuffix(".nii.gz")
        (root / "images").mkdir(exist_ok=True)
        for number, part in enumerate((1, 0.5)):
            voxels = (part * np.asarray(volume.dataobj)).astype(np.float32)
            nib.save(nib.Nifti1Image(voxels, volume.affine), root / "images" / f"{name}_{number:04d}.nii.gz")
    description = json.loads((whole / "dataset.json").read_text())
    channels = {"0": "CT" if whole.name == "ct" else "T2", "1": "map"}
    names = [path.name for path in sorted((root / "labels").iterdir())]
    training = [{"image": f"./images/{name}", "label": f"./labels/{name}"} for name in names]
    description |= {"modality": channels, "training": training}
    (root / "dataset.json").write_text(json.dumps(description))
