"""An estimated Dice with an interval, on labels whose Dice follows a known rule."""

import json
import math
from typing import Any

import numpy as np
import pytest

from monai_transfer.evaluation.dice_estimate import DiceEstimator, conformal_quantile
from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.predicted_dice import KnownLabel


def _known(images: int, *, seed: int, spread: float = 0.05) -> list[KnownLabel]:
    """Dice is the agreement under a shift, 0.1 less for the aorta, give or take."""
    rng = np.random.default_rng(seed)
    return [
        KnownLabel(str(n), LabelEvidence(1.0, shift=x), x - lack + rng.normal(0, spread), label=label)
        for n, x in enumerate(rng.uniform(0.4, 0.8, images))
        for label, lack in (("liver", 0.0), ("aorta", 0.1))
    ]


def _with_errors_by_what_lacks(images: int, *, seed: int) -> list[KnownLabel]:
    """Of a Dice that is off by three tenths of what it lacks to 1.1."""
    rng = np.random.default_rng(seed)
    return [
        KnownLabel(str(n), LabelEvidence(1.0, shift=x), x + rng.normal(0, 0.3 * (1.1 - x)), label="liver")
        for n, x in enumerate(rng.uniform(0.4, 0.8, images))
    ]


def test_nine_of_ten_lie_in_their_interval_and_the_interval_is_no_wider_than_need_be() -> None:
    estimator = DiceEstimator.calibrate(_with_errors_by_what_lacks(2000, seed=0))
    fresh = _with_errors_by_what_lacks(2000, seed=1)
    estimates = [estimator.estimate("liver", one.evidence) for one in fresh]
    inside = [e.low <= one.dice <= e.high for e, one in zip(estimates, fresh, strict=True)]
    assert 0.86 < np.mean(inside) < 0.94
    # the 90 % interval of a normal distribution of deviation 0.3
    assert estimator.factor == pytest.approx(1.645 * 0.3, rel=0.1)


def test_a_label_that_is_worse_than_the_others_is_expected_to_be() -> None:
    estimator = DiceEstimator.calibrate(_known(400, seed=0))
    liver, aorta = (estimator.estimate(label, LabelEvidence(1.0, shift=0.6)) for label in ("liver", "aorta"))
    assert liver.dice - aorta.dice == pytest.approx(0.1, abs=0.02)


def test_a_label_of_few_images_and_an_unknown_one_have_about_the_margin_of_all() -> None:
    rare = [KnownLabel(str(n), LabelEvidence(1.0, shift=0.5), 0.5, label="rare") for n in range(6)]
    estimator = DiceEstimator.calibrate([*_known(200, seed=0), *rare])
    liver, rare_one, unknown = (
        estimator.estimate(label, LabelEvidence(1.0, shift=0.5)) for label in ("liver", "rare", "unknown")
    )
    assert rare_one.high - rare_one.low == pytest.approx(liver.high - liver.low, rel=0.5)
    assert unknown.high - unknown.low == pytest.approx(liver.high - liver.low, rel=0.5)


def test_the_interval_is_wider_where_less_is_expected_and_never_narrower_than_targets_need() -> None:
    estimator = DiceEstimator.calibrate(_known(400, seed=0))
    assert estimator.factor == 0.39  # a deviation of 0.05 alone would make it 0.2
    sure, unsure = (estimator.estimate("liver", LabelEvidence(1.0, shift=x)) for x in (0.8, 0.4))
    assert unsure.high - unsure.dice == pytest.approx(estimator.factor * (1.1 - unsure.dice))
    assert unsure.high - unsure.dice > 2 * (sure.high - sure.dice)


@pytest.mark.parametrize("others", [{"margins": {"liver": 0.1}}, {"error": {}, "factor": 1.7}])
def test_a_bundle_that_was_made_before_estimates_as_it_did_in_the_least_interval(others: dict[str, Any]) -> None:
    estimator = DiceEstimator.calibrate(_known(100, seed=0))
    line = estimator.dice.as_dict()
    before = DiceEstimator.from_dict({**line, **others} if "margins" in others else {"dice": line, **others})
    old, new = (one.estimate("liver", LabelEvidence(1.0, shift=0.6)) for one in (before, estimator))
    assert old.dice == new.dice
    assert old.high - old.dice == pytest.approx(0.39 * (1.1 - old.dice))


def test_estimates_stay_within_0_and_1_and_survive_the_file() -> None:
    estimator = DiceEstimator.calibrate(_known(100, seed=0))
    again = DiceEstimator.from_dict(json.loads(json.dumps(estimator.as_dict())))
    for noise in (-5.0, 0.5, 5.0):
        one = estimator.estimate("liver", LabelEvidence(1.0, shift=noise))
        assert 0 <= one.low <= one.dice <= one.high <= 1
        assert again.estimate("liver", LabelEvidence(1.0, shift=noise)) == one


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        DiceEstimator.calibrate(_known(5, seed=0))


def test_the_quantile_is_the_one_that_the_theorem_asks_for() -> None:
    errors = [n / 10 for n in range(1, 20)]
    assert conformal_quantile(errors, 0.9) == 1.8  # the 18th of 19, for 0.9 * 20 = 18
    assert math.isinf(conformal_quantile(errors[:8], 0.9))
