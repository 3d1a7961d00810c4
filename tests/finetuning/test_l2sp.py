import pytest
import torch
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.finetuning import L2SP, freeze
from monai_transfer.networks import names_of
from monai_transfer.weights import load_pretrained
from tests.finetuning.training import changed, small_unet, snapshot, trainer


def kernels(network, names):
    return {name: value for name, value in network.named_parameters() if name in names and value.ndim > 1}


def test_value_by_hand():
    network = small_unet()
    encoder = names_of(network, ["encoder"])
    penalty = L2SP(network, alpha=0.4, beta=0.2)
    others = {name for name, _ in network.named_parameters()} - encoder
    size = sum(float(value.square().sum()) for value in kernels(network, others).values())
    assert float(penalty(network)) == pytest.approx(0.1 * size, rel=1e-5)
    with torch.no_grad():
        for value in kernels(network, encoder).values():
            value.add_(0.5)
    drift = 0.25 * sum(value.numel() for value in kernels(network, encoder).values())
    assert float(penalty(network)) == pytest.approx(0.2 * drift + 0.1 * size, rel=1e-5)


def test_gradient_is_alpha_times_drift():
    network = small_unet()
    penalty = L2SP(network, alpha=0.4, beta=0.2)
    weight = network.get_parameter("model.0.conv.weight")
    head = network.get_parameter("model.2.conv.weight")
    with torch.no_grad():
        weight.add_(1.0)
    penalty(network).backward()
    assert torch.allclose(weight.grad, torch.full_like(weight, 0.4), atol=1e-5)
    assert torch.allclose(head.grad, 0.2 * head.detach())


def test_pure_penalty_pulls_back_to_the_start():
    network = small_unet()
    start = snapshot(network)
    penalty = L2SP(network, alpha=1.0, beta=0.0)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        penalty(network).backward()
        optimizer.step()
    weight = network.state_dict()["model.0.conv.weight"]
    assert torch.allclose(weight, start["model.0.conv.weight"], atol=1e-6)


def test_frozen_levels_do_not_count():
    network = small_unet()
    penalty = L2SP(network, alpha=1.0, beta=1.0)
    freeze(network, ["encoder", "decoder", "head"])
    assert float(penalty(network)) == 0.0


def test_what_was_loaded_comes_from_the_report(tmp_path):
    torch.save(small_unet(1).state_dict(), tmp_path / "file.pt")
    network = small_unet()
    report = load_pretrained(network, tmp_path / "file.pt")
    penalty = L2SP(network, alpha=1.0, beta=1.0, report=report)
    assert float(penalty(network)) == 0.0


def test_reference_survives_a_checkpoint(tmp_path):
    network = small_unet()
    penalty = L2SP(network)
    torch.save(penalty.state_dict(), tmp_path / "penalty.pt")
    other = L2SP(small_unet(1))
    other.load_state_dict(torch.load(tmp_path / "penalty.pt", weights_only=True))
    assert float(other(network)) == float(penalty(network))
    assert not list(penalty.parameters())


def test_stronger_penalty_means_less_drift_in_training():
    drifts = []
    for alpha in (0.0, 10.0):
        network = small_unet()
        start = snapshot(network)
        penalty = L2SP(network, alpha=alpha, beta=0.0)

        class Loss(nn.CrossEntropyLoss):
            def forward(self, logits, label, penalty=penalty, network=network):
                return super().forward(logits, label) + penalty(network)

        trainer(network, torch.optim.SGD(network.parameters(), lr=0.05), [], loss=Loss()).run()
        assert changed(network, start)
        drifts.append(float((network.state_dict()["model.0.conv.weight"] - start["model.0.conv.weight"]).norm()))
    assert drifts[1] < 0.5 * drifts[0]


def test_bad_arguments():
    with pytest.raises(UserError, match="must not be negative"):
        L2SP(small_unet(), alpha=-1.0)
    with pytest.raises(UserError, match="no kernel"):
        L2SP(small_unet(), levels=())
