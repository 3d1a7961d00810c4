import pytest
import torch

from monai_transfer.adaptation import DeepCORAL, Outputs
from monai_transfer.losses import coral_loss

from .contract import MethodContract


class TestDeepCORAL(MethodContract):
    def make(self, spatial_dims, network):
        return DeepCORAL()


def test_is_the_loss_of_all_voxels_weighted():
    s, t = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(n)) * (n + 1) for n in range(2))
    method = DeepCORAL(weight=2.0)
    method.set_strength(0.5)
    value = method.losses({"source": Outputs(s, (s,)), "target": Outputs(t, (t,))}, {})["coral"]
    flat = [x.permute(0, 2, 3, 1).reshape(-1, 3) for x in (s, t)]
    assert value.item() == pytest.approx(coral_loss(*flat).item())
