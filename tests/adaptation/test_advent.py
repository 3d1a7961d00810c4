import torch

from monai_transfer.adaptation import AdvEnt, Outputs

from .contract import CLASSES, MethodContract


class TestAdvEnt(MethodContract):
    def make(self, spatial_dims, network):
        return AdvEnt(spatial_dims, CLASSES, layers=2)


def test_only_the_target_is_pushed():
    torch.manual_seed(0)
    source, target = (torch.randn(1, CLASSES, 8, 8, requires_grad=True) for _ in range(2))
    AdvEnt(2, CLASSES).losses({"source": Outputs(source), "target": Outputs(target)}, {})["entropy_domain"].backward()
    assert source.grad is None
    assert target.grad.abs().max() > 0
