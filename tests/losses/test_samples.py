import torch

from monai_transfer.losses import voxel_samples


def test_all_voxels_in_order():
    x = torch.arange(2 * 3 * 4.0).reshape(2, 3, 2, 2)
    samples = voxel_samples(x, 100)
    assert samples.shape == (8, 3)
    assert torch.equal(samples[0], x[0, :, 0, 0])
    assert torch.equal(samples[5], x[1, :, 0, 1])


def test_even_choice_is_deterministic_and_differentiable():
    x = torch.randn(1, 2, 10, 10, 10, requires_grad=True)
    first, second = voxel_samples(x, 17), voxel_samples(x, 17)
    assert first.shape == (17, 2)
    assert torch.equal(first, second)
    assert torch.equal(first[0], x[0, :, 0, 0, 0])
    assert torch.equal(first[-1], x[0, :, 9, 9, 9])
    first.sum().backward()
    assert (x.grad != 0).sum() == 34


def test_pooled_features_and_half_precision():
    assert voxel_samples(torch.zeros(4, 3, dtype=torch.bfloat16), 2).dtype == torch.float32
    assert voxel_samples(torch.zeros(4, 3), 2).shape == (2, 3)
