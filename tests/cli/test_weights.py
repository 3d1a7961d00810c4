import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.weights import network_named
from tests.weights.published import write_published

RUNNER = CliRunner()


@pytest.fixture
def medicalnet(tmp_path: Path) -> Path:
    return write_published("medicalnet_resnet10", tmp_path)


def test_list() -> None:
    result = RUNNER.invoke(app, ["weights", "list"])
    assert result.exit_code == 0, result.output
    assert "medicalnet:resnet18" in result.stdout
    assert "imagenet:inception_v3" in result.stdout
    content = json.loads(RUNNER.invoke(app, ["weights", "list", "--json"]).stdout)
    entry = next(entry for entry in content if entry["name"] == "imagenet:vgg16")
    assert entry["file"] == "vgg16-397923af.pth"
    assert entry["sha256"] == "397923af"


def test_inspect(medicalnet: Path) -> None:
    result = RUNNER.invoke(app, ["weights", "inspect", str(medicalnet)])
    assert result.exit_code == 0, result.output
    assert "MedicalNet ResNet-10" in " ".join(result.stdout.split())
    content = json.loads(RUNNER.invoke(app, ["weights", "inspect", str(medicalnet), "--json"]).stdout)
    assert content["tensors"]["module.conv1.weight"] == [64, 1, 7, 7, 7]
    assert content["wrapper"] == "state_dict"


def test_verify(medicalnet: Path) -> None:
    result = RUNNER.invoke(app, ["weights", "verify", str(medicalnet), "--network", "resnet10"])
    assert result.exit_code == 0, result.output
    assert "100.0% of the encoder is covered" in " ".join(result.stdout.split())
    assert "level4" in result.stdout


def test_verify_fails_with_status_1(medicalnet: Path) -> None:
    result = RUNNER.invoke(app, ["weights", "verify", str(medicalnet), "--network", "vgg11", "--json"])
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["enough"] is False
    assert content["layout"].startswith("a MedicalNet ResNet-10")


def test_verify_a_bundle(medicalnet: Path, tmp_path: Path) -> None:
    configs = tmp_path / "bundle" / "configs"
    configs.mkdir(parents=True)
    definition = {"_target_": "FlexibleUNet", "in_channels": 1, "out_channels": 2, "backbone": "resnet10"}
    network = {**definition, "spatial_dims": 3, "decoder_channels": [8, 8, 8, 8, 8]}
    (configs / "inference.json").write_text(json.dumps({"network_def": network}))
    result = RUNNER.invoke(app, ["weights", "verify", str(medicalnet), "--bundle", str(tmp_path / "bundle"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["encoder_share"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --network"),
        (["--network", "resnet10", "--bundle", "x"], "either --network"),
        (["--network", "alexnet"], "no network 'alexnet'"),
        (["--bundle", "nowhere"], "is not a bundle"),
        (["--network", "resnet10", "--spatial-dims", "4"], "from 2 to 3"),
    ],
)
def test_wrong_usage(medicalnet: Path, arguments: list[str], words: str) -> None:
    result = RUNNER.invoke(app, ["weights", "verify", str(medicalnet), *arguments])
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)


def test_swin_by_name() -> None:
    assert type(network_named("swin_unetr")).__name__ == "SwinUNETR"
