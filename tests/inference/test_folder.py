import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.workflows.segmenting import segment
from tests.volumes.test_odd_files import highest_mb

from .conftest import MakeBundle, body, write_nifti


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(3):
        write_nifti(folder / f"case{n}.nii.gz", body((20, 18, 16), seed=n))
    (folder / "broken.nii.gz").write_bytes(b"broken")
    write_nifti(folder / "four.nii.gz", np.zeros((6, 6, 6, 4), np.int16))
    (folder / "notes.txt").write_text("not a volume")
    return folder


def test_one_bad_input_stops_nobody(scans: Path, bundle: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    manifest = segment(
        scans,
        bundle,
        tmp_path / "out",
        preview=True,
        progress=lambda p: seen.append((p.name, p.windows_done, p.windows)),
    )
    entries = {c["case"]: c for c in manifest["cases"]}
    assert {name: e["status"] for name, e in entries.items()} == {
        "broken": "failed",
        "four": "failed",
        "case0": "ok",
        "case1": "ok",
        "case2": "ok",
    }
    assert "broken.nii.gz cannot be read" in entries["broken"]["error"]
    assert entries["broken"]["output"] is None
    good = entries["case1"]
    assert set(good["seconds"]) == {"read", "preprocess", "network", "restore", "write"}
    assert set(good["volumes_ml"]) == {"fat", "muscle", "bone"}
    assert good["peak_memory_mb"] > 0
    source, result = nibabel.load(good["input"]), nibabel.load(good["output"])
    assert result.shape == source.shape
    np.testing.assert_allclose(result.affine, source.affine)
    labels = Segmenter.from_bundle(bundle).segment(Path(good["input"])).labels
    np.testing.assert_array_equal(np.asanyarray(result.dataobj), labels)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    assert len(manifest["bundle"]["checksum"]) == 64
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"labels.json", "labels.itksnap.txt", "labels.ctbl", "case0_preview.png"} <= names
    last = [s for s in seen if s[0] == "case2"][-1]
    assert last[1] == last[2] > 0


def test_resume_skips_what_is_finished(scans: Path, bundle: Path, make_bundle: MakeBundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment(scans, bundle, out)
    stamps = {p.name: p.stat().st_mtime_ns for p in out.glob("case*.nii.gz")}
    (out / "case1.nii.gz").unlink()
    manifest = segment(scans, bundle, out, resume=True)
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("case*.nii.gz")}
    assert [name for name in stamps if after[name] != stamps[name]] == ["case1.nii.gz"]
    assert sum(c["status"] == "ok" for c in manifest["cases"]) == 3
    segment(scans, make_bundle(smooth=False), out, resume=True)
    assert all(p.stat().st_mtime_ns != stamps[p.name] for p in out.glob("case*.nii.gz"))


def test_processes_share_a_folder(scans: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    parts = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        parts.append({c["case"] for c in segment(scans, bundle, tmp_path / "out", device="cpu")["cases"]})
    assert not parts[0] & parts[1]
    together = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {c["case"] for c in together["cases"]} == parts[0] | parts[1]
    assert len(together["cases"]) == 5


def test_shards_share_a_folder(scans: Path, bundle: Path, tmp_path: Path) -> None:
    segment(scans, bundle, tmp_path / "whole", device="cpu")
    parts = [
        [case["case"] for case in segment(scans, bundle, tmp_path / "out", device="cpu", shard=(n, 3))["cases"]]
        for n in range(3)
    ]
    assert parts == [["broken", "case2"], ["case0", "four"], ["case1"]]
    for path in (tmp_path / "whole").glob("*.nii.gz"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    together = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [case["status"] for case in together["cases"]] == ["failed", "ok", "ok", "ok", "failed"]
    # more jobs than cases are no fault
    assert segment(scans, bundle, tmp_path / "out", device="cpu", shard=(7, 8))["cases"] == []


def test_memory_does_not_grow_with_the_number_of_volumes(bundle: Path, tmp_path: Path) -> None:
    segmenter, peaks = Segmenter.from_bundle(bundle, device="cpu"), []
    for count in (8, 40):
        (tmp_path / f"in{count}").mkdir()
        for number in range(count):
            write_nifti(tmp_path / f"in{count}" / f"s{number}.nii.gz", body((64, 64, 64), seed=number))
        before = highest_mb(anew=True)
        segment(tmp_path / f"in{count}", segmenter, tmp_path / f"out{count}")
        peaks.append(highest_mb() - before)
    assert peaks[1] < peaks[0] + 20  # forty of these images take 40 MB as numbers


def test_probabilities_and_uncertainty_are_written(bundle: Path, tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "image.nii.gz", body((20, 18, 16)))
    options = SegmentOptions(probabilities=True, uncertainty=True)
    segment(image, bundle, tmp_path / "out", options=options)
    stored = nibabel.load(tmp_path / "out" / "image_probabilities.nii.gz")
    assert stored.shape == (20, 18, 16, 4)
    values = stored.get_fdata()
    np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-3)
    labels = np.asanyarray(nibabel.load(tmp_path / "out" / "image.nii.gz").dataobj)
    assert (values.argmax(axis=-1) == labels).mean() > 0.999
    uncertainty = nibabel.load(tmp_path / "out" / "image_uncertainty.nii.gz").get_fdata()
    assert uncertainty.min() >= 0
    assert uncertainty.max() <= 1


@pytest.mark.slow
def test_torchrun(scans: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "monai_transfer", "segment", str(scans), "--bundle", str(bundle), "--output", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 1  # two inputs are broken
    assert "3 of 5 volumes" in done.stdout
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["cases"]) == 5
