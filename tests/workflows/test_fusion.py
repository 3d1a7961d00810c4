"""Several channels from files to label maps, and what a bundle makes of a case that lacks one."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.phantoms import write_phantoms

RUNNER = CliRunner()


def invoke(*arguments: object) -> str:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms whose second channel is the first turned around: bright where that is dark."""
    root = tmp_path_factory.mktemp("channels")
    write_phantoms(root / "one", modality="mr", subjects=3, size=0.3)
    for folder in ("imagesTr", "labelsTr"):
        (root / "two" / folder).mkdir(parents=True)
    for path in sorted((root / "one" / "images").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        first = nibabel.load(path)
        voxels = np.asarray(first.dataobj, np.float32)
        nibabel.save(first, root / "two" / "imagesTr" / f"{name}_0000.nii.gz")
        second = nibabel.Nifti1Image(voxels.max() - voxels, first.affine)
        nibabel.save(second, root / "two" / "imagesTr" / f"{name}_0001.nii.gz")
        nibabel.save(nibabel.load(root / "one" / "labels" / path.name), root / "two" / "labelsTr" / path.name)
    described = json.loads((root / "one" / "dataset.json").read_text())
    channels = {"channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz"}
    (root / "two" / "dataset.json").write_text(json.dumps({"labels": _by_name(described["labels"]), **channels}))
    return root


def _by_name(labels: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for value, name in labels.items()}


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles") / "fused"
    invoke("train", "--data", data / "two", "--output", root, "--steps", 2, "--spacing", 12, "--network", "unet_stems")
    return root


@pytest.mark.slow
def test_a_bundle_knows_its_channels_and_that_it_does_without(bundle: Path) -> None:
    train = json.loads((bundle / "configs" / "train.json").read_text())
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert train["channel_dropout"] == 0.25
    assert metadata["optional_channels"] is True
    image = metadata["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], image["channel_def"]) == (2, {"0": "T1", "1": "T2"})
    assert "monai-transfer" in metadata["required_packages_version"]


@pytest.mark.slow
def test_a_missing_channel_is_said_and_equals_an_empty_one(data: Path, bundle: Path, tmp_path: Path) -> None:
    scans, whole = tmp_path / "scans", sorted((data / "two" / "imagesTr").glob("mr_001*"))
    scans.mkdir()
    (scans / "p_0000.nii.gz").write_bytes(whole[0].read_bytes())
    manifest = json.loads(invoke("segment", scans, "--bundle", bundle, "--output", tmp_path / "lacking", "--json"))
    (entry,) = manifest["cases"]
    assert entry["absent_channels"] == ["T2"]
    assert "is segmented without T2" in entry["warnings"][0]
    first = nibabel.load(whole[0])
    nibabel.save(nibabel.Nifti1Image(np.zeros(first.shape, np.float32), first.affine), scans / "p_0001.nii.gz")
    manifest = json.loads(invoke("segment", scans, "--bundle", bundle, "--output", tmp_path / "empty", "--json"))
    assert manifest["cases"][0]["absent_channels"] == []
    maps = [np.asarray(nibabel.load(tmp_path / name / "p.nii.gz").dataobj) for name in ("lacking", "empty")]
    np.testing.assert_array_equal(*maps)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0, 1])
def test_cases_without_a_channel_are_scored(data: Path, bundle: Path, tmp_path: Path, missing: int) -> None:
    lacking = shutil.copytree(data / "two", tmp_path / "lacking")
    for path in (lacking / "imagesTr").glob(f"*_{missing:04d}.nii.gz"):
        path.unlink()
    record = json.loads(invoke("evaluate", "--bundle", bundle, "--data", lacking, "--output", tmp_path / "s", "--json"))
    assert record["cases"] == 3
    assert record["failures"] == {}
    assert (tmp_path / "s" / "report.html").is_file()


@pytest.mark.slow
def test_the_weights_of_one_channel_serve_for_two(data: Path, tmp_path: Path) -> None:
    invoke("train", "--data", data / "one", "--output", tmp_path / "one", "--steps", 2, "--spacing", 12)
    arguments = ["--data", data / "two", "--output", tmp_path / "two", "--steps", 2, "--channel-dropout", 0]
    invoke("finetune", "--weights", tmp_path / "one", *arguments)
    report = json.loads((tmp_path / "two" / "eval" / "load_report.json").read_text())
    assert report["encoder_share"] == 1.0
    assert "1 to 2 input channels (sum)" in json.dumps(report)
    metadata = json.loads((tmp_path / "two" / "configs" / "metadata.json").read_text())
    assert metadata["optional_channels"] is False
