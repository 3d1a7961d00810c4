import torch

from monai_transfer.adaptation import OutputAdversarial, Outputs

from .contract import CLASSES, MethodContract


class TestOutputAdversarial(MethodContract):
    def make(self, spatial_dims, network):
        return OutputAdversarial(spatial_dims, CLASSES, layers=2)


class TestLeastSquares(MethodContract):
    def make(self, spatial_dims, network):
        return OutputAdversarial(spatial_dims, CLASSES, layers=1, spectral_norm=True, loss="least_squares")


def test_only_the_target_is_pushed():
    torch.manual_seed(0)
    source, target = (torch.randn(1, CLASSES, 8, 8, requires_grad=True) for _ in range(2))
    OutputAdversarial(2, CLASSES).losses({"source": Outputs(source), "target": Outputs(target)}, {})[
        "output_domain"
    ].backward()
    assert source.grad is None
    assert target.grad is not None
    assert target.grad.abs().max() > 0
