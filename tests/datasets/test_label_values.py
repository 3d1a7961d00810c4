from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_transfer.datasets import Case
from monai_transfer.datasets.label_values import LabelMap, LabelValueError, judge_values, read_values

CASE = Case("a", (Path("a.nii"),), Path("l.nii"))


def label_of(*values: float, dtype: Any = np.float32) -> LabelMap:
    return read_values(CASE, Path("l.nii"), np.resize(np.array(values, dtype), (3, 4, 5)))


def map_of(name: str, *values: int) -> LabelMap:
    return LabelMap(Case(name, (Path(f"{name}.nii"),)), Path(f"{name}-label.nii"), dict.fromkeys((0, *values), 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64, bool])
def test_values_are_counted_in_any_type(dtype: Any) -> None:
    assert label_of(0, 1, 1, dtype=dtype).counts == {0: 20, 1: 40}


@pytest.mark.parametrize("values", [(0, 17, 2035), (0, 255), (0, 65535), (1, 2), (0, 300, 299)])
def test_gaps_are_accepted(values: tuple[int, ...]) -> None:
    assert sorted(label_of(*values).counts) == sorted(values)
    assert label_of(*values).rounded == 0


@pytest.mark.parametrize("value", [0.99999, 1.0009, 0.9991])
def test_nearly_whole_values_are_rounded(value: float) -> None:
    label = label_of(0, value, 2)
    assert sorted(label.counts) == [0, 1, 2]
    assert label.rounded == pytest.approx(abs(value - 1), abs=1e-6)
    assert [warning.kind for warning in judge_values([label], {}, Path("root"))[1]] == ["label_rounded"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0, 0.5, 1), "probabilities"),
        ((0, 0.01, 0.99), "probabilities"),
        ((0, 1.5, 2), r"1\.5.*nearest neighbour"),
        ((0, 1, 2.01), r"2\.01.*nearest neighbour"),
        ((0, 40.7, 200), "nearest neighbour"),
        ((-1, 0, 1), "label value -1"),
        ((-0.5, 0, 1), r"label value -0\.5"),
        ((-1024, 0, 1000), "label value -1024"),
        ((0, 1e8), "100000000, above 65535"),
        ((0, 65536), "65536, above"),
        ((0, 3e38), "above"),
        ((0, np.nan), "whole numbers"),
    ],
)
def test_what_is_no_label_is_refused_with_its_remedy(values: tuple[float, ...], words: str) -> None:
    with pytest.raises(LabelValueError, match=words):
        label_of(*values)


def test_an_image_is_no_label_map() -> None:
    voxels = np.arange(1728, dtype=np.int16).reshape(12, 12, 12)
    with pytest.raises(LabelValueError, match="1728 different values"):
        read_values(CASE, Path("l.nii"), voxels)


@pytest.mark.parametrize("white", [255, 65535, 127])
@pytest.mark.parametrize("names", [{}, {0: "background", 1: "ball"}])
def test_white_masks_among_masks_of_one(white: int, names: dict[int, str]) -> None:
    faults, _ = judge_values([map_of("a", 1), map_of("b", white), map_of("c", 1)], names, Path("root"))
    assert [fault.kind for fault in faults] == ["label_mix"]
    for word in ("b-label.nii", str(white), "a-label.nii", "with 1"):
        assert word in faults[0].message


@pytest.mark.parametrize(
    ("maps", "names"),
    [
        ([map_of("a", 255), map_of("b", 255)], {}),
        ([map_of("a", 1, 255), map_of("b", 1, 255)], {}),
        ([map_of("a", 1), map_of("b", 255)], {0: "background", 1: "cord", 255: "marrow"}),
        ([map_of("a", 1), map_of("b", 2)], {}),
    ],
)
def test_values_that_belong_together(maps: list[LabelMap], names: dict[int, str]) -> None:
    assert judge_values(maps, names, Path("root")) == ([], [])


@pytest.mark.parametrize("empty", [1, 2, 3])
def test_some_cases_without_foreground_are_a_note(empty: int) -> None:
    maps = [map_of(f"e{n}") for n in range(empty)] + [map_of("full", 1)]
    faults, warnings = judge_values(maps, {0: "background", 1: "lesion"}, Path("root"))
    assert faults == []
    assert [warning.kind for warning in warnings] == ["label_empty"] * empty


@pytest.mark.parametrize("empty", [1, 2, 3])
def test_no_foreground_anywhere_is_a_fault(empty: int) -> None:
    faults, warnings = judge_values([map_of(f"e{n}") for n in range(empty)], {}, Path("root"))
    assert [fault.kind for fault in faults] == ["label_empty"] * empty
    assert warnings == []
