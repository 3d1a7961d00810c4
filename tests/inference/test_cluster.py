"""Cases on a Dask cluster: each once, with the bytes of one process; what kills its workers is set aside."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from monai_transfer.errors import UserError
from monai_transfer.workflows.cluster import connected, require_cluster
from monai_transfer.workflows.segmenting import segment

from .deadly import label_maps, write_deadly_bundle, write_scans
from .worker_kills import segment_with_kills

pytest.importorskip("distributed")

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def deadly_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_deadly_bundle(tmp_path_factory.mktemp("deadly") / "bundle")


@pytest.mark.slow
def test_a_case_that_kills_is_set_aside_with_its_log(
    deadly_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scans = write_scans(tmp_path / "scans", 6, poison=2)
    manifest = segment(scans, deadly_bundle, tmp_path / "out", device="cpu", trust=True, cluster="local:2")
    assert "nvImageCodec" not in "".join(capfd.readouterr())  # of MONAI, at each LoadImage of a worker
    status = {case["case"]: case["status"] for case in manifest["cases"]}
    assert status == {f"case{n:03d}": "failed" if n == 2 else "ok" for n in range(6)}
    aside = manifest["cases"][2]
    assert re.search(r"case002.nii.gz ended [4-7] processes and was set aside", aside["error"])
    assert aside["log"].count(" begun on ") >= 4
    assert (tmp_path / "out" / "logs" / "case002.log").read_text() == aside["log"]
    assert sorted(path.name for path in (tmp_path / "out" / "logs").iterdir()) == ["case002.log"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"] == manifest["cases"]
    (scans / "case002.nii.gz").unlink()
    segment(scans, deadly_bundle, tmp_path / "alone", device="cpu", trust=True)
    assert label_maps(tmp_path / "out") == label_maps(tmp_path / "alone")


@pytest.mark.slow
def test_workers_and_the_client_are_killed(tmp_path: Path) -> None:
    # three before the client; of the three after it as many as fall before the last result, none on a fast machine
    assert 3 <= segment_with_kills(tmp_path, cases=24, kills=6)["worker kills"] <= 6


def test_without_a_cluster_dask_is_not_imported(deadly_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from monai_transfer import segment; "
        f"segment({str(write_scans(tmp_path / 'scans', 1))!r}, {str(deadly_bundle)!r}, {str(tmp_path / 'out')!r}, "
        "device='cpu', trust=True); sys.exit(any(name in sys.modules for name in ('dask', 'distributed')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", ["local", "local:0", "local:x", "slurm", "http://host", "tcp://", "sge:3", ""])
def test_what_is_no_cluster_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match=r"--cluster .* is not known: give local:N"):
        require_cluster(spec)


def test_a_batch_system_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="hands in jobs by sbatch, which is not here: start it where that is"):
        require_cluster("slurm:2")


def test_jobs_of_unknown_size_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    _stand_in("pbs", tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"pbs does not know what a job gets .*: name cores and memory in ~/\.config"):
        connected("pbs:2").__enter__()


def test_kubernetes_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_kubernetes")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"could not be started \(.+\): see that kubectl reaches a cluster here"):
        connected("kubernetes:2").__enter__()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slurm", "pbs"])
def test_jobs_are_handed_in(kind: str, deadly_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a stand-in for the batch system, which starts each job on this machine; they get what the example says."""
    import dask

    pytest.importorskip("dask_jobqueue")
    _stand_in(kind, tmp_path, monkeypatch)
    site = dask.config.merge(dask.config.config, yaml.safe_load((DEPLOY / "jobqueue.yaml").read_text()))
    scans = write_scans(tmp_path / "scans", 6)
    with dask.config.set(site), dask.config.set({f"jobqueue.{kind}.log-directory": str(tmp_path / "logs")}):
        segment(scans, deadly_bundle, tmp_path / "out", device="cpu", trust=True, cluster=f"{kind}:2")
    assert len(list((tmp_path / "bin").glob("job.*"))) >= 2
    segment(scans, deadly_bundle, tmp_path / "alone", device="cpu", trust=True)
    assert label_maps(tmp_path / "out") == label_maps(tmp_path / "alone")
    assert len(label_maps(tmp_path / "out")) == 6


def _stand_in(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put commands first in the path that start the script of a job at once, and end it."""
    start, end = {"slurm": ("sbatch", "scancel"), "pbs": ("qsub", "qdel")}[kind]
    (folder / "bin").mkdir()
    job = f"{folder / 'bin'}/job.$$"  # the script is removed as soon as it is handed in
    lines = ["#!/bin/sh", "for script; do :; done", f'cp "$script" {job}', f"setsid bash {job} >{job}.log 2>&1 &"]
    for name, text in ((start, [*lines, 'echo "Submitted batch job $!"']), (end, ["#!/bin/sh", 'kill -- -"$1"'])):
        (folder / "bin" / name).write_text("\n".join(text) + "\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_a_cluster_that_is_not_there_is_told(deadly_bundle: Path, tmp_path: Path) -> None:
    import dask

    scans = write_scans(tmp_path / "scans", 1)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UserError, match="does not answer: start a Dask scheduler there"),
    ):
        segment(scans, deadly_bundle, tmp_path / "out", device="cpu", trust=True, cluster="tcp://127.0.0.1:9")
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_cases_are_shared_out_once(deadly_bundle: Path, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans", 1)
    for options, told in (({"shard": (0, 2)}, "omit --shard"), ({"adapt": True}, "adapt it first")):
        with pytest.raises(UserError, match=told):
            segment(scans, deadly_bundle, tmp_path / "out", trust=True, cluster="local:1", **options)
