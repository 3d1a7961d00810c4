import pytest
import torch

from monai_transfer.adaptation import CDAN, Outputs
from monai_transfer.errors import UserError

from .contract import CHANNELS, CLASSES, MethodContract


class TestCDAN(MethodContract):
    def make(self, spatial_dims, network):
        return CDAN(CHANNELS[-1], CLASSES)


class TestRandomised(MethodContract):
    def make(self, spatial_dims, network):
        return CDAN(CHANNELS[-1], CLASSES, max_width=16, entropy_weighting=False, spectral_norm=True)


def outputs() -> Outputs:
    generator = torch.Generator().manual_seed(0)
    return Outputs(torch.randn(2, 3, 4, 4, generator=generator), (torch.randn(2, 5, 2, 2, generator=generator),))


def test_multilinear_map_is_the_outer_product_written_out():
    out = outputs()
    h = CDAN(5, 3, entropy_weighting=False)._multilinear(out).reshape(2, 5, 3)
    p = torch.nn.functional.avg_pool2d(out.logits.softmax(1), 2)
    expected = sum(out.features[0][1, :, i, j, None] * p[1, :, i, j] for i in range(2) for j in range(2)) / 4
    torch.testing.assert_close(h[1], expected)


def test_certain_voxels_count_more():
    logits = torch.zeros(1, 2, 2)
    logits[0, 0, 0] = 50.0  # voxel 0 certain of class 0, voxel 1 undecided
    features = torch.tensor([[[1.0, 0.0]]])
    h = CDAN(1, 2)._multilinear(Outputs(logits, (features,)))
    weight = 2 / (2 + 1.5)  # exp(-log 2) = 0.5
    torch.testing.assert_close(h, torch.tensor([[1.0, 0.0]]) * weight)


def test_predictions_get_no_gradient():
    out = outputs()
    out.logits.requires_grad_()
    out.features[0].requires_grad_()
    CDAN(5, 3)._multilinear(out).sum().backward()
    assert out.logits.grad is None
    assert out.features[0].grad is not None


def test_wrong_channels_are_named():
    with pytest.raises(UserError, match=r"in_channels 4.*5 channels"):
        CDAN(4, 3)._multilinear(outputs())
