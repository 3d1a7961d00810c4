import torch

from monai_transfer.adaptation import MMD, Outputs

from .contract import MethodContract


class TestMMD(MethodContract):
    def make(self, spatial_dims, network):
        return MMD(samples=50)


def test_descending_it_brings_features_together():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(2, 3, 5, 5, generator=generator)
    target = (torch.randn(2, 3, 5, 5, generator=generator) + 2).requires_grad_()
    optimizer = torch.optim.Adam([target], 0.1)
    method = MMD()

    def loss() -> torch.Tensor:
        return method.losses({"source": Outputs(source, (source,)), "target": Outputs(target, (target,))}, {})["mmd"]

    before = loss().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.2 * before
    assert (target.mean() - source.mean()).abs() < 0.5
