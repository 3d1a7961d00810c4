import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError

CONFIG = {
    "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs" / "inference.json").write_text(json.dumps(CONFIG))
    metadata = {
        "generator": "monai-transfer",
        "network_data_format": {
            "inputs": {"image": {"num_channels": 1}},
            "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "liver"}}},
        },
    }
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    state = {"weight": torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1), "bias": torch.zeros(2)}
    torch.save(state, root / "models" / "model.pt")
    return root


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    volume = np.full((20, 20, 20), -100, np.int16)
    volume[5:15, 5:15, 5:15] = 100
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-2.0, -2.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["segment", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_segment(bundle: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = run(scan, "--bundle", bundle, "--output", out, "--json", "--preview")
    assert code == 0
    assert "harmless" in stderr
    manifest = json.loads(stdout)
    assert manifest["cases"][0]["volumes_ml"]["liver"] == pytest.approx(8.0)
    labels = np.asanyarray(nibabel.load(out / "scan.nii.gz").dataobj)
    assert labels.sum() == 1000
    assert (out / "scan_preview.png").is_file()


def test_status_1_when_some_input_failed(bundle: Path, scan: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"bad")
    code, stdout, stderr = run(bad, scan, "--bundle", bundle, "--output", tmp_path / "out")
    assert code == 1
    assert "1 of 2 volumes" in stdout
    assert "bad.nii.gz cannot be read" in stderr
    assert (tmp_path / "out" / "scan.nii.gz").is_file()


def test_status_2_when_every_input_failed(bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"bad")
    assert run(bad, "--bundle", bundle, "--output", tmp_path / "out")[0] == 2


def test_a_label_map_says_that_it_is_one(bundle: Path, scan: Path, tmp_path: Path) -> None:
    image = nibabel.load(scan)
    image.header.set_intent("z score")
    nibabel.save(image, scan)
    run(scan, "--bundle", bundle, "--output", tmp_path / "out", "--uncertainty")
    intents = {p.name: nibabel.load(p).header.get_intent()[0] for p in (tmp_path / "out").glob("*.nii.gz")}
    assert intents == {"scan.nii.gz": "label", "scan_uncertainty.nii.gz": "none"}


def test_a_dry_run_can_be_read_by_programs(bundle: Path, scan: Path, tmp_path: Path) -> None:
    _, stdout, _ = run(scan, "--bundle", bundle, "--output", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(stdout) == [{"input": str(scan), "output": str(tmp_path / "out" / "scan.nii.gz")}]


def test_dry_run_writes_nothing(bundle: Path, scan: Path, tmp_path: Path) -> None:
    code, stdout, _ = run(scan, "--bundle", bundle, "--output", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "scan.nii.gz" in stdout
    assert not (tmp_path / "out").exists()


def test_status_2_for_wrong_usage(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai_transfer", "segment", str(tmp_path / "none.nii"), "--bundle", str(bundle)]
    done = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "none.nii does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_real_formats(bundle: Path, shared_data: Path, tmp_path: Path) -> None:
    """All good files go through on their own grids; the bad ones are named; the rest is not stopped."""
    out = tmp_path / "out"
    code, stdout, _ = run(shared_data / "formats", "--bundle", bundle, "--output", out, "--json")
    assert code == 1
    cases = {c["case"]: c for c in json.loads(stdout)["cases"]}
    failed = {name for name, c in cases.items() if c["status"] == "failed"}
    assert failed == {"example4d", "example_nifti2", "rgb_test_file", "minimal"}  # "minimal" does not say how it lies
    assert {"AIL", "shear", "reoriented_anat_moved", "series", "breast1_image"} <= set(cases) - failed
    for case in cases.values():
        source = Path(case["input"])
        if case["status"] == "ok" and source.name.endswith((".nii", ".nii.gz")):
            given, made = nibabel.load(source), nibabel.load(case["output"])
            assert made.shape == given.shape
            np.testing.assert_allclose(made.affine, given.affine, atol=1e-5)
            for name in ("qform_code", "sform_code"):
                assert int(made.header[name]) == int(given.header[name])


def test_real_ct_and_mr(bundle: Path, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "abdomen_ct_mr"
    code, stdout, _ = run(folder / "CT", folder / "MR", "--bundle", bundle, "--output", tmp_path / "out")
    assert code == 0
    assert "2 of 2 volumes" in stdout
    for name, modality in (("ts_ct", "CT"), ("ts_mr", "MR")):
        given = nibabel.load(folder / modality / "images" / f"{name}.nii.gz")
        made = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        assert made.shape == given.shape
        np.testing.assert_allclose(made.affine, given.affine, atol=1e-5)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/0", "-1/2", "1/3/5", "a/b"])
def test_a_shard_that_is_none_is_refused(bundle: Path, scan: Path, tmp_path: Path, shard: str) -> None:
    result = CliRunner().invoke(
        app, ["segment", str(scan), "--bundle", str(bundle), "--output", str(tmp_path / "out"), f"--shard={shard}"]
    )
    assert isinstance(result.exception, UserError)
    assert "give i/n with i from 1 to n" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_shard_has_its_share(bundle: Path, scan: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"other{number}.nii.gz").write_bytes(scan.read_bytes())
    found = [str(path) for path in sorted(tmp_path.glob("*.nii.gz"))]
    code, stdout, _ = run(
        *found, "--bundle", bundle, "--output", tmp_path / "out", "--shard", "2/3", "--dry-run", "--json"
    )
    assert code == 0
    assert [Path(case["input"]).name for case in json.loads(stdout)] == ["other1.nii.gz"]
