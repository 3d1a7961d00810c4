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
    expected = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    value = ForegroundPrior(2, 2.0, proportions=[0.9, 0.1], margin=0.1).losses(TARGET, {})["proportions"]
    assert value.item() == pytest.approx(2 * (expected - 0.1), abs=1e-4)
    value = ForegroundPrior(2, proportions=[0.9, 0.1], margin=1.0).losses(TARGET, {})["proportions"]
    assert value.item() == 0


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
