"""Lists of pairs: what is read, and what is refused in one sentence."""

from pathlib import Path

import pytest

from monai_transfer.bundle.pairs import read_pairs
from monai_transfer.errors import UserError

GOOD = 'name = "a"\nsource = "CT"\ntarget = "MR"\n'


def _write(folder: Path, text: str) -> Path:
    path = folder / "pairs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_read(tmp_path: Path) -> None:
    text = f"""
[[pairs]]
{GOOD}
[[pairs]]
name = "brain.t1-t2_2+"
source = "/data/T1"
source_cases = ["sub-0*"]
target = "../T2"
target_cases = ["a", "b"]
test_cases = ["c"]
spacing = [1, 1.5, 2]
steps = 40
learning_rate = 1e-3
window = [-100, 300]
kept_back = true
"""
    first, second = read_pairs(_write(tmp_path, text))
    assert (first.source, first.test, first.kept_back, first.training.steps) == (tmp_path / "CT", None, False, None)
    assert (second.source, second.target) == (Path("/data/T1"), tmp_path / "../T2")
    assert (second.source_cases, second.target_cases, second.test_cases) == (("sub-0*",), ("a", "b"), ("c",))
    assert second.training.given == {
        "spacing": (1.0, 1.5, 2.0),
        "steps": 40,
        "learning_rate": 1e-3,
        "window": (-100.0, 300.0),
        "device": "auto",
    }
    assert second.kept_back


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[pairs]", "is not a TOML file"),
        ("[[pairs]]\nname = 'a'\nname = 'b'", "is not a TOML file"),
        ("", "has no pairs"),
        ("pairs = []", "has no pairs"),
        ("pairs = 'CT'", "has no pairs"),
        ("pairs = ['CT']", "pair 1 is not a table"),
        (f"steps = 3\n[[pairs]]\n{GOOD}", "has 'steps' outside of a pair"),
        ("[[pairs]]\nname = 'a'\nsource = 'CT'", "pair 1: target is missing"),
        (f"[[pairs]]\n{GOOD}colour = 1", "pair 1: colour is not a field; there are name, source"),
        (f"[[pairs]]\n{GOOD}[[pairs]]\n{GOOD.upper()}", "pair 2: NAME is not a field"),
        (f"[[pairs]]\n{GOOD}[[pairs]]\n{GOOD.replace('a', 'A', 1)}", "pair 2: nAme is not a field"),
        (f"[[pairs]]\n{GOOD}[[pairs]]\n{GOOD}", "pair 2: pair 1 has the name a too"),
        (f"[[pairs]]\n{GOOD.replace(chr(34) + 'a', chr(34) + '../a')}", "pair 1: name ../a is not possible"),
        (f"[[pairs]]\n{GOOD.replace('a', '', 1)}", "pair 1: nme is not a field"),
        (f"[[pairs]]\n{GOOD}steps = 0", "pair 1: steps 0 is not possible: give a whole number from 1"),
        (f"[[pairs]]\n{GOOD}spacing = nan", "pair 1: spacing nan is not possible: give a number from 0.01"),
        (f"[[pairs]]\n{GOOD}spacing = [1, 2]", "pair 1: spacing is not possible: give 3 values"),
        (f"[[pairs]]\n{GOOD}window = [200, 100]", "pair 1: window (200.0, 100.0) is not possible"),
        (f"[[pairs]]\n{GOOD}learning_rate = 0", "pair 1: learning_rate 0 is not possible: give a number above 0"),
        (f"[[pairs]]\n{GOOD}network = 'resnet7'", "pair 1: network resnet7 is not"),
        (f"[[pairs]]\n{GOOD}target_cases = 'a*'", "pair 1: target_cases a* is not possible: give a list of names"),
        (f"[[pairs]]\n{GOOD}target_cases = [1]", "pair 1: target_cases 1 is not possible: give text"),
        (f"[[pairs]]\n{GOOD}kept_back = 'perhaps'", "pair 1: kept_back perhaps is not possible: give on or off"),
        (f"[[pairs]]\n{GOOD}test = 3", "pair 1: test 3 is not possible: give text"),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(UserError) as refused:
        read_pairs(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert said in sentence
    assert "\n" not in sentence


def test_names_that_differ_in_capitals_alone_are_one_folder_somewhere(tmp_path: Path) -> None:
    path = _write(tmp_path, f"[[pairs]]\n{GOOD}[[pairs]]\nname = 'A'\nsource = 'CT'\ntarget = 'MR'")
    with pytest.raises(UserError, match="give each its own"):
        read_pairs(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.toml cannot be read"):
        read_pairs(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(UserError, match="is not a TOML file in UTF-8"):
        read_pairs(tmp_path / "latin.toml")
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path)
