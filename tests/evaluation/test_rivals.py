"""Weighing two distances of one image, on lags that were made up."""

import json

import pytest

from monai_transfer.evaluation.rivals import OTHER_WAY, Rival


def test_lags_are_weighed_by_their_mean_and_variance() -> None:
    # means -1 and -2, variances 0.02 and 0, each with 1/16 added; the third lies the wrong way
    seen = [{"a": -1.1, "b": -2.0, "c": 0.5}, {"a": -0.9, "b": -2.0, "c": 0.5}] * 2
    rival = Rival.learn(seen)
    assert rival is not None
    a, b = 1 / (0.04 / 3 + 1 / 16), 2 / (1 / 16)
    assert rival.weights == pytest.approx({"a": a / (a + b), "b": b / (a + b), "c": 0.0})
    assert rival.usual == pytest.approx((a + 2 * b) / (a + b))
    assert rival.limit == OTHER_WAY
    assert rival.nearer({"a": -1.0, "b": -2.0, "c": 9.0}) == pytest.approx(-3.0)


def test_the_limit_is_what_an_image_reached_that_was_left_out() -> None:
    seen = [{"a": -1.0}] * 7 + [{"a": 0.6}]
    rival = Rival.learn(seen)
    assert rival is not None
    assert rival.limit == pytest.approx(0.6)
    assert rival.nearer({"a": 0.5}) < 1 < rival.nearer({"a": 0.7})


def test_lags_around_zero_tell_nothing() -> None:
    assert Rival.learn([{"a": 0.2}, {"a": 0.1}, {"a": -0.1}, {"a": 0.1}]) is None


def test_it_survives_the_file() -> None:
    rival = Rival.learn([{"a": -1.0, "b": -0.5}, {"a": -1.2, "b": 0.1}, {"a": -0.9, "b": -0.3}])
    assert rival is not None
    assert Rival.from_dict(json.loads(json.dumps(rival.as_dict()))) == rival
