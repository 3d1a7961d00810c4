import numpy as np
import pytest
import torch
from sklearn import metrics

from monai_transfer.errors import UserError
from monai_transfer.evaluation import MeanAUC, score_diagnosis
from monai_transfer.evaluation.calibration import (
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from monai_transfer.evaluation.diagnosis_scores import decide
from monai_transfer.evaluation.ranking import average_precision, precision_recall_curve, roc_auc, roc_curve
from monai_transfer.inference.probabilities import probabilities

SEEDS = range(12)


def drawn(seed: int, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and a truth that they tell something about."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(count), rng.integers(1, 4))
    return scores, rng.random(count) < 0.2 + 0.6 * scores


@pytest.mark.parametrize("seed", SEEDS)
def test_areas_equal_those_of_scikit_learn(seed: int) -> None:
    scores, truth = drawn(seed)
    weights = np.random.default_rng(seed + 100).integers(0, 4, (3, len(scores))).astype(float)
    assert float(roc_auc(scores, truth)) == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert float(average_precision(scores, truth)) == pytest.approx(metrics.average_precision_score(truth, scores))
    for ours, judge in ((roc_auc, metrics.roc_auc_score), (average_precision, metrics.average_precision_score)):
        expected = [judge(truth, scores, sample_weight=row) for row in weights]
        assert ours(scores, truth, weights) == pytest.approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_curves_equal_those_of_scikit_learn(seed: int) -> None:
    scores, truth = drawn(seed)
    for ours, theirs in zip(
        roc_curve(scores, truth), metrics.roc_curve(truth, scores, drop_intermediate=False), strict=True
    ):
        assert ours == pytest.approx(theirs)
    precision, recall, thresholds = metrics.precision_recall_curve(truth, scores)
    ours = precision_recall_curve(scores, truth)
    assert ours[0] == pytest.approx(precision[:-1][::-1])
    assert ours[1] == pytest.approx(recall[:-1][::-1])
    assert ours[2] == pytest.approx(thresholds[::-1])


def test_an_area_without_one_of_the_groups_is_not_defined() -> None:
    assert np.isnan(roc_auc(np.array([0.1, 0.2]), np.array([True, True])))
    assert np.isnan(average_precision(np.array([0.1, 0.2]), np.array([False, False])))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_of_classes_equal_those_of_scikit_learn(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    number = rng.integers(0, classes, 90)
    p = probabilities(rng.normal(size=(90, classes)) + 1.2 * np.eye(classes)[number], exclusive=True)
    names = [f"class {n}" for n in range(classes)]
    ours = score_diagnosis(
        p, np.eye(classes)[number], patients=list(map(str, range(90))), class_names=names, exclusive=True, resamples=0
    )
    said = p.argmax(1)
    assert np.array_equal(ours.confusion, metrics.confusion_matrix(number, said))
    assert ours.overall["accuracy"].value == pytest.approx(metrics.accuracy_score(number, said))
    assert ours.overall["balanced_accuracy"].value == pytest.approx(metrics.balanced_accuracy_score(number, said))
    table = metrics.precision_recall_fscore_support(number, said)
    for place, name in enumerate(names):
        mine = ours.classes[name]
        assert [mine[m].value for m in ("precision", "recall", "f1")] == pytest.approx([t[place] for t in table[:3]])
        assert mine["auc"].value == pytest.approx(metrics.roc_auc_score(number == place, p[:, place]))
        assert mine["specificity"].value == pytest.approx(metrics.recall_score(number != place, said != place))
    if classes == 2:
        assert ours.overall["brier"].value == pytest.approx(metrics.brier_score_loss(number, p[:, 1]))
        assert ours.auc.value == pytest.approx(metrics.roc_auc_score(number, p[:, 1]))
    else:
        assert ours.auc.value == pytest.approx(metrics.roc_auc_score(number, p, multi_class="ovr"))


def test_unknown_findings_count_nowhere() -> None:
    rng = np.random.default_rng(3)
    targets = (rng.random((60, 2)) < 0.4).astype(float)
    targets[:20, 1] = np.nan
    p = rng.random((60, 2))
    ours = score_diagnosis(
        p, targets, patients=list(map(str, range(60))), class_names=["a", "b"], exclusive=False, resamples=0
    )
    assert ours.classes["b"]["auc"].value == pytest.approx(metrics.roc_auc_score(targets[20:, 1], p[20:, 1]))
    assert ours.confusion.sum(axis=(1, 2)).tolist() == [60, 40]
    known = ~np.isnan(targets)
    assert ours.overall["accuracy"].value == pytest.approx(((p >= 0.5) == targets)[known].mean())


def test_intervals_cover_the_truth() -> None:
    """The area of two normal distributions, one standard deviation apart, is known: 0.760."""
    rng, covered, trials = np.random.default_rng(0), 0, 500
    for trial in range(trials):
        truth = np.arange(60) % 2 == 1
        scores = probabilities(np.c_[np.zeros(60), rng.normal(size=60) + truth], exclusive=True)
        found = score_diagnosis(
            scores,
            np.c_[~truth, truth].astype(float),
            patients=list(map(str, range(60))),
            class_names=["no", "yes"],
            exclusive=True,
            resamples=200,
            seed=trial,
        ).auc
        covered += found.low <= 0.7602 <= found.high
    assert covered / trials >= 0.9


def test_images_of_one_patient_are_drawn_together() -> None:
    """Ten copies of each examination say no more than one: the interval must not become narrower."""
    scores, truth = drawn(0, 40)
    p, targets = np.c_[1 - scores, scores], np.c_[~truth, truth].astype(float)
    names = [str(n) for n in range(40)]
    common = {"class_names": ["no", "yes"], "exclusive": True, "resamples": 400}
    once = score_diagnosis(p, targets, patients=names, **common).auc
    tenfold = score_diagnosis(
        np.repeat(p, 10, 0), np.repeat(targets, 10, 0), patients=np.repeat(names, 10), **common
    ).auc
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


def test_temperature_lowers_the_calibration_error_of_other_cases() -> None:
    rng = np.random.default_rng(1)
    number = rng.integers(0, 3, 2000)
    logits = 1.5 * np.eye(3)[number] + rng.normal(size=(2000, 3))
    certain, targets = 4 * logits, np.eye(3)[number]
    temperature = fit_temperature(certain[:1000], targets[:1000], exclusive=True)
    errors = []
    for t in (1.0, temperature):
        p = probabilities(certain[1000:], exclusive=True, temperature=t)
        right = p.argmax(1) == number[1000:]
        errors.append(float(expected_calibration_error(p.max(1), right)))
    assert errors[1] < 0.5 * errors[0]
    same = fit_temperature(2 * certain[:1000], targets[:1000], exclusive=True)
    assert same == pytest.approx(2 * temperature, rel=0.02)
    assert fit_temperature(certain[:5], np.eye(3)[[1] * 5], exclusive=True) == 1.0


def test_a_threshold_by_youden_and_by_sensitivity() -> None:
    scores = np.array([0.05, 0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9, 0.25])
    truth = np.array([False] * 5 + [True] * 5)
    assert choose_threshold(scores, truth) == pytest.approx(0.35)  # finds 4 of 5, calls 1 of 5
    strict = choose_threshold(scores, truth, sensitivity=1.0)
    assert strict == pytest.approx(0.225)
    assert (scores[truth] >= strict).all()
    with pytest.raises(UserError, match="with and without"):
        choose_threshold(scores[:5], truth[:5])


def test_decisions() -> None:
    p = np.array([[0.6, 0.4], [0.2, 0.8]])
    assert decide(p, exclusive=True).argmax(1).tolist() == [0, 1]
    assert decide(p, exclusive=True, thresholds=[0.4]).argmax(1).tolist() == [1, 1]
    assert decide(p, exclusive=False, thresholds=[0.5, 0.9]).tolist() == [[True, False], [False, False]]


def test_reliability_by_hand() -> None:
    confidence, share, counts = reliability(np.array([0.91, 0.99, 0.55]), np.array([1.0, 0.0, 1.0]))
    assert confidence == pytest.approx([0.55, 0.95])
    assert share == pytest.approx([1.0, 0.5])
    assert counts.tolist() == [1, 2]


def test_the_metric_of_a_validation() -> None:
    metric = MeanAUC()
    scores, truth = drawn(5)
    logits, target = torch.tensor(np.c_[np.zeros(80), scores]), torch.tensor(truth.astype(int))
    for part in (slice(0, 30), slice(30, 80)):
        metric.update((logits[part], target[part]))
    assert metric.compute() == pytest.approx(metrics.roc_auc_score(truth, scores))
    metric.reset()
    metric.update((logits[:2], torch.tensor([1, 1])))
    assert metric.compute() == 0.5
