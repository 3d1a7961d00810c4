"""Descriptions as editors, scripts and strangers leave them: read as they are meant, or refused in one sentence."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.datasets import CaseDataset, read_dataset
from monai_transfer.errors import UserError

NNUNET_2 = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "ball": 1},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of one case, ``a``."""
    for name in ("images/a.nii.gz", "labels/a.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def described(root: Path, content: Any, encoding: str = "utf-8") -> CaseDataset:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "dataset.json").write_bytes(text.encode(encoding))
    return read_dataset(root)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_of_unicode(root: Path, encoding: str) -> None:
    dataset = described(root, NNUNET_2 | {"labels": {"background": 0, "Bällchen": 1}}, encoding)
    assert dataset.label_names == {0: "background", 1: "Bällchen"}
    assert dataset.channel_names == ("CT",)


@pytest.mark.parametrize(
    "labels",
    [
        {"ball": 1},
        {"1": "ball"},
        {"ball": [1]},
        {"background": [0], "ball": [1]},
        {"background": 0, "ball": 1.0},
        {"0": "background", "1": "ball"},
    ],
)
def test_ways_to_write_labels(root: Path, labels: Any) -> None:
    assert described(root, {"labels": labels}).label_names == {0: "background", 1: "ball"}


@pytest.mark.parametrize("values", [{"a": 17, "b": 2035}, {"a": 255}, {"2": "a"}, {"a": 65535}])
def test_label_values_with_gaps(root: Path, values: Any) -> None:
    assert set(described(root, {"labels": values}).label_names) - {0} == {
        int(key) if isinstance(value, str) else value for key, value in values.items()
    }


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"whole": [1, 2], "core": [2]}, "region of several"),
        ({"whole": []}, "region of several"),
        ({"core": [[1]]}, "whole number"),
        ({"background": 0, "ignore": 2}, "'ignore' label"),
        ({"2": "Ignore"}, "'ignore' label"),
        ({"ball": None}, "whole number"),
        ({"ball": True}, "whole number"),
        ({"ball": 1.5}, "whole number"),
        ({"ball": {"value": 1}}, "whole number"),
        ({"1": ""}, "no name"),
        ({"1": "a", "2": "a"}, "two label values"),
        ({"a": 1, "b": 1}, "named twice"),
        ({"-1": "a"}, "negative"),
        ({"a": 10**8}, "above 65535"),
        ({"a": 65536}, "above 65535"),
        ({"background": 1, "ball": 0}, "renumber it to 0"),
        ("ball", "not a mapping"),
        ([0, 1], "not a mapping"),
        (3, "not a mapping"),
    ],
)
def test_labels_that_are_refused(root: Path, labels: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.json.*{words}"):
        described(root, {"labels": labels})


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        *[("channel_names", value, "channel_names") for value in (3, {"0": 1}, {"T1": "0"}, [1, 2], True)],
        *[("modality", value, "channel_names") for value in ({"0": None}, {"0": "T1", "00": "T2"}, 1.5)],
        *[("training", value, "not a list") for value in ({"image": "a"}, "a.nii.gz", 4)],
        *[("test", value, "not a list") for value in (True, {"a": 1}, "all")],
        *[("dataset", value, "not a mapping") for value in (["a"], 5, True)],
        *[("numTraining", value, "numTraining") for value in (-1, "four", 2.5, [4], True)],
        *[("file_ending", value, "file_ending") for value in (".png", 3, "", [".nii.gz"])],
    ],
)
def test_fields_of_the_wrong_type(root: Path, field: str, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.json.*{words}"):
        described(root, {field: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"labels":' * 100_000, "nested too deeply"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"labels": {"a": NaN}}', "NaN"),
        ('{"numTraining": Infinity}', "Infinity"),
        ('{"numTraining": -Infinity}', "Infinity"),
        ('{"labels": {"a": 1, "a": 2}}', "stands twice"),
        ('{"labels": {"a": 1}, "labels": {"b": 1}}', "stands twice"),
        ('{"training": [{"image": "a", "image": "b"}]}', "stands twice"),
        ('{"numTraining": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("{'labels': {}}", "cannot be read as JSON"),
        ('{"labels": {"a": 1},}', "cannot be read as JSON"),
        ("[]", "does not hold an object"),
        ("null", "does not hold an object"),
        ('"text"', "does not hold an object"),
    ],
)
def test_what_is_no_json(root: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.json.*{words}") as caught:
        described(root, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp850"])
def test_other_encodings_are_refused(root: Path, encoding: str) -> None:
    with pytest.raises(UserError, match="UTF-8"):
        described(root, '{"labels": {"Bällchen": 1}}', encoding)


@pytest.mark.parametrize("name", ["dataset.json", "labels.json"])
def test_descriptions_that_are_no_files(root: Path, name: str) -> None:
    path = root / name
    os.mkfifo(path)  # reading it would wait for ever
    with pytest.raises(UserError, match="not a regular file"):
        read_dataset(root)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="not a regular file"):
        read_dataset(root)
    path.rmdir()
    path.symlink_to("nowhere.json")
    with pytest.raises(UserError, match="is missing"):
        read_dataset(root)


def test_the_mapping_of_nnunet_2(root: Path) -> None:
    mapping = {
        "b": {"images": ["scans/x.nii.gz", "scans/y.nii.gz"], "label": "masks/x.nii.gz"},
        "a$": {"images": ["x.nii.gz"]},
    }
    dataset = described(root, NNUNET_2 | {"channel_names": {"0": "T1", "1": "T2"}, "dataset": mapping})
    assert dataset.names == ("a$", "b")
    assert dataset.cases[1].images == (root / "scans/x.nii.gz", root / "scans/y.nii.gz")
    assert dataset.cases[1].label == root / "masks/x.nii.gz"
    assert {warning.kind for warning in dataset.warnings} == {"unlisted", "case_count"}


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\nb", "x" * 300, "\0"])
def test_names_in_the_mapping_that_are_no_names(root: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name"):
        described(root, NNUNET_2 | {"dataset": {name: {"images": ["a.nii.gz"]}}})


@pytest.mark.parametrize(
    "entry",
    [
        {"images": []},
        {"images": [1]},
        {"label": "a.nii.gz"},
        "a.nii.gz",
        None,
        {"images": ["a.nii.gz", "a.nii.gz"]},
        {"images": ["a.nii.gz"], "label": 1},
        {"images": ["a.nii.gz"], "label": ["b.nii.gz", "c.nii.gz"]},
        {"images": ["a.nii.gz"], "label": "a.nii.gz"},
        {"images": ["\0"]},
    ],
)
def test_entries_of_the_mapping_that_are_refused(root: Path, entry: Any) -> None:
    with pytest.raises(UserError, match=r"dataset\.json"):
        described(root, {"dataset": {"a": entry}})


@pytest.mark.parametrize("count", [0, 2, 100])
def test_another_count_of_cases_is_told(root: Path, count: int) -> None:
    dataset = described(root, {"numTraining": count})
    assert [warning.kind for warning in dataset.warnings] == ["case_count"]
    assert str(count) in dataset.warnings[0].message


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ({"training": [{"image": "./images/a.nii.gz", "label": "./corrected/a.nii.gz"}]}, "corrected/a.nii.gz"),
        ({"training": [{"image": ["images/a.nii.gz"], "label": ["corrected/b.nii.gz"]}]}, "corrected/b.nii.gz"),
        ({"validation": [{"image": "images/a.nii.gz", "label": "corrected/a.nii.gz"}]}, "corrected/a.nii.gz"),
        ({"dataset": {"a": {"images": ["images/a.nii.gz"], "label": "corrected/a.nii.gz"}}}, "corrected/a.nii.gz"),
        ({"training": [{"image": "./images/a.nii.gz"}]}, None),
    ],
)
def test_labels_of_the_list_win_over_the_folder(root: Path, content: Any, label: str | None) -> None:
    (case,) = described(root, content).cases
    assert case.label == (None if label is None else root / label)
