from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from monai_transfer.text import literal, plain

CANARY = "canary"
HOSTILE = [
    f"$__import__('pathlib').Path('{CANARY}').touch()",
    f"$open('{CANARY}', 'w')",
    f"$import os; os.system('touch {CANARY}')",
    "$from os import system",
    "$",
    "$@victim",
    "$'a' + @victim",
    "@victim",
    "@victim::0",
    "@victim#0",
    "@#victim",
    "@##victim",
    "@",
    "%victim",
    "%/etc/passwd",
    "%/etc/passwd::root",
    "%#victim",
    "%",
    "a $victim",
    "a @victim b",
    "50% off",
    "scan#1",
    "scan::1",
    ":",
    "::",
    "scan[1]",
    "*",
    "?",
    "'",
    '"',
    "'\"",
    "\\",
    "\\$",
    "$\\",
    "$'\\x24'",
    "\n$x",
    "$\n",
    "{x}",
    "${victim}",
    "$$",
    "\x00$",
    "naïve @ 左",
    "$" + "x" * 300,
    "_target_",
    "$monai.utils.module",
    "",
]


def parsed(config: dict, key: str) -> object:
    return ConfigParser(config).get_parsed_content(key)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_string_stays_a_string(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"victim": ["a"], "name": literal(text), "nested": {"names": [literal(text)]}, "all": "@nested#names"}
    assert parsed(config, "name") == text
    assert parsed(config, "all") == [text]
    assert not list(tmp_path.iterdir())
    assert plain(literal(text)) == text


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("$@%#:'\"\\ \n{}[]ab_1é"), max_size=12))
def test_any_string_stays_what_it_is(text: str) -> None:
    assert parsed({"a": 1, "b": [2], "name": literal(text)}, "name") == text


def test_harmless_strings_stay_readable() -> None:
    assert literal("left kidney (2 mm), 70 kV: 1") == "left kidney (2 mm), 70 kV: 1"


def test_the_corpus_is_dangerous_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parsed({"name": HOSTILE[0]}, "name")
    assert (tmp_path / CANARY).exists()
