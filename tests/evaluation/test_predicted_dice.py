"""A prediction of Dice, against an independent least-squares solution and on pairs that break the rule."""

import json

import numpy as np
import pytest

from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.predicted_dice import DicePredictor, KnownLabel, prediction_errors


def _known(pair: str, count: int, *, offset: float = 0.0, seed: int = 0) -> list[KnownLabel]:
    """Dice is 0.2 + 0.5 noise - 0.1 |size| + offset."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        noise, size = rng.uniform(0, 1), rng.uniform(-1, 1)
        evidence = LabelEvidence(found=1.0, noise=noise, size=size)
        found.append(KnownLabel(pair, evidence, 0.3 + 0.5 * noise - 0.1 * abs(size) + offset))
    return found


def test_a_linear_rule_is_found_again() -> None:
    known = _known("a", 400) + _known("b", 400, seed=1)
    predictor = DicePredictor.fit(known)
    assert predictor.predict(LabelEvidence(found=1.0, noise=0.6, size=-0.5)) == pytest.approx(0.55, abs=0.01)
    assert predictor.predict(LabelEvidence(found=1.0, noise=0.6, size=0.5)) == pytest.approx(0.55, abs=0.01)


def test_the_weights_are_those_of_ridge_regression() -> None:
    """Against the augmented least-squares problem, which is the same in another form."""
    known = _known("a", 60)
    predictor = DicePredictor.fit(known)
    values = np.array([[one.evidence.noise, abs(one.evidence.size or 0.0)] for one in known])
    x = (values - values.mean(0)) / values.std(0)
    y = np.array([one.dice for one in known])
    expected, *_ = np.linalg.lstsq(np.vstack([x, np.eye(2)]), np.append(y - y.mean(), [0, 0]), rcond=None)
    assert predictor.weights[[1, 7]] == pytest.approx(expected, rel=1e-3)
    assert predictor.intercept == pytest.approx(y.mean())


def test_what_is_not_known_counts_as_its_mean() -> None:
    known = _known("a", 100)
    predictor = DicePredictor.fit(known)
    mean = float(np.mean([one.evidence.noise for one in known]))
    assert predictor.predict(LabelEvidence(1.0, size=0.3)) == pytest.approx(
        predictor.predict(LabelEvidence(1.0, noise=mean, size=0.3)), abs=1e-4
    )


def test_every_pair_weighs_the_same() -> None:
    predictor = DicePredictor.fit(_known("a", 300) + _known("b", 30, offset=0.2, seed=1))
    balanced = DicePredictor.fit(_known("a", 300) + _known("b", 300, offset=0.2, seed=1))
    evidence = LabelEvidence(1.0, noise=0.5, size=0.0)
    assert predictor.predict(evidence) == pytest.approx(balanced.predict(evidence), abs=0.02)


def test_the_error_on_a_pair_is_that_of_what_the_others_teach() -> None:
    known = _known("a", 100) + _known("b", 100, seed=1) + _known("odd", 100, offset=0.2, seed=2)
    errors = prediction_errors(known, kept_back=("odd",))
    assert errors["a"] == pytest.approx(0.0, abs=0.01)
    assert errors["odd"] == pytest.approx(0.2, abs=0.01)
    taught = prediction_errors(known)
    assert taught["a"] == pytest.approx(0.1, abs=0.01)  # half of what it learnt from is 0.2 too high


def test_a_prediction_is_a_dice() -> None:
    predictor = DicePredictor.fit(_known("a", 100))
    assert predictor.predict(LabelEvidence(1.0, noise=9.0)) == 1.0
    assert predictor.predict(LabelEvidence(1.0, noise=-9.0)) == 0.0


def test_a_rule_survives_its_file() -> None:
    predictor = DicePredictor.fit(_known("a", 100))
    content = json.loads(json.dumps(predictor.as_dict()))
    again = DicePredictor.from_dict(content)
    evidence = LabelEvidence(1.0, noise=0.4, size=-0.2, piece=0.5)
    assert again.predict(evidence) == predictor.predict(evidence)
    del content["quantities"]["piece"]  # as of a version that did not know it
    assert DicePredictor.from_dict(content).predict(evidence) == pytest.approx(predictor.predict(evidence), abs=1e-3)


def test_what_was_not_measured_needs_no_labels() -> None:
    known = _known("a", 9)  # three for each of found, noise and size
    assert 0 < DicePredictor.fit(known).predict(LabelEvidence(1.0, noise=0.5)) < 1
    with pytest.raises(ValueError, match="8 known labels are too few: a prediction needs at least 9"):
        DicePredictor.fit(known[:8])


def test_too_few_labels_teach_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        DicePredictor.fit(_known("a", 5))
    assert prediction_errors(_known("a", 100)) == {}
