import math

import pytest
import torch
from monai.data import MetaTensor

from monai_transfer.adaptation import Outputs, SelfTraining
from monai_transfer.errors import UserError
from monai_transfer.losses import pseudo_label_loss
from monai_transfer.transforms import PseudoLabels
from monai_transfer.transforms.target import UNLABELLED

from .contract import MethodContract


class TestSelfTraining(MethodContract):
    def make(self, spatial_dims, network):
        return SelfTraining()


def logits_and_label():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 3, (2, 1, 4, 4), generator=generator).to(torch.uint8)


def loss(method, logits, label):
    return method.losses({"target": Outputs(logits)}, {"target": {"pseudo_label": label}})["self_training"]


def test_learns_the_labelled_voxels_alone():
    logits, label = logits_and_label()
    known = torch.rand(label.shape) < 0.5
    given = label.masked_fill(~known, UNLABELLED)
    expected = pseudo_label_loss(logits, label.long(), known)
    torch.testing.assert_close(loss(SelfTraining(2.0), logits, given), 2 * expected)
    loss(SelfTraining(), logits, given).backward()
    assert logits.grad.movedim(1, -1)[~known[:, 0]].abs().max() == 0


def test_without_any_label_there_is_nothing_to_learn():
    logits, label = logits_and_label()
    value = loss(SelfTraining(), logits, torch.full_like(label, UNLABELLED))
    assert value.item() == 0
    value.backward()
    assert logits.grad.abs().max() == 0


def test_rests_until_a_volume_is_labelled():
    labels = PseudoLabels()
    method = SelfTraining(waits_for=labels)
    assert method.resting
    labels.set(MetaTensor(torch.zeros(1, 4, 4), meta={"filename_or_obj": "mr.nii.gz"}), torch.ones(1, 4, 4))
    assert not method.resting
    method.set_strength(0.0)
    assert method.resting
    assert not SelfTraining().resting


def test_a_target_without_the_key_is_named():
    logits, _ = logits_and_label()
    with pytest.raises(UserError, match="pseudo_labels"):
        SelfTraining().losses({"target": Outputs(logits)}, {"target": {"image": logits}})


def test_a_target_domain_with_labels_of_its_own_is_left_to_the_supervised_loss():
    logits, label = logits_and_label()
    outputs = {"target": Outputs(logits), "target_labelled": Outputs(logits)}
    batch = {"target": {"pseudo_label": label}, "target_labelled": {"label": label}}
    value = SelfTraining().losses(outputs, batch)["self_training"]
    torch.testing.assert_close(value, loss(SelfTraining(), logits, label))


def test_of_a_class_that_is_not_taught_background_stands_for_both():
    """Against the definition: probabilities of background and that class summed, by hand."""
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).reshape(1, 3, 1, 1).requires_grad_()
    label, taught = torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.tensor([[True, False, True] + [True] * 253])
    batch = {"target": {"pseudo_label": label, "pseudo_label_taught": taught}}
    value = SelfTraining(1.0).losses({"target": Outputs(logits)}, batch)["self_training"]
    # background (2 p + 1) / (p + 1 + 1), the silent class 1, the other absent one 1 / (p + 1)
    dice = ((2 * 0.7 + 1) / (0.7 + 1 + 1) + 1 + 1 / (0.3 + 1)) / 3
    assert value.item() == pytest.approx(-math.log(0.7) + 1 - dice, rel=1e-5)
    value.backward()
    gradient = logits.grad.flatten()
    # more of either lowers the loss, in proportion to what there is of it: the class is not unlearnt
    assert gradient[0] < 0
    assert gradient[1] / gradient[0] == pytest.approx(0.5 / 0.2, rel=1e-4)


def test_volumes_that_teach_all_are_learnt_as_they_are():
    logits, label = logits_and_label()
    batch = {"target": {"pseudo_label": label, "pseudo_label_taught": torch.ones(2, 256, dtype=torch.bool)}}
    value = SelfTraining().losses({"target": Outputs(logits)}, batch)["self_training"]
    torch.testing.assert_close(value, loss(SelfTraining(), logits, label))
