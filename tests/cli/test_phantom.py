import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.datasets import read_dataset
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms

RUNNER = CliRunner()


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_writes_a_data_set(tmp_path: Path, modality: str) -> None:
    arguments = ["phantom", "--output", str(tmp_path), "--modality", modality, "--subjects", "2", "--size", "0.15"]
    result = RUNNER.invoke(app, [*arguments, "--seed", "3", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["cases"] == [f"{modality}_001", f"{modality}_002"]
    assert len(read_dataset(tmp_path).labelled) == 2


@pytest.mark.parametrize("wrong", [["--modality", "pet"], ["--modality", "ct", "--subjects", "many"], []])
def test_wrong_usage(tmp_path: Path, wrong: list[str]) -> None:
    assert RUNNER.invoke(app, ["phantom", "--output", str(tmp_path), *wrong]).exit_code == 2


@pytest.mark.parametrize("name", ["dataset.json", "images/sub-01.nii.gz"])
def test_a_data_set_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"name": "Task09", "labels": {"1": "spleen"}}')
    with pytest.raises(UserError, match="not of phantoms"):
        write_phantoms(tmp_path, modality="ct", subjects=1, size=0.15)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [name]


def test_help_has_an_example() -> None:
    assert "Example" in RUNNER.invoke(app, ["phantom", "--help"]).stdout
