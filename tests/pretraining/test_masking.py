"""Hidden blocks, and what is asked of who fills them."""

import pytest
import torch

from monai_transfer.bundle.pretraining_plan import Recipe
from monai_transfer.errors import UserError
from monai_transfer.options import checked
from monai_transfer.pretraining import HiddenBlocksd, HiddenReconstructionLoss


def hide(size, seed=0, **options):
    generator = torch.Generator().manual_seed(1)
    case = {"image": torch.randn(1, *size, generator=generator), "weak": torch.randn(1, *size, generator=generator)}
    return case, HiddenBlocksd(**options).set_random_state(seed=seed)(case)


def test_whole_blocks_of_the_asked_share_are_hidden():
    case, hidden = hide((16, 8, 12), share=0.5, block=4)
    mask = hidden["label"][1].bool()
    assert torch.equal(hidden["label"][:1], case["weak"])
    blocks = mask.unfold(0, 4, 4).unfold(1, 4, 4).unfold(2, 4, 4).reshape(24, 64)
    assert int((blocks.all(dim=1) | ~blocks.any(dim=1)).sum()) == 24
    assert int(blocks.any(dim=1).sum()) == 12
    # what is visible stays; what is hidden says nothing but the mean of the rest
    image = hidden["image"]
    assert torch.equal(image[:, ~mask], case["image"][:, ~mask])
    assert torch.allclose(image[:, mask], case["image"][:, ~mask].mean())
    assert "weak" not in hidden


def test_blocks_are_cut_at_the_border_and_drawn_anew():
    _, first = hide((10, 10, 10), share=0.6, block=8)
    _, second = hide((10, 10, 10), share=0.6, block=8, seed=1)
    assert first["image"].shape == (1, 10, 10, 10)
    assert not torch.equal(first["label"], second["label"])


def test_only_hidden_voxels_count():
    label = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]]])
    prediction = torch.tensor([[[9.0, 2.5, 1.5]]], requires_grad=True)
    loss = HiddenReconstructionLoss()(prediction, label)
    assert loss.item() == pytest.approx((0.5 + 1.5) / 2)
    loss.backward()
    assert prediction.grad[0, 0].tolist() == [0.0, 0.5, -0.5]
    assert HiddenReconstructionLoss()(prediction, torch.zeros(1, 2, 3)).item() == 0


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UserError):
        checked(Recipe, "guess")
