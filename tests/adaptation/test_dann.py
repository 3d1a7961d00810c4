import math

import pytest
import torch

from monai_transfer.adaptation import DANN, Outputs
from monai_transfer.errors import UserError

from .contract import CHANNELS, MethodContract


class TestDANN(MethodContract):
    def make(self, spatial_dims, network):
        return DANN(CHANNELS[-1])


class TestSeveralLevels(MethodContract):
    def make(self, spatial_dims, network):
        return DANN(CHANNELS, spectral_norm=True, loss="least_squares", hidden=(16,), dropout=0.1)


class TestSeveralSources(MethodContract):
    domains = ("source", "source_two", "target")

    def make(self, spatial_dims, network):
        return DANN(CHANNELS[-1])

    test_strength_zero_gives_the_gradients_of_source_only = None


def outputs(value_source: float, value_target: float) -> dict[str, Outputs]:
    def one(value: float) -> Outputs:
        return Outputs(torch.zeros(1, 2, 4, 4), (torch.full((1, 3, 2, 2), value, requires_grad=True),))

    return {"source": one(value_source), "target": one(value_target)}


def test_loss_is_log_two_when_the_discriminator_is_undecided():
    method = DANN(3)
    for parameter in method.parameters():
        torch.nn.init.zeros_(parameter)
    assert method.losses(outputs(1.0, -1.0), {})["domain"].item() == pytest.approx(math.log(2))


def test_gradient_is_reversed_and_scaled_by_weight_and_strength():
    torch.manual_seed(0)
    method = DANN(3, weight=0.5)

    def gradient(strength: float) -> torch.Tensor:
        out = outputs(1.0, -1.0)
        method.set_strength(strength)
        method.losses(out, {})["domain"].backward()
        return out["target"].features[0].grad

    torch.testing.assert_close(gradient(1.0), 2 * gradient(0.5))
    out = outputs(1.0, -1.0)
    method.set_strength(1.0)
    method.losses(out, {})["domain"].backward()
    with torch.no_grad():  # one step down the reversed gradient raises the domain loss
        moved = {k: Outputs(o.logits, (o.features[0] - 10 * o.features[0].grad,)) for k, o in out.items()}
        assert method.losses(moved, {})["domain"] > method.losses(out, {})["domain"]


def test_discriminator_learns_at_strength_zero():
    torch.manual_seed(0)
    method = DANN(3, hidden=(8,))
    method.set_strength(0.0)
    optimizer = torch.optim.Adam(method.parameters(), 0.05)
    for _ in range(50):
        loss = method.losses(outputs(1.0, -1.0), {})["domain"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_wrong_channels_are_named():
    with pytest.raises(UserError, match=r"in_channels \[5\].*\[3\]"):
        DANN(5).losses(outputs(0.0, 0.0), {})


def test_needs_both_domains():
    both = outputs(0.0, 0.0)
    with pytest.raises(UserError, match="source"):
        DANN(3).losses({"target": both["target"]}, {})
    with pytest.raises(UserError, match="target"):
        DANN(3).losses({"source": both["source"]}, {})


def test_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert DANN(3).losses(outputs(1.0, -1.0), {})["domain"].dtype == torch.float32
