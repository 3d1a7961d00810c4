import copy

import pytest
import torch
from torch import nn

from monai_transfer.adaptation import MeanTeacher, Outputs
from monai_transfer.errors import UserError

from .contract import CLASSES, MethodContract, make_batch, make_network


class TestSoft(MethodContract):
    def make(self, spatial_dims, network):
        return MeanTeacher(CLASSES)


class TestSquared(MethodContract):
    def make(self, spatial_dims, network):
        return MeanTeacher(CLASSES, loss="mse", teacher_mode="train")


class TestPseudoLabel(MethodContract):
    def make(self, spatial_dims, network):
        return MeanTeacher(CLASSES, loss="pseudo_label", keep=(0.3, 0.8))


def test_momentum_ramps_up_by_hand():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    method = MeanTeacher(2, momentum=0.2)
    method.prepare(network)
    nn.init.constant_(network.weight, 2.0)
    method.after_step(network)  # m = 1/10: 0.1 * 1 + 0.9 * 2
    assert method.teacher.weight.item() == pytest.approx(1.9)
    method.after_step(network)  # m = 2/11
    assert method.teacher.weight.item() == pytest.approx(2 / 11 * 1.9 + 9 / 11 * 2)
    for _ in range(3):
        before = method.teacher.weight.item()
        method.after_step(network)
    assert method.teacher.weight.item() == pytest.approx(0.2 * before + 0.8 * 2)


def test_teacher_sees_the_weak_view_and_falls_back_to_the_image():
    network = make_network(2)
    method = MeanTeacher(CLASSES)
    method.prepare(network)
    batch = make_batch(2, ("target",))
    logits = network(batch["target"]["image"])
    with_weak = method.losses({"target": Outputs(logits)}, batch)["consistency"]
    only_image = {"target": {"image": batch["target"]["weak"]}}
    torch.testing.assert_close(method.losses({"target": Outputs(logits)}, only_image)["consistency"], with_weak)
    other = {"target": {"image": batch["target"]["image"]}}
    assert method.losses({"target": Outputs(logits)}, other)["consistency"] != with_weak


def test_teacher_gets_no_gradient_and_keeps_its_mode():
    network = make_network(2)
    method = MeanTeacher(CLASSES, teacher_mode="eval")
    assert list(method.parameters()) == []
    method.prepare(network)
    method.train()
    assert not method.teacher.training
    assert not any(p.requires_grad for p in method.teacher.parameters())
    before = copy.deepcopy(method.teacher.state_dict())
    batch = make_batch(2)
    method.losses({"target": Outputs(network(batch["target"]["image"]))}, batch)["consistency"].backward()
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_strength_zero_leaves_the_teacher_alone():
    network = make_network(2)
    method = MeanTeacher(CLASSES)
    method.prepare(network)
    calls = []
    method.teacher.register_forward_hook(lambda *_: calls.append(1))
    method.set_strength(0.0)
    batch = make_batch(2)
    loss = method.losses({"target": Outputs(network(batch["target"]["image"]))}, batch)["consistency"]
    assert loss.item() == 0
    assert calls == []


def test_mistakes():
    with pytest.raises(UserError, match="hinge"):
        MeanTeacher(2, loss="hinge")
    with pytest.raises(RuntimeError, match="prepare"):
        MeanTeacher(2).after_step(nn.Linear(1, 1))
