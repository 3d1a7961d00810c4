import math

import pytest
import torch

from monai_transfer.adaptation import ForegroundPrior, Outputs
from monai_transfer.errors import UserError

from .contract import CLASSES, MethodContract


class TestForegroundPrior(MethodContract):
    def make(self, spatial_dims, network):
        return ForegroundPrior(CLASSES, margin=0.0)


class TestFixed(MethodContract):
    def make(self, spatial_dims, network):
        return ForegroundPrior(CLASSES, proportions=[8, 1, 1], margin=0.0)


TARGET = {"target": Outputs(torch.zeros(1, 2, 4))}


def test_learns_the_mean_of_the_source_labels():
    method = ForegroundPrior(2)
    for label in ([0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]):
        method.losses(TARGET, {"source": {"label": torch.tensor(label).reshape(1, 1, 4)}, "target": {}})
    torch.testing.assert_close(method.expected, torch.tensor([2 / 3, 1 / 3]))


def test_by_hand_and_margin():
    prior = ForegroundPrior(2, 2.0, proportions=[0.8, 0.2], margin=0.1)
    value = prior.losses(TARGET, {})["proportions"]
    assert value.item() == pytest.approx(2 * (0.5 / 0.2 - 1 - math.log(0.5 / 0.2) - 0.1), abs=1e-4)
    prior = ForegroundPrior(2, proportions=[0.8, 0.2], margin=0.6)
    assert prior.losses(TARGET, {})["proportions"].item() == 0


def test_a_small_organ_that_is_lost_costs_as_much_as_a_large_one():
    def cost(proportions, predicted):
        logits = torch.tensor(predicted).log().reshape(1, 3, 1)
        return ForegroundPrior(3, proportions=proportions).losses({"target": Outputs(logits)}, {})["proportions"].item()

    large, small = cost([0.699, 0.3, 0.001], [0.969, 0.03, 0.001]), cost([0.699, 0.3, 0.001], [0.6999, 0.3, 0.0001])
    assert small == pytest.approx(large, rel=0.01)
    assert small > 0.05


def test_a_class_that_never_occurs_is_left_free():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().reshape(1, 3, 1)
    prior = ForegroundPrior(3, proportions=[0.7, 0.3, 0.0])
    assert prior.losses({"target": Outputs(logits)}, {})["proportions"].item() == pytest.approx(0.0, abs=1e-6)


def test_sizes_are_averaged_over_the_steps():
    prior = ForegroundPrior(2, 1.0, proportions=[0.5, 0.5], margin=0.0, momentum=0.75)
    for share in (0.1, 0.9, 0.5, 0.5, 0.1):
        logits = torch.tensor([1 - share, share]).log().reshape(1, 2, 1).requires_grad_()
        loss = prior.losses({"target": Outputs(logits)}, {})["proportions"]
    mean = 0.75 * 0.5 + 0.25 * 0.1
    torch.testing.assert_close(prior.predicted, torch.tensor([1 - mean, mean]))
    assert loss.item() == pytest.approx(mean / 0.5 - 1 - math.log(mean / 0.5), abs=1e-5)
    loss.backward()
    assert logits.grad[0, 1].item() == pytest.approx((1 / 0.5 - 1 / mean) * 0.1 * 0.9, rel=1e-3)


def test_brings_a_lost_class_back():
    logits = torch.zeros(1, 2, 8)
    logits[:, 0] = 6.0
    logits.requires_grad_()
    ForegroundPrior(2, proportions=[0.5, 0.5]).losses({"target": Outputs(logits)}, {})["proportions"].backward()
    assert (logits.grad[:, 1] < 0).all()


def test_mistakes():
    with pytest.raises(UserError, match="proportions"):
        ForegroundPrior(3, proportions=[0.5, 0.5])
    with pytest.raises(UserError, match="source label"):
        ForegroundPrior(2).losses(TARGET, {"target": {}})
