"""Rotation, scale, shift and stretched parts in one resampling."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Affine

from monai_transfer.transforms import RandDeformd

SHAPE = (24, 20, 16)


def _case() -> dict[str, torch.Tensor]:
    image = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    return {"image": image, "label": (image > 0.7).to(torch.uint8)}


def test_without_stretched_parts_it_is_monais_affine() -> None:
    ours = RandDeformd(["image", "label"], prob=1.0, rotate=0.2, scale=0.1, shift=3.0, mode=["bilinear", "nearest"])
    for seed in range(3):
        case = _case()
        found = ours.set_random_state(seed)(case)
        drawn = ours.affine
        theirs = Affine(
            drawn.rotate_params,
            None,
            drawn.translate_params,
            drawn.scale_params,
            padding_mode="border",
            image_only=True,
        )
        torch.testing.assert_close(found["image"], theirs(case["image"]).as_tensor(), atol=1e-3, rtol=0)
        labels = theirs(case["label"], mode="nearest").as_tensor()
        assert float((found["label"] == labels).float().mean()) > 0.999


def test_in_voxels_that_are_no_cubes_bodies_turn_as_they_do_in_cubes() -> None:
    """A ball keeps its shape; turned by voxels alone it would be sheared."""
    spacing = (1.0, 1.0, 4.0)
    place = torch.stack(torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in (48, 48, 12)), indexing="ij"))
    inside = (place * torch.tensor(spacing).reshape(3, 1, 1, 1)).norm(dim=0) < 18
    mark = inside & (place[0] > 0)  # half of it, so that it can be seen to turn
    case = {"ball": inside[None].float(), "half": mark[None].float()}
    turned = RandDeformd(["ball", "half"], prob=1.0, rotate=0.5, spacing=spacing).set_random_state(1)(case)
    sheared = RandDeformd(["ball", "half"], prob=1.0, rotate=0.5).set_random_state(1)(case)
    assert float((turned["half"] - case["half"]).abs().mean()) > 0.005
    away = {name: float((out["ball"] - case["ball"]).abs().mean()) for name, out in (("t", turned), ("s", sheared))}
    assert away["t"] < 0.3 * away["s"]


def test_only_the_ratio_of_the_lengths_counts_and_cubes_are_as_ever() -> None:
    case = _case()
    for one, other in (((2.0, 2.0, 2.0), None), ((1.0, 1.0, 3.0), (2.0, 2.0, 6.0))):
        outs = [
            RandDeformd("image", prob=1.0, rotate=0.3, scale=0.1, spacing=spacing).set_random_state(4)(case)["image"]
            for spacing in (one, other)
        ]
        torch.testing.assert_close(*outs)


def test_each_part_has_the_length_that_its_factor_gives_and_the_middle_stays() -> None:
    deform = RandDeformd("image", prob=0.0, stretch=0.5, stretch_prob=1.0, cells=4).set_random_state(3)
    line = torch.arange(32.0).expand(1, 8, 32)
    found = deform({"image": line})["image"][0, 0]
    assert deform.factors is not None
    factors = deform.factors[1]
    assert np.ptp(factors) > 0.2
    # inside a part, and where the border is not repeated, a step in the result is a factor's step in the image
    inner = found.diff()[[10, 12, 18, 20]]
    torch.testing.assert_close(inner, torch.tensor(factors[[1, 1, 2, 2]], dtype=torch.float32), atol=1e-4, rtol=0)
    assert float(found[15:17].mean()) == pytest.approx(15.5, abs=0.3)


def test_both_at_once_are_one_interpolation() -> None:
    both = RandDeformd("image", prob=1.0, rotate=0.3, stretch=0.2, stretch_prob=1.0).set_random_state(1)
    rows = torch.arange(33.0).reshape(33, 1).expand(1, 33, 33)  # a plane is kept by any one linear interpolation
    found = both({"image": rows})["image"][0, 8:25, 8:25]
    grid = both._grid((33, 33), torch.device("cpu"))
    assert grid is not None
    torch.testing.assert_close(found, (grid[0] + 16)[8:25, 8:25], atol=1e-3, rtol=0)


def test_nothing_is_done_to_a_case_that_is_not_drawn() -> None:
    case = _case()
    out = RandDeformd(["image", "label"], prob=0.0, rotate=0.3)(case)
    torch.testing.assert_close(out["image"], case["image"])
    assert torch.equal(out["label"], case["label"].float())


def test_meta_data_stay_and_missing_keys_are_left_out() -> None:
    image = MetaTensor(torch.rand(1, 8, 8), meta={"filename_or_obj": "a.nii.gz"})
    deform = RandDeformd(["image", "label"], prob=1.0, rotate=0.2, allow_missing_keys=True)
    out = deform({"image": image, "name": "a"})
    assert out["image"].meta["filename_or_obj"] == "a.nii.gz"
    assert out["name"] == "a"


def test_parts_cannot_vanish() -> None:
    with pytest.raises(ValueError, match="below 1"):
        RandDeformd("image", stretch=1.0)
