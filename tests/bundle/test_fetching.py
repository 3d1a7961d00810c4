"""Bundles of the zoo and of Hugging Face, of which the published form is laid out here and no network is asked."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError

import huggingface_hub
import pytest
import requests
from typer.testing import CliRunner

from monai_transfer.bundle.facts import inspect_bundle, is_published
from monai_transfer.bundle.fetching import fetch_bundle
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from tests.inference.conftest import MakeBundle, body, make_bundle, write_nifti  # noqa: F401 (a fixture)

Publish = Callable[..., list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MONAI_TRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Let the hub's downloader lay a folder down, as it does with a repository's files, and note what it is asked."""

    def use(folder: Path) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def snapshot_download(*, repo_id: str, revision: str | None, local_dir: str) -> str:
            asked.append({"repo_id": repo_id, "revision": revision})
            shutil.copytree(folder, local_dir)
            (Path(local_dir) / ".cache" / "huggingface").mkdir(parents=True)
            return local_dir

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return use


@pytest.fixture
def published(make_bundle: MakeBundle, tmp_path: Path) -> Path:  # noqa: F811
    """A bundle of somebody else: its preprocessing is an expression, which may do anything."""
    folder = shutil.copytree(make_bundle(), tmp_path / "published")
    config = json.loads((folder / "configs" / "inference.json").read_text())
    config["preprocessing"]["transforms"].append(
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda image: __import__('math').pi * 0 + image"}
    )
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


def test_a_bundle_of_the_zoo_runs_when_it_is_trusted(published: Path, publish: Publish, tmp_path: Path) -> None:
    asked, scan = publish(published), write_nifti(tmp_path / "ct.nii.gz", body((16, 16, 16)))
    command = ["segment", str(scan), "--bundle", "zoo:organs@0.2.1", "--output", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, command)
    assert refused.exception is not None
    assert "runs code of its own" in str(refused.exception)
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*command, "--trust"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "ct.nii.gz").is_file()
    assert asked == [{"repo_id": "MONAI/organs", "revision": "0.2.1"}]  # once, and then from the cache folder


def test_a_bundle_of_hugging_face(published: Path, publish: Publish, cache: Path) -> None:
    asked = publish(published)
    facts = inspect_bundle("hf:somebody/organs@v1")
    assert asked == [{"repo_id": "somebody/organs", "revision": "v1"}]
    assert facts.root == cache / "bundles" / "hf" / "somebody" / "organs@v1"
    assert facts.foreign
    assert facts.concerns
    assert sorted(p.name for p in facts.root.iterdir()) == ["configs", "models"]


def test_what_was_changed_since_is_told(published: Path, publish: Publish) -> None:
    publish(published)
    folder = fetch_bundle("zoo:organs@1")
    (folder / "models" / "model.pt").write_bytes(b"other")
    with pytest.raises(UserError, match="not as it was fetched from zoo:organs@1: delete it"):
        fetch_bundle("zoo:organs@1")
    shutil.rmtree(folder)
    assert (fetch_bundle("zoo:organs@1") / "models" / "model.pt").stat().st_size > 5


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(tmp_path / "files"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


@pytest.mark.parametrize("whole", [True, False])
def test_large_files_are_fetched_and_compared(
    published: Path, publish: Publish, server: str, tmp_path: Path, whole: bool
) -> None:
    """The zoo keeps weights elsewhere, and names them with their checksum in large_files.yml."""
    (tmp_path / "files").mkdir()
    weights = published / "models" / "model.pt"
    digest = sha256(weights.read_bytes()).hexdigest() if whole else "0" * 64
    weights.rename(tmp_path / "files" / "model.pt")
    large = f"path: models/model.pt\n  url: {server}/model.pt\n  hash_val: {digest}\n  hash_type: sha256\n"
    (published / "large_files.yml").write_text(f"large_files:\n- {large}")
    publish(published)
    if whole:
        assert sha256((fetch_bundle("zoo:organs@1") / "models" / "model.pt").read_bytes()).hexdigest() == digest
        return
    with pytest.raises(UserError, match="cannot be fetched"):
        fetch_bundle("zoo:organs@1")


@pytest.mark.parametrize("error", [requests.ConnectionError("Max retries exceeded\nand so on"), URLError("no address")])
def test_without_a_network_one_sentence_says_where_the_folder_goes(
    monkeypatch: pytest.MonkeyPatch, cache: Path, error: Exception
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError) as raised:
        fetch_bundle("zoo:organs@1")
    place = cache / "bundles" / "zoo" / "organs@1"
    assert str(raised.value).endswith(f"place the bundle's folder at {place}.")
    assert "\n" not in str(raised.value)
    assert not [path for path in place.parent.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    "spec", ["zoo:", "zoo:../x", "zoo:a/b", "hf:organs", "hf:../organs", "hf:a/.b", "zoo:-x", "zoo:a@"]
)
def test_other_names_are_refused(spec: str) -> None:
    assert is_published(spec)
    with pytest.raises(UserError, match="names no bundle"):
        fetch_bundle(spec)
