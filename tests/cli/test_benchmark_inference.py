"""The benchmarks of inference: both sides on one volume, files, and costs as volumes, classes and cases grow."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.machine import has_bfloat16


@pytest.mark.slow
def test_benchmark_inference() -> None:
    options = ["--shape", "48,40,32", "--spacing", "2,2,3", "--roi", "32", "--steps", "1", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, ["benchmark", "inference", *options])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert {"speedup", "memory_ratio", "agreement", "seconds", "skip_empty", "hardware"} <= set(report)
    assert ("bfloat16" in report) == has_bfloat16()
    assert report["agreement"] >= 0.9999
    took = report["processor_seconds"]
    assert report["processor_speedup"] == pytest.approx(took["stock"] / took["ours"], rel=0.05)
    assert set(report["seconds"]["ours"]) == {"read", "preprocess", "network", "restore", "write", "total"}


@pytest.mark.parametrize("shape", ["48,40", "a,b,c", "0,4,4"])
def test_shape_must_be_three_numbers(shape: str) -> None:
    with pytest.raises(UserError, match="--shape"):
        CliRunner().invoke(app, ["benchmark", "inference", "--shape", shape], catch_exceptions=False)


@pytest.mark.slow
def test_benchmark_growth() -> None:
    options = ["--largest", "80,66,65", "--classes", "3", "--cases", "2", "--json"]
    result = CliRunner().invoke(app, ["benchmark", "growth", *options])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    sizes = {name: [point[name] for point in report["series"][name]["points"]] for name in ("classes", "cases")}
    assert sizes == {"classes": [2, 3], "cases": [1, 2]}
    assert [point["shape"] for point in report["series"]["volume"]["points"]] == [[64, 64, 64], [80, 66, 65]]
    for series in report["series"].values():
        assert set(series["exponents"]) == {"processor_seconds", "wall_seconds", "memory_mb"}
        for point in series["points"]:
            assert 0 < point["processor_seconds"] < point["start_seconds"]
            assert point["peak_memory_mb"] == pytest.approx(point["start_mb"] + point["memory_mb"], abs=0.01)


@pytest.mark.parametrize("given", [("--largest", "64,70,70"), ("--classes", "2"), ("--cases", "1")])
def test_growth_needs_two_points(given: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=given[0]):
        CliRunner().invoke(app, ["benchmark", "growth", *given], catch_exceptions=False)


def test_benchmark_files(tmp_path: Path) -> None:
    kept = tmp_path / "files.json"
    options = ["--shape", "40,36,30", "--rounds", "2", "--seed", "1", "--output", str(kept)]
    result = CliRunner().invoke(app, ["benchmark", "files", *options])
    assert result.exit_code == 0
    report = json.loads(kept.read_text())
    for kind in ("image", "labels"):
        seconds, wall = report[kind]["seconds"], report[kind]["wall"]
        assert set(seconds) == {"read", "write", "nibabel_read", "nibabel_write"}
        both = [sum(seconds[side + work][1] for work in ("read", "write")) for side in ("", "nibabel_")]
        assert wall["both"] == pytest.approx(both[0] / both[1], abs=0.01)
    assert report["image"]["size"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("given", [("--shape", "40,36"), ("--shape", "0,4,4"), ("--rounds", "0")])
def test_files_of_no_voxels_are_not_compared(given: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=given[0]):
        CliRunner().invoke(app, ["benchmark", "files", *given], catch_exceptions=False)
