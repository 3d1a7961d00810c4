import pytest
import torch

from monai_transfer.adaptation import EntropyMinimization, Outputs

from .contract import MethodContract


class TestEntropyMinimization(MethodContract):
    def make(self, spatial_dims, network):
        return EntropyMinimization()


def test_counts_the_target_alone():
    method = EntropyMinimization(weight=0.5)
    out = {"source": Outputs(torch.randn(1, 4, 3, 3)), "target": Outputs(torch.zeros(1, 4, 3, 3))}
    assert method.losses(out, {})["entropy"].item() == pytest.approx(0.5)
