"""Pseudo-labels reach the batches of the images that they belong to, and are never cached."""

from pathlib import Path

import torch
from monai.data import CacheDataset, MetaTensor

from monai_transfer.phantoms import write_phantoms
from monai_transfer.transforms import PseudoLabeld, PseudoLabels, preset
from monai_transfer.transforms.target import UNLABELLED


def image_of(file: str) -> MetaTensor:
    return MetaTensor(
        torch.rand(1, 4, 5, 6), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])), meta={"filename_or_obj": file}
    )


def test_a_label_belongs_to_the_file_of_its_image() -> None:
    labels = PseudoLabels()
    first, second = image_of("first.nii.gz"), image_of("second.nii.gz")
    labels.set(first, torch.ones(1, 4, 5, 6))
    put = PseudoLabeld("pseudo_label", labels)
    known, unknown = put({"image": first})["pseudo_label"], put({"image": second})["pseudo_label"]
    assert known.unique().tolist() == [1]
    assert unknown.unique().tolist() == [UNLABELLED]
    assert known.dtype == torch.uint8
    torch.testing.assert_close(known.affine, first.affine)
    known[:] = 9  # the batch may be changed in place
    assert labels.of(first).unique().tolist() == [1]
    assert len(labels) == 1


def test_a_cached_case_gets_labels_that_were_made_later(tmp_path: Path) -> None:
    write_phantoms(tmp_path, modality="mr", subjects=1, size=0.3)
    file = str(next((tmp_path / "images").iterdir()))
    labels = PseudoLabels()
    chain = preset("mr", "train", spacing=[8.0] * 3, roi_size=[16] * 3, labelled=False, pseudo_labels=labels)
    cached = CacheDataset([{"image": file}], chain, progress=False)

    def sample() -> dict[str, torch.Tensor]:
        chain.set_random_state(seed=3)
        case = cached[0]
        return case[0] if isinstance(case, list) else case

    assert sample()["pseudo_label"].unique().tolist() == [UNLABELLED]
    whole = preset("mr", "infer", spacing=[8.0] * 3)({"image": file})["image"]
    bright = (whole > whole.median()).to(torch.uint8)
    labels.set(whole, bright)
    after = sample()
    assert after["pseudo_label"].shape == after["image"].shape == (1, 16, 16, 16)
    agreement = (after["pseudo_label"] == (after["weak"] > whole.median())).float().mean()
    assert agreement > 0.9  # cropped and deformed as the image was


def test_what_lies_outside_a_small_volume_has_no_label(tmp_path: Path) -> None:
    write_phantoms(tmp_path, modality="mr", subjects=1, size=0.3)
    file = str(next((tmp_path / "images").iterdir()))
    labels = PseudoLabels()
    whole = preset("mr", "infer", spacing=[8.0] * 3)({"image": file})["image"]
    roi = [size + 4 for size in whole.shape[1:]]
    chain = preset(
        "mr", "train", spacing=[8.0] * 3, roi_size=roi, labelled=False, deformation=0.0, pseudo_labels=labels
    )

    def label() -> torch.Tensor:
        case = chain({"image": file})
        return (case[0] if isinstance(case, list) else case)["pseudo_label"]

    assert label().unique().tolist() == [UNLABELLED]
    labels.set(whole, torch.zeros(whole.shape))
    assert int((label() == 0).sum()) == whole.numel()
    assert label().unique().tolist() == [0, UNLABELLED]
