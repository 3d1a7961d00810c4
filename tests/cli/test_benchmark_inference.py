import json

import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError


@pytest.mark.slow
def test_benchmark_inference() -> None:
    options = ["--shape", "48,40,32", "--spacing", "2,2,3", "--roi", "32", "--steps", "1", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, ["benchmark", "inference", *options])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert {"speedup", "memory_ratio", "agreement", "seconds", "bfloat16", "skip_empty", "hardware"} <= set(report)
    assert report["agreement"] >= 0.9999
    assert set(report["seconds"]["ours"]) == {"read", "preprocess", "network", "restore", "write", "total"}


@pytest.mark.parametrize("shape", ["48,40", "a,b,c", "0,4,4"])
def test_shape_must_be_three_numbers(shape: str) -> None:
    with pytest.raises(UserError, match="--shape"):
        CliRunner().invoke(app, ["benchmark", "inference", "--shape", shape], catch_exceptions=False)
