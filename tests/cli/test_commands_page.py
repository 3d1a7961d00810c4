"""The page of commands and the commands agree, and so does the contract beside the project where it is there."""

import re
from pathlib import Path

import pytest
import typer

from monai_transfer.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
CONTRACT = Path(__file__).parents[3] / "shared" / "COMMANDS.md"
ABSENT = {
    "export": {"--int8", "--calibrate"},
    "train": {"--weights"},
    "adapt": {"--minutes"},
}
"""What the contract has and the commands have not yet; this only shrinks."""


def commands() -> dict[str, set[str]]:
    """Command -> options; a group has those of all its commands."""
    root = typer.main.get_command(app)
    found = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        parts = [command, *getattr(command, "commands", {}).values()]
        found[name] = {option for part in parts for parameter in part.params for option in parameter.opts}
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


def test_the_contract_holds() -> None:
    if not CONTRACT.is_file():
        pytest.skip("the contract is not here: ../shared/COMMANDS.md is absent")
    there = commands()
    gone = {
        name: options - there.get(name, set()) - ABSENT.get(name, set()) for name, options in rows(CONTRACT).items()
    }
    assert {name: options for name, options in gone.items() if options} == {}
