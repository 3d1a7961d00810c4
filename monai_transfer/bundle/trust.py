"""Whether the code that a bundle names may run: a bundle is foreign unless this installation made it.

A configuration of MONAI is code. What a bundle says of itself proves nothing, so the record lies outside of it, in the
user's state folder: a digest of the configurations, keyed with a secret of this installation. The digest is of
contents: a bundle that was moved or copied keeps its trust, and one whose configurations were edited loses it.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from filelock import FileLock

import monai_transfer
from monai_transfer.errors import UserError
from monai_transfer.files import sha256
from monai_transfer.text import literal

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser

logger = logging.getLogger(__name__)

STATE_VARIABLE = "MONAI_TRANSFER_STATE"
"""Environment variable that moves the state folder, as on machines where homes cannot be written."""

MOST_FILES = 10_000
"""A folder of more files is not a bundle's configs/ or scripts/, and is not read to the end."""

_KEY_BYTES = 32


_PACKAGED = Path(monai_transfer.__file__).parent / "bundles"
_CHECKOUT = Path(monai_transfer.__file__).parents[1] / "bundles"
"""Where the bundles of the package lie, when it is installed and in a checkout."""


class UntrustedBundleError(UserError):
    """A foreign bundle asks for more than the allow-list of :mod:`monai_transfer.bundle.allowed`.

    Args:
        root: the bundle.
        concerns: what it asks for, one line each.
    """

    def __init__(self, root: Path, concerns: tuple[str, ...]) -> None:
        self.root, self.concerns = root, concerns
        lines = "".join(f"\n  {line}" for line in concerns)
        super().__init__(
            f"{root} was not made by this installation, or its configurations were edited since, and runs code of its "
            f"own: read the list below and add --trust if you trust all of it.{lines}"
        )


def templates() -> dict[str, Path]:
    """Name -> folder of the bundles that come with the package."""
    home = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return {folder.name: folder for folder in sorted(home.iterdir()) if (folder / "configs").is_dir()}


def template(name: str) -> Path:
    """The folder of one bundle of :func:`templates`.

    Raises:
        UserError: when there is no bundle of that name.
    """
    known = templates()
    if name not in known:
        raise UserError(f"There is no bundle {name!r}; `monai-transfer bundles list` names {', '.join(known)}.")
    return known[name]


def state_folder() -> Path:
    """Where this installation keeps its record."""
    moved = os.environ.get(STATE_VARIABLE)
    return Path(moved).expanduser() if moved else platformdirs.user_state_path("monai-transfer")


def remember(root: Path) -> bool:
    """Record that this installation made the bundle in ``root`` as it is now.

    Returns:
        whether it was recorded: in a state folder that cannot be written it is not, and the bundle will be foreign.
    """
    contents = _contents(root)
    if contents is None:
        return False
    try:
        record = _record(contents, _key(make=True))
        record.parent.mkdir(exist_ok=True)
        record.touch()  # an empty file per bundle: nothing to lock, nothing to merge
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s), so the bundles made here will count as foreign: set %s to a folder that can.",
            state_folder(),
            error.strerror,
            STATE_VARIABLE,
        )
        return False
    return True


def is_foreign(root: Path) -> bool:
    """Whether a bundle was made elsewhere, or changed since; the packaged bundles and their copies were not."""
    contents = _contents(root)
    if contents is None:
        return True
    if contents in _packaged():
        return False
    try:
        return not _record(contents, _key(make=False)).is_file()
    except OSError:
        return True


def require_trust(root: Path, concerns: Callable[[], tuple[str, ...]], *, trust: bool) -> None:
    """See that the code of a foreign bundle may run.

    Args:
        root: the bundle.
        concerns: lists what it asks for; called where the bundle is foreign.
        trust: whether foreign code may run.

    Raises:
        UntrustedBundleError: the bundle is foreign, has concerns, and ``trust`` is off.
    """
    if not trust and is_foreign(root) and (found := concerns()):
        raise UntrustedBundleError(root, found)


def parser_of(
    content: Mapping[str, Any], metadata: Mapping[str, Any], root: Path, device: "torch.device | str" = "cpu"
) -> "ConfigParser":
    """A parser of values that were looked at, never of a file that could have changed since."""
    import torch  # here: to ask whether a bundle is foreign nobody should wait for torch and MONAI
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(config={})
    for name, value in content.items():
        merge_kv(parser, name, value)
    if "_meta_" in json.dumps(content, default=str):
        parser["_meta_"] = dict(metadata)
    parser["bundle_root"], parser["device"] = literal(str(root)), torch.device(device)
    if "imports" in parser.config:
        parser.get_parsed_content("imports")
    return parser


def content_of(parser: "ConfigParser", names: Sequence[str], config: Path) -> Any:
    """What the first of these parts that a configuration has is made into, by the code that it names.

    Raises:
        UserError: it has none of them.
    """
    name = next((n for n in names if n in parser.config), None)
    if name is None:
        raise UserError(f"{config} has no '{names[0]}'; inference needs it.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Current default value of argument.*")
        return parser.get_parsed_content(name)


def _contents(root: Path) -> str | None:
    """A digest of names and contents of all that may be code; None where it is not a plain folder of files."""
    digest = hashlib.sha256()
    seen = 0
    for part in ("configs", "scripts"):
        for path in sorted((root / part).rglob("*")):
            seen += 1
            if path.is_dir():
                continue
            if seen > MOST_FILES or not path.is_file():
                return None
            try:
                # The length before the name: no two sets of files then give the same line of bytes.
                name = path.relative_to(root).as_posix().encode(errors="surrogateescape")
                digest.update(len(name).to_bytes(8, "big") + name + bytes.fromhex(sha256(path)))
            except OSError:
                return None
    return digest.hexdigest() if seen else None


@lru_cache(maxsize=1)
def _packaged() -> frozenset[str]:
    return frozenset(contents for folder in templates().values() if (contents := _contents(folder)) is not None)


def _record(contents: str, key: bytes) -> Path:
    # keyed: whoever knows only the contents cannot tell, nor make, the name of the record
    return state_folder() / "bundles" / hmac.new(key, contents.encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes:
    path = state_folder() / "key"
    if make and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_name("key.lock")):  # two first trainings at once must end with one key
            if not path.is_file():
                _write_key(path)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise OSError(0, "its key is damaged; delete the file 'key' in it")
    return key


def _write_key(path: Path) -> None:
    """Write a new key that only this user can read, from its first byte on."""
    making = path.with_name(f"key.{secrets.token_hex(4)}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
    making.replace(path)
