import threading
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from monai_transfer.errors import UserError
from monai_transfer.weights import CATALOGUE, cache_folder, fetch_file, fetching, locate
from monai_transfer.weights.catalogue import find

CONTENT = bytes(range(256)) * 4096


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT, knows ranges, and can hang up half-way."""

    def __init__(self, log, cut, *args):
        self.log, self.cut = log, cut
        super().__init__(*args)

    def do_GET(self):
        asked = self.headers.get("Range")
        self.log.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.cut and not asked else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*, cut: bool = False):
        log: list[str | None] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, log, cut))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/file.pth", log

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_reports_progress(serve, tmp_path):
    url, _ = serve()
    seen: list[tuple[int, int]] = []
    path = fetch_file(url, tmp_path / "cache" / "file.pth", progress=lambda here, total: seen.append((here, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_interrupted_download_goes_on(serve, tmp_path):
    url, log = serve(cut=True)
    path = tmp_path / "file.pth"
    with pytest.raises(OSError, match=rf"{len(CONTENT) // 2} of {len(CONTENT)} bytes|IncompleteRead"):
        fetch_file(url, path)
    assert not path.exists()
    fetch_file(url, path)
    assert path.read_bytes() == CONTENT
    assert log == [None, f"bytes={len(CONTENT) // 2}-"]


def test_finished_part_is_kept(serve, tmp_path):
    url, _ = serve()
    (tmp_path / "file.pth.part").write_bytes(CONTENT)
    assert fetch_file(url, tmp_path / "file.pth").read_bytes() == CONTENT


@pytest.fixture
def entry(serve, monkeypatch):
    """A published file of which only the first digits of the checksum are known."""
    from dataclasses import replace

    url, _ = serve()
    known = replace(find("imagenet:vgg16"), url=url, sha256=sha256(CONTENT).hexdigest()[:8])
    monkeypatch.setattr(fetching, "find", lambda spec: known)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    return known


def test_published_file_is_fetched_once(entry, tmp_path):
    path = locate("imagenet:vgg16", cache=tmp_path)
    assert path == tmp_path / "vgg16-397923af.pth"
    changed = path.stat().st_mtime_ns
    assert locate("imagenet:vgg16", cache=tmp_path).stat().st_mtime_ns == changed


def test_another_file_is_refused(entry, tmp_path):
    (tmp_path / entry.file).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is not the published vgg16-397923af.pth .*delete it"):
        locate("imagenet:vgg16", cache=tmp_path)


def test_torch_cache_is_used(entry, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    here = tmp_path / "torch" / "hub" / "checkpoints" / entry.file
    here.parent.mkdir(parents=True)
    here.write_bytes(CONTENT)
    assert locate("imagenet:vgg16", cache=tmp_path / "cache") == here


def _offline(*args, **kwargs):
    raise OSError("Name or service not known")


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("medicalnet:resnet18", "resnet_18_23dataset.pth"),
        ("medicalnet:resnet18_23datasets", "resnet_18_23dataset.pth"),
        ("imagenet:resnet50", "resnet50-11ad3fa6.pth"),
        ("monai:swin_ssl", "model_swinvit.pt"),
        ("hf:owner/repository/folder/file.pth", "owner/repository/folder/file.pth"),
    ],
)
def test_offline_names_the_file_and_the_place(spec, file, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "hf_hub_download", _offline)
    monkeypatch.setattr(fetching.urllib.request, "urlopen", _offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(UserError, match="not on this machine") as caught:
        locate(spec, cache=tmp_path)
    message = str(caught.value)
    assert str(tmp_path / file) in message
    assert "https://" in message
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"placed by hand")
    if not spec.startswith("imagenet"):
        assert locate(spec, cache=tmp_path) == tmp_path / file


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("medicalnet:resnet19", "did you mean medicalnet:resnet1"),
        ("imagenet:inception_v3", "no five levels"),
        ("hf:owner/file", "hf:OWNER/REPOSITORY/FILE"),
        ("nowhere.pt", "There are no weights 'nowhere.pt'"),
    ],
)
def test_wrong_specs(spec, words, tmp_path):
    with pytest.raises(UserError, match=words):
        locate(spec, cache=tmp_path)


def test_catalogue_is_consistent():
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    for entry in CATALOGUE:
        assert entry.url.endswith(entry.file)
        assert entry.sha256 is None or len(entry.sha256) in (8, 64)
        assert entry.repository == "" or entry.repository in entry.url


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MONAI_TRANSFER_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "weights"
    assert cache_folder(tmp_path / "x") == tmp_path / "x"
