"""What is planned for a data set: cubes, or voxels as long as slices are thick."""

import math
from dataclasses import replace

import pytest
import torch

from monai_transfer.bundle.plan import Plan, make_plan
from monai_transfer.datasets import Fingerprint
from tests.bundle.test_pacing import BODY

USUAL = 300_000
"""Voxels of a volume on a CPU."""


def planned(target: tuple[float, float, float], source: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> Plan:
    def body(spacing: tuple[float, float, float]) -> Fingerprint:
        return replace(BODY, spacing=spacing)

    names = {0: "background", 1: "a", 2: "b"}
    return make_plan(body(source), body(target), label_names=names, device=torch.device("cpu"))


def voxels(plan: Plan) -> float:
    return math.prod(length / step for length, step in zip(BODY.extent_mm, plan.spacing, strict=True))


def test_thin_slices_are_seen_in_cubes() -> None:
    # 400 × 320 × 300 mm in 300 000 voxels
    assert planned((1.0, 1.0, 5.0)).spacing == (5.05, 5.05, 5.05)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ((1.25, 1.25, 7.7), (4.1, 4.1, 7.7)),  # sqrt(128 / 7.7) = 4.08
        ((8.0, 1.0, 1.0), (8.0, 4.0, 4.0)),
        ((1.0, 1.0, 40.0), (4.0, 4.0, 8.0)),  # no voxel is longer than two widths: 128 / 2 = 4³
    ],
)
def test_voxels_are_as_long_as_the_targets_slices_are_thick(
    target: tuple[float, float, float], expected: tuple[float, float, float]
) -> None:
    plan = planned(target)
    assert plan.spacing == pytest.approx(expected)
    assert 0.95 * USUAL < voxels(plan) <= USUAL  # as many as of cubes


def test_slices_of_the_source_are_not_those_of_the_target() -> None:
    assert planned((1.0, 1.0, 2.0), source=(1.0, 1.0, 9.0)).spacing == (5.05, 5.05, 5.05)


def test_no_voxel_is_narrower_than_what_was_measured() -> None:
    small = replace(BODY, spacing=(1.0, 1.0, 5.0), extent_mm=(60.0, 60.0, 60.0))
    plan = make_plan(small, small, label_names={0: "background", 1: "a"}, device=torch.device("cpu"))
    assert plan.spacing == (1.0, 1.0, 2.0)
