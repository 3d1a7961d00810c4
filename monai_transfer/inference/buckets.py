"""Folders of a bucket (``s3://``, ``gs://``) by fsspec, and cases whose files lie there."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write
from monai_transfer.inference.cases import InputCase
from monai_transfer.inference.output_folder import MANIFEST
from monai_transfer.text import line_of
from monai_transfer.volumes.volume import Reading, Volume, VolumeError


class Bucket:
    """A folder of a bucket, and the folder of this disk that stands for it.

    Args:
        url: of the folder, or of one object.
        folder: stands for it; its objects are empty files in it.

    Attributes:
        sizes: bytes of each object when it was listed or put.

    Raises:
        UserError: it cannot be listed.
    """

    def __init__(self, url: str, folder: Path, *, is_output: bool = False) -> None:
        with _asked(url):
            self._files, root = _files_of(url)
            found = self._files.find(root, detail=True)
        single = set(found) == {root}
        if not found and not is_output:
            raise UserError(f"{url} does not exist; name a folder or object of volumes.")
        self._root = str(PurePosixPath(root).parent) if single else root
        self.url = url.rsplit("/", 1)[0] if single else url
        self.folder = folder
        self.path = folder / PurePosixPath(root).name if single else folder
        names = {key[len(self._root) + 1 :]: each for key, each in found.items()}
        # a key may hold "..", "//" or a slash at its end, which no path of a file has
        facts = {name: each for name, each in names.items() if _is_plain(name)}
        self.sizes = {name: each["size"] for name, each in facts.items()}
        self._versions = {name: _version(each) for name, each in facts.items()}
        folder.mkdir(parents=True)
        for name in self.sizes:
            place = folder / name
            with suppress(FileExistsError, NotADirectoryError):  # another key is the folder of this one
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            if place.name == MANIFEST and place.is_file():  # by its content a folder of results is known
                fetch(f"{self.url}/{name}", place)

    def version(self, name: str) -> list[Any]:
        """What tells an object from another that had its name: size, checksum and time, as the bucket says."""
        return self._versions[name]

    def put(self, name: str) -> None:
        """Put the file that stands for an object into the bucket; until it is whole the older one is there.

        Raises:
            UserError: it cannot be written.
        """
        with _asked(f"{self.url}/{name}", "written"):
            self._files.put_file(str(self.folder / name), f"{self._root}/{name}")
            self.sizes[name] = (self.folder / name).stat().st_size

    def remove(self, name: str) -> None:
        """Remove an object.

        Raises:
            UserError: it cannot be removed.
        """
        with _asked(f"{self.url}/{name}", "removed"):
            self._files.rm_file(f"{self._root}/{name}")
            self.sizes.pop(name, None)


@dataclass(frozen=True)
class BucketCase(InputCase):
    """A case whose files lie in a bucket; they are fetched when it is read.

    Attributes:
        urls: of its files.
        versions: a digest of what the bucket says of them.
    """

    urls: tuple[str, ...] = ()
    versions: str = ""

    @property
    def where(self) -> str:
        """What the case is read from."""
        return "|".join(self.urls)

    def identity(self) -> str:
        """A digest of where the case lies and what is there."""
        return hashlib.sha256(f"{self.where}|{self.versions}".encode()).hexdigest()

    def read(self, reading: Reading = Reading()) -> Volume:  # noqa: B008 (frozen)
        """The volume, by the files that are fetched for it and then removed.

        Raises:
            UserError: it cannot be fetched or read.
        """
        with TemporaryDirectory(prefix="monai-transfer-") as folder:
            files = tuple(Path(folder) / path.name for path in self.paths)
            plain = {each.name: getattr(self, each.name) for each in fields(InputCase)}
            local = InputCase(**{**plain, "source": files[0] if isinstance(self.source, Path) else files})
            try:
                for url, file in zip(self.urls, files, strict=True) if self.fault is None else ():
                    fetch(url, file)
                volume = local.read(reading)
            except VolumeError as error:
                told = str(error).replace(f"{folder}/", f"{self.urls[0].rsplit('/', 1)[0]}/")
                raise VolumeError(error.kind, told) from error
            notes = [replace(n, message=n.message.replace(str(files[0]), self.urls[0])) for n in volume.notes]
            return replace(volume, path=Path(self.urls[0]), notes=tuple(notes))


def fetch(url: str, place: Path) -> None:
    """Bring an object of a bucket to a file.

    Raises:
        UserError: it cannot be read.
    """
    with _asked(url):
        files, root = _files_of(url)
        files.get_file(root, str(place))


def _files_of(url: str) -> tuple[Any, str]:
    """The file system of an address, and the address within it."""
    import fsspec

    # what was listed a moment ago may have changed by the hand of another process
    files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return files, root


@contextmanager
def _asked(url: str, done: str = "read") -> Iterator[None]:
    """One sentence for whatever a bucket answers; a full disk of this machine is told as such."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{url} needs a package that is not installed: pip install 'monai-transfer[cloud]'.") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError) or not error.filename:
            raise _refused(url, done, error) from error
        raise cannot_write(Path(error.filename), error) from error
    except Exception as error:
        raise _refused(url, done, error) from error


def _refused(url: str, done: str, error: Exception) -> UserError:
    reason = line_of(error, last=True)
    return UserError(f"{url} cannot be {done} ({reason}): check the address, the network and the credentials.")


def _is_plain(name: str) -> bool:
    return PurePosixPath(name).as_posix() == name and not {"", ".", ".."} & set(name.split("/"))


def _version(facts: Mapping[str, Any]) -> list[Any]:
    when = facts.get("LastModified", facts.get("updated"))
    return [facts["size"], facts.get("ETag", facts.get("etag")), str(when)]
