"""The loss of two tasks: what is unknown does not count, and weights are fixed or learnt."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_transfer.losses import ClassBalancedDiceCELoss, DiagnosisLoss, TwoTaskLoss


class _Voxels(nn.Module):
    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits, label[:, 0].long())


def _target(maps: list[float], classes: list[list[float]]) -> Tensor:
    both = [torch.tensor([each, *shown]) for each, shown in zip(maps, classes, strict=True)]
    return torch.stack(both)[..., None, None].expand(-1, -1, 2, 2).clone()


def _loss(weights: list[float] | None = None) -> TwoTaskLoss:
    return TwoTaskLoss(_Voxels(), DiagnosisLoss(exclusive=True), labels=2, weights=weights)


NAN = float("nan")
LOGITS = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
LOGITS[:, 2:] = LOGITS[:, 2:, :1, :1]


def test_each_task_sees_the_cases_that_know_it() -> None:
    target = _target([0, -1, 1], [[1, 0], [0, 1], [NAN, NAN]])
    voxels = F.cross_entropy(LOGITS[[0, 2], :2], target[[0, 2], 0].long())
    classes = F.cross_entropy(LOGITS[:2, 2:, 0, 0], torch.tensor([0, 1]))
    assert float(_loss([2.0, 0.5])(LOGITS, target)) == pytest.approx(float(2 * voxels + 0.5 * classes))


def test_uncertainty_weighs_by_kendalls_formula() -> None:
    loss, target = _loss(), _target([0, 0, 1], [[1, 0], [0, 1], [0, 1]])
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor([0.4, -0.3]))
    parts = [float(_loss(weights)(LOGITS, target)) for weights in ([1.0, 0.0], [0.0, 1.0])]
    expected = sum(part * torch.tensor(-s).exp() + s / 2 for part, s in zip(parts, (0.4, -0.3), strict=True))
    assert float(loss(LOGITS, target).detach()) == pytest.approx(float(expected))
    loss(LOGITS, target).backward()
    expected_slope = -parts[0] * torch.tensor(-0.4).exp() + 0.5
    assert float(loss.log_variances.grad[0]) == pytest.approx(float(expected_slope))  # type: ignore[index]


def test_an_absent_task_moves_neither_its_head_nor_its_weight() -> None:
    logits, loss = LOGITS.clone().requires_grad_(), _loss()
    loss(logits, _target([-1, -1, -1], [[1, 0], [0, 1], [0, 1]])).backward()
    assert float(logits.grad[:, :2].abs().sum()) == 0  # type: ignore[index]
    assert float(loss.log_variances.grad[0]) == 0  # type: ignore[index]


def test_nothing_known_has_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    _loss()(logits, _target([-1] * 3, [[NAN, NAN]] * 3)).backward()
    assert float(logits.grad.abs().sum()) == 0  # type: ignore[union-attr]


def test_its_state_holds_what_is_learnt_and_counted() -> None:
    loss = TwoTaskLoss(ClassBalancedDiceCELoss(2), DiagnosisLoss(), labels=2)
    assert {"log_variances", "segmentation.frequency"} <= set(loss.state_dict())
