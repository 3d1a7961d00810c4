import pytest
import torch
import torch.nn.functional as F

from monai_transfer.transforms import RandGIN

X = torch.randn(1, 9, 10, 11, generator=torch.Generator().manual_seed(0))


def test_keeps_the_frobenius_norm():
    for seed in range(5):
        y = RandGIN(1.0).set_random_state(seed)(X)
        assert y.norm().item() == pytest.approx(X.norm().item(), rel=1e-4)


def test_alpha_zero_is_identity():
    torch.testing.assert_close(RandGIN(1.0, alpha=(0.0, 0.0)).set_random_state(0)(X), X, rtol=1e-4, atol=1e-5)


def test_one_pointwise_layer_is_an_affine_map_of_intensity():
    transform = RandGIN(1.0, layers=1, kernel_sizes=(1,), alpha=(1.0, 1.0)).set_random_state(4)
    y = transform(X)
    ((weight, bias),) = transform.weights
    expected = X * weight.item() + bias.item()
    torch.testing.assert_close(y, expected * X.norm() / expected.norm(), rtol=1e-4, atol=1e-5)


def test_equals_the_network_written_out():
    transform = RandGIN(1.0).set_random_state(1)
    y = transform(X)
    h = X[None]
    for layer, (weight, bias) in enumerate(transform.weights):
        h = F.conv3d(h, weight, bias, padding="same")
        h = F.leaky_relu(h) if layer < 3 else h
    mixed = transform.share * h[0] + (1 - transform.share) * X
    torch.testing.assert_close(y, mixed / mixed.norm() * X.norm(), rtol=1e-4, atol=1e-5)


def test_rejects_even_kernels():
    with pytest.raises(ValueError, match="odd"):
        RandGIN(kernel_sizes=(2,))
