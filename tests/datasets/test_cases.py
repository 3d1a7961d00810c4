from pathlib import Path

import pytest

from monai_transfer.datasets import Case, CaseDataset
from monai_transfer.errors import UserError


def dataset(count: int = 5) -> CaseDataset:
    cases = tuple(
        Case(f"case_{n}", (Path(f"i/{n}.nii.gz"),), Path(f"l/{n}.nii.gz") if n % 2 else None) for n in range(count)
    )
    return CaseDataset(Path("root"), cases, {0: "background", 2: "spleen"})


def test_items_are_a_monai_datalist() -> None:
    assert dataset(2).items() == [
        {"name": "case_0", "image": "i/0.nii.gz"},
        {"name": "case_1", "image": "i/1.nii.gz", "label": "l/1.nii.gz"},
    ]


def test_several_channels_are_a_list() -> None:
    case = Case("a", (Path("a_0000.nii"), Path("a_0001.nii")))
    assert case.as_item()["image"] == ["a_0000.nii", "a_0001.nii"]


def test_labelled_and_unlabelled() -> None:
    assert dataset().labelled.names == ("case_1", "case_3")
    assert dataset().unlabelled.names == dataset().names
    assert all(case.label is None for case in dataset().unlabelled.cases)


def test_select_by_pattern() -> None:
    assert dataset(12).select(["case_1*", "case_2"]).names == ("case_1", "case_2", "case_10", "case_11")
    with pytest.raises(UserError, match=r"'nobody\*'.*case_0"):
        dataset().select(["case_0", "nobody*"])


@pytest.mark.parametrize("name", ["scan[1]", "a*b", "what?", "$x", "@y", "%z", "[!a]", "a,b", "ä ö"])
def test_only_takes_names_as_they_are(name: str) -> None:
    both = CaseDataset(Path("root"), (Case(name, (Path("a.nii"),)), Case("scan1", (Path("b.nii"),))))
    assert both.only([name]).names == (name,)
    assert both.select([name]).names == (name,)
    assert both.only([]).names == ()
    with pytest.raises(UserError, match=r"'scan\*'.*scan1"):
        both.only(["scan*"])


def test_without() -> None:
    assert dataset().without({"case_0", "case_4"}).names == ("case_1", "case_2", "case_3")


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.4, 2), (0.5, 2), (0.7, 4)])
def test_split_takes_the_last_names(share: float, held: int) -> None:
    first, second = dataset().split(share)
    assert len(second) == held
    assert first.names + second.names == dataset().names


@pytest.mark.parametrize(("count", "share"), [(1, 0.2), (5, 1.0), (0, 0.5)])
def test_split_leaves_no_set_empty(count: int, share: float) -> None:
    with pytest.raises(UserError, match="too few"):
        dataset(count).split(share)


def test_names_for_values_without_a_name() -> None:
    assert dataset().names_for([7]) == {0: "background", 2: "spleen", 7: "label_7"}
