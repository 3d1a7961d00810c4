"""The page of commands and the commands agree, and so does the contract beside the project where it is there."""

import ast
import re
from pathlib import Path

import pytest
import typer

from monai_transfer.cli.app import app

TESTS = Path(__file__).parents[1]
PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
CONTRACT = Path(__file__).parents[3] / "shared" / "COMMANDS.md"
ABSENT = {"train": {"--weights"}, "adapt": {"--minutes"}}
"""What the contract has and the commands have not yet; this only shrinks."""


def commands() -> dict[str, set[str]]:
    """Command -> options; a group has those of all its commands."""
    root = typer.main.get_command(app)
    found = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        parts = [command, *getattr(command, "commands", {}).values()]
        parameters = [parameter for part in parts for parameter in part.params]
        found[name] = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
    return found


def rows(page: Path) -> dict[str, set[str]]:
    """Command -> options that its row names; several rows of one command together."""
    found: dict[str, set[str]] = {}
    for row in re.findall(r"^\| `(.+)$", page.read_text(), re.M):
        found.setdefault(row.split()[0].strip("`"), set()).update(re.findall(r"--[a-z0-9-]+", row))
    return found


def test_every_command_has_a_row() -> None:
    assert set(commands()) == set(rows(PAGE))


@pytest.mark.parametrize("command", sorted(rows(PAGE)))
def test_every_option_of_a_row_exists(command: str) -> None:
    assert rows(PAGE)[command] - commands()[command] == set()


def typed(path: Path) -> tuple[set[str], set[str]]:
    """The words and the options in the strings of a test."""
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    strings = {value for value in constants if isinstance(value, str)}
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join(strings)))
    return {string.split()[0] for string in strings if string.split()}, options


def test_every_row_is_typed_by_a_test() -> None:
    """For each command and option there is a test in whose strings the command stands and the option too."""
    tests = [typed(path) for path in TESTS.rglob("*.py") if path != Path(__file__)]
    missing = {}
    pages = [rows(PAGE), rows(CONTRACT)] if CONTRACT.is_file() else [rows(PAGE)]
    for command, options in (row for page in pages for row in page.items()):
        there = [words for first, words in tests if command in first]
        assert there, f"no test types {command}"
        if left := options - set().union(*there) - ABSENT.get(command, set()):
            missing[command] = left
    assert missing == {}


def test_the_contract_holds() -> None:
    if not CONTRACT.is_file():
        pytest.skip("the contract is not here: ../shared/COMMANDS.md is absent")
    there = commands()
    gone = {
        name: options - there.get(name, set()) - ABSENT.get(name, set()) for name, options in rows(CONTRACT).items()
    }
    assert {name: options for name, options in gone.items() if options} == {}
