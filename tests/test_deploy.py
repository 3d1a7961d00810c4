"""The examples of deploy/ pass their own linters, where those are installed, and name options that there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from monai_transfer.cli.app import app

DEPLOY = Path(__file__).parents[1] / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*/*.sh"))
CHECKS = {
    "bash": ["bash", "-n"],
    "shellcheck": ["shellcheck"],
    "hadolint": ["hadolint", "--failure-threshold", "info", str(DEPLOY / "Dockerfile")],
    "yamllint": ["yamllint", "--strict", "--config-file", str(DEPLOY / ".yamllint.yaml"), str(DEPLOY)],
    "kubernetes-validate": ["kubernetes-validate", "--strict", *map(str, (DEPLOY / "kubernetes").glob("*.yaml"))],
    "snakemake": ["snakemake", "--lint", "--snakefile", str(DEPLOY / "snakemake" / "Snakefile")],
}


def _run(command: list[str], where: Path) -> None:
    beside = Path(sys.executable).parent
    program = shutil.which(command[0], path=str(beside)) or shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed: pip install {command[0]}")
    done = subprocess.run([program, *command[1:]], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_their_own_linter_passes(name: str, tmp_path: Path) -> None:
    for files in [[str(script)] for script in SCRIPTS] if name in ("bash", "shellcheck") else [[]]:
        _run([*CHECKS[name], *files], tmp_path)


def test_the_options_are_those_of_segment() -> None:
    command = typer.main.get_command(app).commands["segment"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and "segment" in path.read_text()]
    assert len(files) >= 6
    for path in files:
        text = "\n".join(line for line in path.read_text().splitlines() if "snakemake " not in line)
        for call in re.findall(r"monai-transfer segment (.*?)(?:\n\n|\Z)", text.replace("\\\n", " "), re.S):
            assert set(re.findall(r"(?<=\s)(--[a-z][a-z-]+)", call)) <= known, path
