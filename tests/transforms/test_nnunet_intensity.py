import pytest
import torch
from monai.data import MetaTensor

from monai_transfer.transforms import nnunet_intensity


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_acts_on_the_image_alone_and_by_the_seed(spatial_dims):
    x = MetaTensor(torch.randn(1, *(16,) * spatial_dims, generator=torch.Generator().manual_seed(0)))

    def run(seed: int) -> torch.Tensor:
        pipeline = nnunet_intensity(["image"], spatial_dims=spatial_dims).set_random_state(seed)
        return torch.stack([pipeline({"image": x.clone(), "label": x})["image"] for _ in range(20)])

    first = run(0)
    assert torch.isfinite(first).all()
    assert torch.equal(first, run(0))
    changed = [not torch.equal(y, x) for y in first]
    assert 10 <= sum(changed) < 20
