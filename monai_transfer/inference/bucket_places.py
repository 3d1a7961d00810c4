"""Where a run reads and writes: folders of this disk, or buckets (``s3://``, ``gs://``) that folders stand for.

A bucket has no half-written files and no links, and listing it costs more than reading a folder. So its objects are
listed once, and stand as empty files in a temporary folder: what decides about names, channels, label maps and whose a
result is, decides about them as about any files. The bytes come and go one case at a time: a case is fetched into a
folder of its own and read there like any file, its results are written beside their stand-ins, put into the bucket,
where an object is there whole or not at all, and emptied again.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.files import due_again
from monai_transfer.inference.buckets import Bucket, BucketCase
from monai_transfer.inference.case_work import CaseWork, Places, url_of
from monai_transfer.inference.cases import InputCase
from monai_transfer.inference.output_folder import MANIFEST, Manifest
from monai_transfer.inference.segmentation import Segmentation

if TYPE_CHECKING:
    from monai_transfer.inference.segmenter import Segmenter


@contextmanager
def bucket_places(inputs: Sequence[str | Path], output: str | Path, *, share: tuple[int, int]) -> Iterator[Places]:
    """The places of a run some of which lie in buckets.

    Args:
        inputs: files, folders and addresses.
        output: the folder of the results.
        share: which of how many. A bucket has no lock for a manifest of several: each has a folder of its own there.

    Raises:
        UserError: a bucket cannot be read, or inputs and results lie in each other there.
    """
    where = url_of(output)
    if where is not None and share[1] > 1:
        output = where = f"{where}/{share[0] + 1}-of-{share[1]}"
    for url in (url_of(path) for path in inputs):
        if url is not None and where is not None and f"{url}/".startswith(f"{where}/"):
            raise UserError(f"{url} lies in the output folder {where}; choose an --output apart from the inputs.")
    with tempfile.TemporaryDirectory(prefix="monai-transfer-") as temporary:
        folder = Path(temporary).resolve()
        stand_ins = [_stand_in(path, folder / f"input{n}") for n, path in enumerate(inputs)]
        results = _stand_in(output, folder / "output", is_output=True)
        buckets = [stand_in for stand_in in (*stand_ins, results) if isinstance(stand_in, Bucket)]
        places = BucketPlaces(
            [_here(stand_in) for stand_in in stand_ins],
            _here(results),
            buckets,
            results if isinstance(results, Bucket) else None,
        )
        try:
            yield places
        except UserError as error:
            error.args = (places.told(str(error)),)
            raise


@dataclass
class BucketPlaces(Places):
    """Inputs and output some of which lie in buckets.

    Args:
        inputs: files and folders, or what stands for them.
        output: the folder of the results, or what stands for it.
        buckets: all that folders stand for.
        results: the bucket of the results, where it is one.
    """

    buckets: list[Bucket] = field(default_factory=list)
    results: Bucket | None = None

    def case(self, case: InputCase) -> InputCase:
        """The case by its addresses, where its files are only stood for."""
        for bucket in self.buckets:
            if bucket.folder in case.path.parents:
                names = [path.relative_to(bucket.folder).as_posix() for path in case.paths]
                plain = {each.name: getattr(case, each.name) for each in fields(InputCase)}
                return BucketCase(
                    **{**plain, "fault": case.fault and self.told(case.fault)},
                    urls=tuple(f"{bucket.url}/{name}" for name in names),
                    versions=json.dumps([bucket.version(name) for name in names], default=str),
                )
        return case

    def work(self, segmenter: "Segmenter", *, preview: bool) -> CaseWork:
        """What reads, computes and writes the cases."""
        return _BucketWork(segmenter, self.output, preview, self)

    def manifest(self, head: Mapping[str, Any]) -> Manifest:
        """The manifest in the output, and in the bucket a little later."""
        head = self.told(dict(head))
        return Manifest(self.output, head) if self.results is None else _BucketManifest(self.results, head)

    def finish(self) -> None:
        """Put the manifest and what describes the labels into the bucket; the manifest last."""
        if self.results is not None:
            files = [path for path in self.output.rglob("*") if path.is_file() and path.stat().st_size]
            for path in sorted(files, key=lambda path: path.name == MANIFEST):
                if not path.name.startswith("."):
                    self.results.put(path.relative_to(self.output).as_posix())

    def told(self, what: Any) -> Any:
        """Text, or texts in lists and dictionaries, with addresses in the place of the folders that stand for them."""
        if isinstance(what, str):
            for bucket in self.buckets:
                what = what.replace(str(bucket.folder), bucket.url)
            return what
        if isinstance(what, Mapping):
            return {name: self.told(part) for name, part in what.items()}
        return [self.told(part) for part in what] if isinstance(what, list) else what


@dataclass
class _BucketWork(CaseWork):
    places: BucketPlaces

    def pending(self, case: InputCase, made_with: str) -> dict[str, Any]:
        entry: dict[str, Any] = self.places.told(super().pending(case, made_with))
        return entry

    def write(self, case: InputCase, entry: dict[str, Any], result: Segmentation | None, stale: Sequence[str]) -> None:
        super().write(case, entry, result, stale)
        results = self.places.results
        if results is not None:
            try:
                for name in entry["files"]:
                    results.put(name)
                for name in (set(stale) - set(entry["files"])) & set(results.sizes):
                    results.remove(name)
            except UserError as error:
                entry |= {"status": "failed", "error": str(error), "output": None}
            for name in entry["files"]:
                (self.output / name).write_bytes(b"")
        entry |= self.places.told(entry)


class _BucketManifest(Manifest):
    """A manifest in a bucket, which has no locks: it is one process's, and put there now and then."""

    def __init__(self, bucket: Bucket, head: Mapping[str, Any]) -> None:
        super().__init__(bucket.folder, head)
        self._bucket, self._next = bucket, 0.0

    def record(self, entries: Any) -> None:
        super().record(entries)
        begin = time.monotonic()
        if begin >= self._next:
            self._bucket.put(MANIFEST)
            self._next = due_again(begin)

    def _is_whole(self, name: str, recorded: Mapping[str, Any]) -> bool:
        return self._bucket.sizes.get(name) == recorded.get("bytes")


def _stand_in(path: str | Path, folder: Path, *, is_output: bool = False) -> Path | Bucket:
    url = url_of(path)
    return Path(path).expanduser() if url is None else Bucket(url, folder, is_output=is_output)


def _here(place: Path | Bucket) -> Path:
    return place.path if isinstance(place, Bucket) else place
