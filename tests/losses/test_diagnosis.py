import math

import pytest
import torch
from torch.nn import functional as F

from monai_transfer.losses import DiagnosisLoss

LOGITS = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.1, -2.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0]])
CLASSES = torch.tensor([0, 1, 2, 2])
FINDINGS = torch.tensor([[1.0, 0.0, float("nan")], [0.0, float("nan"), 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_classes_equal_torch(smoothing: float, weights: list[float] | None) -> None:
    ours = DiagnosisLoss(weights, smoothing=smoothing)(LOGITS, CLASSES)
    if weights is None:
        assert ours == pytest.approx(float(F.cross_entropy(LOGITS, CLASSES, label_smoothing=smoothing)))
    elif smoothing == 0:
        assert ours == pytest.approx(float(F.cross_entropy(LOGITS, CLASSES, torch.tensor(weights))))


def test_focus_by_hand() -> None:
    p = LOGITS.softmax(1)[torch.arange(4), CLASSES]
    expected = float((-((1 - p) ** 2) * p.log()).mean())
    assert DiagnosisLoss(focal=2.0)(LOGITS, CLASSES) == pytest.approx(expected)


def test_known_findings_equal_torch() -> None:
    known = ~FINDINGS.isnan()
    expected = float(F.binary_cross_entropy_with_logits(LOGITS[known], FINDINGS[known]))
    assert DiagnosisLoss()(LOGITS, FINDINGS) == pytest.approx(expected)


def test_the_weight_of_a_finding_is_that_of_its_presence() -> None:
    logits, target = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [0.0]])
    assert DiagnosisLoss([3.0])(logits, target) == pytest.approx(math.log(2))
    logits = torch.tensor([[-1.0], [-1.0]])
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    assert DiagnosisLoss([3.0])(logits, target) == pytest.approx(float((3 * each[0] + each[1]) / 4))


def test_nothing_known_is_no_loss() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = DiagnosisLoss()(logits, torch.full_like(FINDINGS, float("nan")))
    loss.backward()
    assert float(loss) == 0.0
    assert float(logits.grad.abs().sum()) == 0.0


@pytest.mark.parametrize("target", [CLASSES, FINDINGS])
def test_gradients(target: torch.Tensor) -> None:
    loss = DiagnosisLoss([1.0, 2.0, 3.0], focal=1.5, smoothing=0.1)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, target), LOGITS.double().requires_grad_())


def test_shares_of_classes_equal_torch() -> None:
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.2, 0.2, 0.6]])
    ours = DiagnosisLoss(exclusive=True, smoothing=0.1)(LOGITS, shares)
    assert ours == pytest.approx(float(F.cross_entropy(LOGITS, shares, label_smoothing=0.1)))


def test_a_whole_share_is_the_class() -> None:
    loss = DiagnosisLoss([1.0, 2.0, 0.5], exclusive=True)
    assert loss(LOGITS, F.one_hot(CLASSES, 3)) == pytest.approx(float(loss(LOGITS, CLASSES)))
