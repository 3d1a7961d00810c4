"""Turn a SPEC of weights into a file on this machine: find it, or fetch it with resume and check it."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import platformdirs
from huggingface_hub import hf_hub_download

from monai_transfer.errors import UserError
from monai_transfer.files import sha256
from monai_transfer.text import line_of
from monai_transfer.weights.catalogue import SOURCES, Published, find

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes in all (0 where unknown)."""

CHUNK = 1 << 20
TIMEOUT_SECONDS = 20.0
PACKAGED = Path(__file__).parent / "packaged"
"""Folder of the weights that come with this package."""


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return the folder of fetched weights in ``cache``, ``$MONAI_TRANSFER_CACHE`` or the user's cache folder."""
    if cache is not None:
        return Path(cache).expanduser()
    moved = os.environ.get("MONAI_TRANSFER_CACHE")
    return (Path(moved).expanduser() if moved else platformdirs.user_cache_path("monai-transfer")) / "weights"


def locate(spec: str | Path, *, cache: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Return the file or bundle folder that ``spec`` names, fetching it where it is not here yet.

    Raises:
        UserError: it does not exist, cannot be fetched (the message names the file to place, and where), or is
            another file than the published one.
    """
    text = str(spec)
    source = text.split(":", 1)[0]
    if source in SOURCES and ":" in text:
        return _published(find(text), cache_folder(cache), progress)
    if source == "hf" and ":" in text:
        return _hugging_face(text, cache_folder(cache))
    path = Path(spec).expanduser()
    if not path.exists():
        raise UserError(f"There are no weights {text!r}: give a file, a bundle folder or a name of `weights list`.")
    return path


def _published(entry: Published, cache: Path, progress: Progress | None) -> Path:
    if entry.refusal:
        raise UserError(f"{entry.name} cannot be loaded: {entry.refusal}.")
    if entry.packaged:
        return _checked(PACKAGED / entry.file, entry)
    here = cache / entry.file
    shared = Path(os.environ.get("TORCH_HOME", "~/.cache/torch")).expanduser() / "hub" / "checkpoints" / entry.file
    for path in (here, shared):
        if path.is_file():
            return _checked(path, entry)
    try:
        if entry.repository:
            return _checked(Path(hf_hub_download(entry.repository, entry.file)), entry)
        return _checked(fetch_file(entry.url, here, progress=progress), entry)
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(_offline(entry.name, entry.url, here, error)) from error


def _hugging_face(spec: str, cache: Path) -> Path:
    parts = spec.removeprefix("hf:").split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise UserError(f"{spec!r} names no file on Hugging Face: write hf:OWNER/REPOSITORY/FILE.")
    repository, file = f"{parts[0]}/{parts[1]}", parts[2]
    here = cache / repository / file
    if here.is_file():
        return here
    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, HTTPException, ValueError) as error:
        url = f"https://huggingface.co/{repository}/resolve/main/{file}"
        raise UserError(_offline(spec, url, here, error)) from error


def fetch_file(url: str, path: Path, *, progress: Progress | None = None) -> Path:
    """Fetch ``url`` to ``path``; an interrupted fetch goes on where it stopped.

    Raises:
        OSError: the file could not be fetched whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: all of it is here already
            raise
        part.replace(path)
        return path
    with response:
        resumed = response.status == 206
        expected = int(response.headers.get("Content-Length") or 0)
        total = expected + (have if resumed else 0) if expected else 0
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                if progress:
                    progress(file.tell(), total)
    size = part.stat().st_size
    if total and size != total:
        raise OSError(f"{size} of {total} bytes came; run the command again to go on")
    part.replace(path)
    return path


def is_here(entry: Published, cache: Path) -> bool:
    """Whether the file of an entry needs no fetching into the folder ``cache``."""
    return entry.packaged or (cache / entry.file).is_file()


def _checked(path: Path, entry: Published) -> Path:
    if entry.sha256 and not (found := sha256(path)).startswith(entry.sha256):
        raise UserError(
            f"{path} is not the published {entry.file} (SHA-256 {found[:16]}…, published {entry.sha256[:16]}): "
            f"delete it and fetch it again from {entry.url}."
        )
    return path


def _offline(spec: str, url: str, path: Path, error: Exception) -> str:
    return f"{spec} is not on this machine and cannot be fetched ({line_of(error)}): place the file of {url} at {path}."
