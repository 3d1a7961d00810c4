"""Random shapes, their appearances, and what is learnt from them."""

import random

import torch
from torch.nn import functional as F

from monai_transfer.adaptation import Outputs
from monai_transfer.losses import voxel_contrast
from monai_transfer.pretraining import KINDS, MOST_SHAPES, ContrastiveAgreement, ShapeLoader, draw_shapes, paint_shapes
from monai_transfer.pretraining.contrast import _pick
from monai_transfer.pretraining.noise import blur, smooth_noise


def test_contrast_is_the_formula_of_the_paper():
    """Two voxels of one label and one of another, at right angles: the lone one has no fellow and no loss."""
    features = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]])
    expected = -(1 / 0.5 - torch.tensor([1 / 0.5, 0.0]).logsumexp(0))
    assert torch.isclose(voxel_contrast(features, torch.tensor([[4, 4, 7]]), temperature=0.5), expected)


def test_contrast_does_not_compare_volumes():
    features, labels = torch.randn(2, 6, 3), torch.randint(2, (2, 6))
    alone = [voxel_contrast(features[i : i + 1], torch.zeros(1, 6, dtype=torch.long)) for i in range(2)]
    both = voxel_contrast(features, torch.zeros(2, 6, dtype=torch.long))
    assert torch.isclose(both, torch.stack(alone).mean())
    assert bool(voxel_contrast(features, labels).isfinite())


def test_shapes_are_numbered_and_of_a_kind():
    shapes, kinds = draw_shapes(2, (32, 24, 40), torch.Generator().manual_seed(1), random.Random(1))
    assert shapes.shape == kinds.shape == (2, 1, 32, 24, 40)
    assert int(shapes.min()) >= 0
    assert int(shapes.max()) < MOST_SHAPES
    assert int(kinds.max()) < len(KINDS)
    for number in shapes.unique():
        assert len(kinds[shapes == number].unique()) == 1


def test_two_appearances_have_the_borders_and_not_the_intensities():
    generator, choices = torch.Generator().manual_seed(2), random.Random(2)
    shapes, _ = draw_shapes(1, (32, 32, 32), generator, choices)
    first, second = (paint_shapes(shapes, MOST_SHAPES, generator, choices) for _ in range(2))
    assert first.isfinite().all()
    assert not torch.allclose(first, second)


def test_blur_gives_each_volume_its_own_deviation():
    image = torch.zeros(2, 1, 15, 15, 15)
    image[:, :, 7, 7, 7] = 1
    blurred = blur(image, torch.tensor([0.0, 1.0]))
    assert torch.allclose(blurred[0], image[0], atol=1e-6)
    expected = torch.exp(torch.tensor(-0.5)) * blurred[1, 0, 7, 7, 7]
    assert torch.isclose(blurred[1, 0, 8, 7, 7], expected)
    assert torch.isclose(blurred[1].sum(), torch.tensor(1.0), atol=1e-4)


def test_smooth_noise_keeps_its_nodes():
    noise = smooth_noise(1, 1, (9, 9, 9), 3, torch.Generator().manual_seed(0))
    nodes = noise[..., ::4, ::4, ::4]
    assert torch.allclose(F.interpolate(nodes, size=(9, 9, 9), mode="trilinear", align_corners=True), noise, atol=1e-6)


def test_a_voxel_is_found_at_a_coarser_level():
    features = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    where = torch.tensor([[0, 4 * 4 * 3 + 4 * 0 + 3]])  # corners (0, 0, 0) and (3, 0, 3) of 4³ voxels
    assert _pick(features, where, (4, 4, 4)).flatten().tolist() == [0.0, 5.0]


def test_a_batch_depends_on_seed_and_step_alone():
    loader, again = ShapeLoader(steps=2, batch_size=1, length=32, seed=3), ShapeLoader(steps=2, batch_size=1, length=32)
    list(loader)
    resumed = ShapeLoader(steps=2, batch_size=1, length=32, seed=3)
    resumed.load_state_dict(loader.state_dict())
    one, other = next(iter(loader)), next(iter(resumed))
    assert torch.equal(one["first"]["image"], other["first"]["image"])
    assert not torch.equal(next(iter(again))["first"]["shapes"], loader.batch(0)["first"]["shapes"])


def test_agreement_is_least_where_features_name_the_shape():
    method = ContrastiveAgreement([3], voxels=64, width=8)
    method.heads[0] = torch.nn.Identity()
    shapes = torch.randint(3, (1, 1, 8, 8, 8))
    named = F.one_hot(shapes[:, 0]).movedim(-1, 1).float()
    batch = {"first": {"shapes": shapes}}

    def loss(first, second):
        views = {"first": Outputs(first, (first,)), "second": Outputs(second, (second,))}
        torch.manual_seed(0)
        return method.losses(views, batch)["contrast"]

    assert loss(named, named) < loss(named, torch.randn_like(named))
