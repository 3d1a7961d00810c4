import copy
import io

import pytest
import torch

from monai_transfer.networks import PatchDomainDiscriminator, PooledDiscriminator


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("spectral_norm", [False, True])
class TestBoth:
    def networks(self, spatial_dims, spectral_norm):
        torch.manual_seed(0)
        return [
            PooledDiscriminator(4, (8,), spectral_norm=spectral_norm),
            PatchDomainDiscriminator(spatial_dims, 4, channels=4, layers=2, spectral_norm=spectral_norm),
        ]

    def test_shapes_and_float32_under_autocast(self, spatial_dims, spectral_norm):
        x = torch.randn(2, 4, *(9,) * spatial_dims)
        pooled, patch = self.networks(spatial_dims, spectral_norm)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert pooled(x.bfloat16()).shape == (2, 1)
            assert patch(x).shape == (2, 1, *(3,) * spatial_dims)
            assert pooled(x.bfloat16()).dtype == patch(x).dtype == torch.float32

    def test_copies_and_loads_as_plain_tensors(self, spatial_dims, spectral_norm):
        for network in self.networks(spatial_dims, spectral_norm):
            copy.deepcopy(network)
            file = io.BytesIO()
            torch.save(network.state_dict(), file)
            file.seek(0)
            network.load_state_dict(torch.load(file, weights_only=True))


def test_pooling_makes_size_and_dims_irrelevant():
    network = PooledDiscriminator(2)
    vector = torch.tensor([[1.0, -2.0]])
    torch.testing.assert_close(network(vector), network(vector[:, :, None, None].expand(1, 2, 5, 7)))
    torch.testing.assert_close(network(vector), network(vector[..., None, None, None].expand(1, 2, 3, 3, 3)))


def test_spectral_norm_bounds_every_layer():
    torch.manual_seed(0)
    network = PooledDiscriminator(6, (8, 8), spectral_norm=True)
    for _ in range(50):
        network(torch.randn(2, 6))
    network.eval()
    for layer in network.layers:
        if hasattr(layer, "weight"):
            assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1.0, abs=1e-3)


def test_dropout_acts_in_training_only():
    network = PooledDiscriminator(4, (64,), dropout=0.5)
    x = torch.randn(1, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
