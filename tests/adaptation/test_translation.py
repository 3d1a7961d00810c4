import io

import pytest
import torch
from monai.data import MetaTensor

from monai_transfer.adaptation import UnpairedTranslation
from monai_transfer.errors import UserError


def volumes(spatial_dims: int, brightness: float, count: int = 3) -> list[torch.Tensor]:
    """Boxes of brightness ``brightness`` at random places."""
    generator = torch.Generator().manual_seed(int(brightness) + 5)
    made = []
    for _ in range(count):
        volume = torch.zeros(1, *(20,) * spatial_dims)
        corner = torch.randint(2, 9, (spatial_dims,), generator=generator).tolist()
        volume[(0, *(slice(c, c + 8) for c in corner))] = 1.0
        made.append(brightness * volume + 0.05 * torch.randn(volume.shape, generator=generator))
    return made


def small(spatial_dims: int, **options) -> UnpairedTranslation:
    patch = (16,) * spatial_dims
    return UnpairedTranslation(spatial_dims, patch_size=patch, width=4, blocks=1, places=16, **options)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_fits_and_translates_by_the_seed(spatial_dims):
    def run(seed: int) -> torch.Tensor:
        model = small(spatial_dims, seed=seed)
        losses = model.fit(volumes(spatial_dims, 1), volumes(spatial_dims, -1), steps=3)
        assert set(losses) == {"discriminator", "generator", "contrast"}
        return model.translate(volumes(spatial_dims, 1)[0])

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)
    assert first.shape == (1, *(20,) * spatial_dims)
    assert torch.equal(first, run(0))
    assert not torch.equal(first, run(1))


def test_learns_the_intensities_of_the_target_and_keeps_the_boxes_in_place():
    source = volumes(2, 1, 8)
    target = [2 * volume + 1 for volume in volumes(2, 2, 8)]
    model = UnpairedTranslation(2, patch_size=(16, 16), width=8, blocks=2, places=32, learning_rate=3e-3)
    steps = []
    model.fit(source, target, steps=150, batch_size=4, on_step=lambda step, losses: steps.append(step))
    assert steps == list(range(1, 151))
    inside = source[0] > 0.5
    made = model.translate(source[0])
    assert made[~inside].mean().item() == pytest.approx(1.0, abs=0.4)
    assert made[inside].mean().item() == pytest.approx(5.0, abs=1.0)


def test_state_survives_and_meta_is_kept():
    model, other = small(2, seed=0), small(2, seed=1)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    volume = MetaTensor(volumes(2, 1)[0], affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    made = other.translate(volume)
    assert torch.equal(made.affine, volume.affine)
    assert torch.equal(made.as_tensor(), model.translate(volume.as_tensor()))


def test_mistakes():
    with pytest.raises(UserError, match="patch_size"):
        UnpairedTranslation(2)
    with pytest.raises(UserError, match="no target volumes"):
        small(2).fit(volumes(2, 1), [], steps=1)
    with pytest.raises(UserError, match=r"\(4, 4\) is smaller"):
        small(2).fit([torch.zeros(1, 4, 4)], volumes(2, 1), steps=1)
