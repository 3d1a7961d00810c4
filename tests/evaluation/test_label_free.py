import pytest
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError

from monai_transfer.evaluation.label_free import (
    PredictionCertainty,
    PredictionInformation,
    SoftNeighbourhoodDensity,
    TeacherStudentAgreement,
)
from monai_transfer.losses import entropy_loss, information_score, label_agreement, soft_neighbourhood_density

LOGITS = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 3
SCORES = {
    PredictionCertainty: lambda x: 1 - entropy_loss(x),
    PredictionInformation: lambda x: information_score(x.softmax(1)),
    SoftNeighbourhoodDensity: lambda x: soft_neighbourhood_density(x.softmax(1)),
}


@pytest.mark.parametrize("metric_type", SCORES)
def test_mean_over_images_in_batches_or_lists(metric_type):
    expected = sum(float(SCORES[metric_type](x[None])) for x in LOGITS) / 4
    metric = metric_type()
    metric.update(LOGITS[:3])
    metric.update([LOGITS[3]])
    assert metric.compute() == pytest.approx(expected)
    metric.reset()
    with pytest.raises(NotComputableError, match="no image"):
        metric.compute()


def test_agreement():
    metric = TeacherStudentAgreement()
    metric.update((LOGITS[:2], LOGITS[2:]))
    expected = sum(float(label_agreement(LOGITS[i].argmax(0), LOGITS[i + 2].argmax(0), 3)) for i in range(2)) / 2
    assert metric.compute() == pytest.approx(expected)


def test_attached_to_an_engine():
    engine = Engine(lambda _, batch: {"pred": batch})
    PredictionInformation(output_transform=lambda output: output["pred"]).attach(engine, "information")
    state = engine.run([LOGITS[:2], LOGITS[2:]])
    assert 0 < state.metrics["information"] < 1
