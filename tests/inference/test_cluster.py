"""Cases on a Dask cluster: each once, with the bytes of one process; what kills its workers is set aside."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_transfer.errors import UserError
from monai_transfer.workflows.cluster import require_cluster
from monai_transfer.workflows.segmenting import segment

from .conftest import write_nifti

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def deadly_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deadly") / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    network = {"_target_": "tests.inference.deadly.Deadly", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    load = {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}
    config = {
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": [load]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
    }
    labels = {"0": "background", "1": "liver"}
    data = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 2, "channel_def": labels}}}
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    (root / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": data}))
    state = {"weight": torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1), "bias": torch.zeros(2)}
    torch.save(state, root / "models" / "model.pt")
    return root


def _scans(folder: Path, number: int, *, poison: int | None = None) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for case in range(number):
        image = random.normal(0, 100, (16, 16, 16))
        if case == poison:
            image[0, 0, 0] = 5000
        write_nifti(folder / f"case{case:03d}.nii.gz", image.astype(np.int16))
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


@pytest.mark.slow
def test_a_case_that_kills_is_set_aside_with_its_log(deadly_bundle: Path, tmp_path: Path) -> None:
    scans = _scans(tmp_path / "scans", 6, poison=2)
    manifest = segment(scans, deadly_bundle, tmp_path / "out", device="cpu", trust=True, cluster="local:2")
    status = {case["case"]: case["status"] for case in manifest["cases"]}
    assert status == {f"case{n:03d}": "failed" if n == 2 else "ok" for n in range(6)}
    aside = manifest["cases"][2]
    assert "case002.nii.gz ended 4 processes and was set aside" in aside["error"]
    assert aside["log"].count(" begun on ") == 4
    assert (tmp_path / "out" / "logs" / "case002.log").read_text() == aside["log"]
    assert sorted(path.name for path in (tmp_path / "out" / "logs").iterdir()) == ["case002.log"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"] == manifest["cases"]
    (scans / "case002.nii.gz").unlink()
    segment(scans, deadly_bundle, tmp_path / "alone", device="cpu", trust=True)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "alone")


def test_without_a_cluster_dask_is_not_imported(deadly_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from monai_transfer import segment; "
        f"segment({str(_scans(tmp_path / 'scans', 1))!r}, {str(deadly_bundle)!r}, {str(tmp_path / 'out')!r}, "
        "device='cpu', trust=True); sys.exit(any(name in sys.modules for name in ('dask', 'distributed')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", ["local", "local:0", "local:x", "slurm", "http://host", "tcp://", "sge:3", ""])
def test_what_is_no_cluster_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match=r"--cluster .* is not known: give local:N"):
        require_cluster(spec)


def test_a_cluster_that_is_not_there_is_told(deadly_bundle: Path, tmp_path: Path) -> None:
    import dask

    scans = _scans(tmp_path / "scans", 1)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UserError, match="does not answer: start a Dask scheduler there"),
    ):
        segment(scans, deadly_bundle, tmp_path / "out", device="cpu", trust=True, cluster="tcp://127.0.0.1:9")
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_cases_are_shared_out_once(deadly_bundle: Path, tmp_path: Path) -> None:
    scans = _scans(tmp_path / "scans", 1)
    for options, told in (({"shard": (0, 2)}, "omit --shard"), ({"adapt": True}, "adapt it first")):
        with pytest.raises(UserError, match=told):
            segment(scans, deadly_bundle, tmp_path / "out", trust=True, cluster="local:1", **options)
