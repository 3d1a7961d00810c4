"""Scans and results in a bucket, by a server of S3 on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.workflows.segmenting import segment

from .conftest import body, write_nifti

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import fsspec

        yield fsspec.filesystem("s3", use_listings_cache=False)
        server.stop()


@pytest.fixture
def files(server: Any, tmp_path: Path) -> Iterator[Any]:
    """A bucket with three scans, one of them damaged, and a label map."""
    server.mkdir("hospital")
    for number in (0, 1):
        path = write_nifti(tmp_path / f"ct_{number}.nii.gz", body((20, 18, 16), seed=number))
        server.put_file(str(path), f"hospital/scans/{number}/ct.nii.gz")
    server.pipe_file("hospital/scans/broken.nii.gz", b"no volume")
    server.pipe_file("hospital/scans/labels/ct.nii.gz", b"not read")
    server.pipe_file("hospital/scans/folder/", b"")
    yield server
    server.rm("hospital", recursive=True)


def _local(files: Any, folder: Path) -> Path:
    files.get("hospital/scans/", f"{folder}/", recursive=True)
    return folder


def test_results_are_those_of_files(files: Any, bundle: Path, tmp_path: Path) -> None:
    manifest = segment("s3://hospital/scans", bundle, "s3://hospital/maps", device="cpu")
    plain = segment(_local(files, tmp_path / "scans"), bundle, tmp_path / "maps", device="cpu")
    assert {case["case"]: case["status"] for case in manifest["cases"]} == {
        case["case"]: case["status"] for case in plain["cases"]
    } == {"0_ct": "ok", "1_ct": "ok", "broken": "failed"}  # fmt: skip
    for case in ("0_ct", "1_ct"):
        assert files.cat_file(f"hospital/maps/{case}.nii.gz") == (tmp_path / "maps" / f"{case}.nii.gz").read_bytes()
    entries = {case["case"]: case for case in manifest["cases"]}
    assert entries["0_ct"]["input"] == "s3://hospital/scans/0/ct.nii.gz"
    assert entries["0_ct"]["output"] == "s3://hospital/maps/0_ct.nii.gz"
    assert entries["broken"]["error"].startswith("s3://hospital/scans/broken.nii.gz ")
    assert manifest["skipped"][0]["input"] == "s3://hospital/scans/labels"
    assert json.loads(files.cat_file("hospital/maps/manifest.json"))["cases"] == manifest["cases"]
    assert files.exists("hospital/maps/labels.json")


def test_what_is_finished_is_not_done_again(files: Any, bundle: Path) -> None:
    run = {"bundle": bundle, "output": "s3://hospital/maps", "device": "cpu"}
    first = segment("s3://hospital/scans/0", **run)
    before = files.info("hospital/maps/ct.nii.gz")["LastModified"]
    with pytest.raises(UserError, match=r"s3://hospital/maps/ct.nii.gz exists; add --resume"):
        segment("s3://hospital/scans/0", **run)
    assert segment("s3://hospital/scans/0", **run, resume=True)["cases"] == first["cases"]
    assert files.info("hospital/maps/ct.nii.gz")["LastModified"] == before
    files.rm_file("hospital/maps/ct.nii.gz")
    segment("s3://hospital/scans/0", **run, resume=True)
    assert files.exists("hospital/maps/ct.nii.gz")
    with pytest.raises(UserError, match="is the result of another input"):
        segment("s3://hospital/scans/1", **run, resume=True)


def test_one_object_and_a_share_in_its_own_folder(files: Any, bundle: Path, tmp_path: Path) -> None:
    one = segment("s3://hospital/scans/1/ct.nii.gz", bundle, tmp_path / "maps", device="cpu")
    assert one["cases"][0]["output"] == str(tmp_path / "maps" / "ct.nii.gz")
    segment("s3://hospital/scans", bundle, "s3://hospital/maps", device="cpu", shard=(1, 3))
    assert [path.rsplit("/", 1)[-1] for path in files.glob("hospital/maps/2-of-3/*.nii.gz")] == ["0_ct.nii.gz"]


def test_the_command_lists_addresses(files: Any, bundle: Path) -> None:
    command = ["segment", "s3://hospital/scans/0", "--bundle", str(bundle), "--output", "s3://hospital/maps"]
    result = CliRunner().invoke(app, [*command, "--dry-run"])
    assert result.output.strip() == "s3://hospital/scans/0/ct.nii.gz -> s3://hospital/maps/ct.nii.gz"


@pytest.mark.parametrize(
    ("inputs", "output", "options", "told"),
    [
        ("s3://hospital/none", "maps", {}, "s3://hospital/none does not exist"),
        ("s3://nowhere/scans", "maps", {}, "s3://nowhere/scans "),
        ("s3://hospital/scans", "s3://hospital", {}, "lies in the output folder s3://hospital"),
        ("s3://hospital/scans/labels", "maps", {}, "No volumes in s3://hospital/scans/labels"),
        ("s3://hospital/scans", "maps", {"adapt": True}, "--adapt reads and writes folders of this machine"),
        ("s3://hospital/scans", "s3://hospital/maps", {"cluster": "local:1"}, "--cluster writes to a disk"),
    ],
)
def test_what_cannot_be_is_told(
    files: Any, bundle: Path, tmp_path: Path, inputs: str, output: str, options: dict[str, Any], told: str
) -> None:
    files.rm_file("hospital/scans/labels/ct.nii.gz")
    files.pipe_file("hospital/scans/labels/readme.txt", b"none")
    where = output if output.startswith("s3") else str(tmp_path / output)
    with pytest.raises(UserError, match=told):
        segment(inputs, bundle, where, device="cpu", **options)
