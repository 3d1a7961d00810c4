"""An estimated Dice with an interval, on labels whose Dice follows a known rule."""

import json
import math

import numpy as np
import pytest

from monai_transfer.evaluation.dice_estimate import DiceEstimator, conformal_quantile
from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.predicted_dice import KnownLabel


def _known(images: int, *, seed: int, spread: float = 0.05) -> list[KnownLabel]:
    """Dice is the agreement under noise, 0.1 less for the aorta, give or take."""
    rng = np.random.default_rng(seed)
    return [
        KnownLabel(str(n), LabelEvidence(1.0, noise=x), x - lack + rng.normal(0, spread), label=label)
        for n, x in enumerate(rng.uniform(0.4, 0.8, images))
        for label, lack in (("liver", 0.0), ("aorta", 0.1))
    ]


@pytest.mark.parametrize("label", ["liver", "aorta"])
def test_nine_of_ten_lie_in_their_interval_and_the_interval_is_no_wider_than_need_be(label: str) -> None:
    estimator = DiceEstimator.calibrate(_known(2000, seed=0))
    fresh = [one for one in _known(2000, seed=1) if one.label == label]
    estimates = [estimator.estimate(label, one.evidence) for one in fresh]
    inside = [e.low <= one.dice <= e.high for e, one in zip(estimates, fresh, strict=True)]
    assert 0.86 < np.mean(inside) < 0.94
    # the 90 % interval of a normal distribution of deviation 0.05
    assert estimates[0].high - estimates[0].low == pytest.approx(2 * 1.645 * 0.05, rel=0.1)


def test_a_label_that_is_worse_than_the_others_is_expected_to_be() -> None:
    estimator = DiceEstimator.calibrate(_known(400, seed=0))
    liver, aorta = (estimator.estimate(label, LabelEvidence(1.0, noise=0.6)) for label in ("liver", "aorta"))
    assert liver.dice - aorta.dice == pytest.approx(0.1, abs=0.02)


def test_a_label_of_few_images_has_the_margin_of_all_and_an_unknown_one_the_largest() -> None:
    rare = [KnownLabel(str(n), LabelEvidence(1.0, noise=0.5), 0.5, label="rare") for n in range(6)]
    estimator = DiceEstimator.calibrate([*_known(200, seed=0), *rare])
    errors = sorted(m for label, m in estimator.margins.items() if label != "rare")
    assert 0.5 * errors[0] < estimator.margins["rare"] <= errors[-1]
    unknown = estimator.estimate("unknown", LabelEvidence(1.0, noise=0.6))
    assert unknown.high - unknown.dice == pytest.approx(max(estimator.margins.values()))


def test_estimates_stay_within_0_and_1_and_survive_the_file() -> None:
    estimator = DiceEstimator.calibrate(_known(100, seed=0))
    again = DiceEstimator.from_dict(json.loads(json.dumps(estimator.as_dict())))
    for noise in (-5.0, 0.5, 5.0):
        one = estimator.estimate("liver", LabelEvidence(1.0, noise=noise))
        assert 0 <= one.low <= one.dice <= one.high <= 1
        assert again.estimate("liver", LabelEvidence(1.0, noise=noise)) == one


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        DiceEstimator.calibrate(_known(10, seed=0))


def test_the_quantile_is_the_one_that_the_theorem_asks_for() -> None:
    errors = [n / 10 for n in range(1, 20)]
    assert conformal_quantile(errors, 0.9) == 1.8  # the 18th of 19, for 0.9 * 20 = 18
    assert math.isinf(conformal_quantile(errors[:8], 0.9))
