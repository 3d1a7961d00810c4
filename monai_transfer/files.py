"""Files and folders that appear when they are complete, and what a dead process left of them.

A temporary file carries the machine and the process that writes it in its name: ``.making-<machine>-<process>-…``.
Whoever opens a folder later can thus tell the file of a process that works beside him from one that was killed.
"""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from monai_transfer.errors import UserError

_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(r"^\.making-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}$")
_FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which the temporary file of another machine, whose processes cannot be asked, counts as left over."""


LARGEST_OBJECT = 64_000_000
"""Bytes of a JSON file: a million listed cases still fit, and a text of gigabytes is refused before it is read."""


def temporary_beside(path: Path) -> Path:
    """A name in the folder of ``path`` for what will take its place; nothing is made yet.

    It does not contain the final name, which may already be as long as a file system allows.
    """
    return path.parent / f".making-{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file in the folder of ``path`` that takes its place when the block ends without an error.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "greeting.txt") as file:
        ...         _ = file.write(b"hello")
        ...     print(*[path.name for path in Path(folder).iterdir()])
        greeting.txt
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files and folders that dead processes left in ``folder``, and say which they were."""
    swept = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _TEMPORARY.match(path.name)
        if match is None:
            continue
        with suppress(OSError):  # somebody else may sweep at the same moment
            if _is_left_over(match[1], int(match[2]), path.lstat().st_mtime):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                swept.append(path)
    return swept


def _is_left_over(machine: str, process: int, modified: float) -> bool:
    if machine != _MACHINE:
        return time.time() - modified > _FORGOTTEN
    try:
        owner = psutil.Process(process)
        # Numbers of processes are used again: a process younger than the file is not the one that made it. The second
        # of grace is for file systems that keep whole seconds.
        return bool(owner.status() == psutil.STATUS_ZOMBIE or owner.create_time() > modified + 1)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def owner() -> str:
    """This machine and process, for a file that says who works beside it."""
    return f"{_MACHINE}-{os.getpid()}"


def another_works(mark: Path) -> bool:
    """Whether a file that holds an :func:`owner` was written by another process of this machine that still runs."""
    try:
        match = re.match(r"^([0-9a-f]{8})-(\d+)$", mark.read_text(encoding="utf-8"))
        if match is None or match[1] != _MACHINE or int(match[2]) == os.getpid():
            return False
        return not _is_left_over(match[1], int(match[2]), mark.stat().st_mtime)
    except (OSError, ValueError):
        return False


def due_again(begin: float) -> float:
    """When what began at ``begin`` and ends now is due again, so that at most a twentieth of the time goes into it."""
    now = time.monotonic()
    return now + 20 * (now - begin)


def require_folder(folder: Path, option: str = "--output") -> None:
    """Make a folder and see that files can be written into it.

    Raises:
        UserError: when it is a file, cannot be made, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_beside(folder / "probe")
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise cannot_write(folder, error, option) from error


def cannot_write(path: Path, error: OSError, option: str = "--output") -> UserError:
    """The sentence for a user whose disk, rights or path stand in the way."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason, remedy = "a file is in the way", "name a folder"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason, remedy = "the disk is full", "free some space or choose another disk"
    elif error.errno == errno.ENAMETOOLONG:
        reason, remedy = "its name is too long", "choose a shorter path"
    else:
        reason, remedy = (error.strerror or type(error).__name__).lower(), "choose a folder that can be written to"
    return UserError(f"{path} cannot be written ({reason}); {remedy} with {option}.")


def sha256(path: Path) -> str:
    """SHA-256 of a file's contents, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of ``files``."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 that appears when it is complete.

    Half a character, as a file name that is not UTF-8 leaves it, is written as the escape that JSON has for it.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def copy_file(source: Path, place: Path) -> None:
    """Copy a file so that its place holds all of it or what was there."""
    with replacing(place) as file:
        file.write(source.read_bytes())


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a report as JSON, atomically; what JSON does not know, such as a path, as text."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def write_result(path: Path, text: str) -> None:
    """:func:`write_text` for a command's results: what stands in the way is told in a sentence.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_object(path: Path, *, most: int = LARGEST_OBJECT, remedy: str = "mend it or remove it") -> dict[str, Any]:
    """The object in a JSON or YAML file of somebody else, in any of the encodings of Unicode.

    Args:
        path: the file.
        most: bytes it may have.
        remedy: what the user can do about a file that is broken.

    Raises:
        UserError: the file is absent, no regular file, too large or nested too deeply, is neither JSON nor YAML, says
            something twice, or does not hold an object.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "dataset.json"
        ...     _ = path.write_text('{"labels": {"1": "liver"}}')
        ...     print(read_object(path))
        {'labels': {'1': 'liver'}}
    """
    kind = "YAML" if path.suffix in (".yaml", ".yml") else "JSON"
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a named pipe would wait for ever
            raise UserError(f"{path} is not a regular file: {remedy}.")
        if facts.st_size > most:
            raise UserError(f"{path} has {facts.st_size} bytes, more than the {most} of any such file: {remedy}.")
        content = _parsed(path.read_bytes(), kind)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}.") from error
    except RecursionError as error:
        raise UserError(f"{path} cannot be read as {kind} (nested too deeply): {remedy}.") from error
    except UnicodeError as error:
        raise UserError(f"{path} cannot be read as {kind} (it is not UTF-8): save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error.strerror if isinstance(error, OSError) else error).split())[:200]
        raise UserError(f"{path} cannot be read as {kind} ({reason}): {remedy}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold an object of names and values, but {type(content).__name__}: {remedy}.")
    return content


def _parsed(data: bytes, kind: str) -> Any:
    if kind == "JSON":
        return json.loads(data, object_pairs_hook=_without_doubles, parse_constant=_no_number)
    import yaml  # here, for it is met only in bundles of others

    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different."""
    content = dict(pairs)
    # JSON leaves open which of two equal names counts: what was looked at would not be what another program uses.
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return content
