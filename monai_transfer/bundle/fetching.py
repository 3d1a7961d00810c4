"""Bundles by name: ``zoo:NAME`` of MONAI's model zoo and ``hf:OWNER/REPOSITORY``, fetched once into the cache folder.

They are fetched by MONAI's own downloader into a folder of another name, which takes its place when it is whole. The
checksum of all that came lies beside it, and is compared each time that the bundle is used. A fetched bundle is foreign
like any other that was not made here: what it would run is listed, and runs with ``--trust`` only.
"""

import contextlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from monai_transfer.errors import UserError
from monai_transfer.files import checksum, temporary_beside, write_text
from monai_transfer.text import line_of
from monai_transfer.weights.fetching import cache_folder

_SPEC = re.compile(r"^(?:zoo:(?P<zoo>NAME)|hf:(?P<hf>NAME/NAME))(?:@(?P<version>NAME))?$".replace("NAME", r"\w[\w.-]*"))
"""A name begins with a letter, a digit or ``_``: it is no option, no hidden folder and leads nowhere else."""


def fetch_bundle(spec: str | Path, *, cache: str | Path | None = None) -> Path:
    """The folder of a published bundle, fetched where it is not here yet.

    Args:
        spec: ``zoo:NAME`` or ``hf:OWNER/REPOSITORY``, with ``@VERSION`` where it shall not be the latest.
        cache: folder that takes the place of the user's cache folder.

    Raises:
        UserError: no such name is possible, it cannot be fetched (the sentence says where its folder may be placed), or
            it was changed since it came.
    """
    match = _SPEC.match(str(spec))
    if match is None:
        raise UserError(f"{spec} names no bundle: write zoo:NAME or hf:OWNER/REPOSITORY, with @VERSION if you like.")
    # @ is in no name, so that no two specs have one folder
    folder = cache_folder(cache).with_name("bundles") / str(spec).replace(":", "/", 1)
    digest = folder.with_name(f"{folder.name}.sha256")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            _fetch(match, folder)
            write_text(digest, f"{checksum(_files(folder))}\n")
        elif digest.is_file() and digest.read_text().strip() != checksum(_files(folder)):
            raise UserError(f"{folder} is not as it was fetched from {spec}: delete it to fetch it again.")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fetch(match: re.Match[str], folder: Path) -> None:
    from monai.bundle import download, download_large_files  # here: MONAI takes seconds, a folder's name does not

    making = temporary_beside(folder)
    repository = match["hf"] or match["zoo"]
    wanted: dict[str, Any] = {"name": repository.split("/")[-1], "version": match["version"], "bundle_dir": str(making)}
    wanted |= {"source": "huggingface_hub", "repo": match["hf"]} if match["hf"] else {"source": "monaihosting"}
    try:
        # both tell of what they do on standard output, which is for results
        with contextlib.redirect_stdout(sys.stderr):
            making.mkdir()
            download(**wanted, progress=sys.stderr.isatty())
            made = making / str(wanted["name"])
            if any(made.glob("large_files.*")):
                download_large_files(str(made))
        shutil.rmtree(made / ".cache", ignore_errors=True)  # notes of the hub's downloader
        made.replace(folder)
    except Exception as error:  # of requests, urllib, the hub and MONAI, each in its own family
        raise UserError(
            f"{match[0]} is not on this machine and cannot be fetched ({line_of(error)}): place the bundle's folder "
            f"at {folder}."
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
