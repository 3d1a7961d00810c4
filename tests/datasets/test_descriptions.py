import json
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.datasets.descriptions import find_description, parse_label_names, read_description
from monai_transfer.errors import UserError

FILE = Path("dataset.json")


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "liver", "2": "spleen"},
        {"background": 0, "liver": 1, "spleen": 2},
        {"2": "spleen", "1": "liver"},
        {"labels": {"liver": 1, "spleen": 2}},
    ],
)
def test_both_conventions(labels: Any) -> None:
    assert parse_label_names(labels, FILE) == {0: "background", 1: "liver", 2: "spleen"}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"whole": [1, 2], "core": 2}, "region"),
        ({"background": 0, "ignore": 3}, "ignore"),
        ({"liver": "one"}, "whole number"),
        ({"liver": 1, "spleen": 1}, "twice"),
        ({"-1": "liver"}, "negative"),
        (["liver"], "not a mapping"),
    ],
)
def test_unusable_names_are_refused(labels: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_label_names(labels, FILE)


def test_channel_names_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"channel_names": {"10": "ADC", "2": "T2"}, "labels": {"background": 0}}))
    assert read_description(path).channel_names == ("T2", "ADC")
    path.write_text(json.dumps({"modality": ["FLAIR"]}))
    assert read_description(path).channel_names == ("FLAIR",)


def test_labels_json_wins(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "a"}, "modality": {"0": "CT"}}))
    (tmp_path / "labels.json").write_text(json.dumps({"b": 1}))
    description = find_description(tmp_path)
    assert description.label_names == {0: "background", 1: "b"}
    assert description.channel_names == ("CT",)


def test_no_description(tmp_path: Path) -> None:
    assert find_description(tmp_path).label_names == {}


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_broken_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json"):
        find_description(tmp_path)
