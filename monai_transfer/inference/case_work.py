"""What is done with one case, where it lies: it is read, computed and written; what fails is told in its entry."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write, due_again, sha256
from monai_transfer.inference.bids import BIDS_ENDINGS, find_bids_cases, require_bids
from monai_transfer.inference.cases import InputCase, find_cases
from monai_transfer.inference.dicom_seg import require_series
from monai_transfer.inference.label_files import label_ending
from monai_transfer.inference.output_folder import LABELS, PRODUCTS, Manifest, lies_in
from monai_transfer.inference.segmentation import Segmentation, SegmentOptions, require_room_for_results, write_results
from monai_transfer.machine import peak_memory_mb, reset_peak_memory
from monai_transfer.text import listening
from monai_transfer.volumes.volume import Volume

if TYPE_CHECKING:
    from monai_transfer.inference.segmenter import Segmenter

logger = logging.getLogger(__name__)

_URL = re.compile(r"^(s3|gs):/{1,2}(?=[^/])")
"""An address; of ``//`` a ``Path`` keeps one."""

Read = tuple[Volume, float]
"""A volume, and the seconds that reading it took."""


def products_of(case: InputCase, options: SegmentOptions, *, preview: bool = False) -> dict[str, str]:
    """What is asked for of a case, and the endings of its files, the label map first."""
    asked = (True, options.probabilities, options.uncertainty, preview, options.dicom_seg, options.masks)
    products = {product: product for product, is_asked in zip(PRODUCTS, asked, strict=True) if is_asked}
    if options.bids:
        return {product: BIDS_ENDINGS[product] for product in products}
    if options.format != "nifti":
        products[LABELS] = label_ending(options.format, case.path)
    return products


@dataclass
class CaseWork:
    """The steps of a case by one network; several cases may be in different steps at once.

    An entry is what the manifest says of a case. A fault of the case ends in its entry and stops nobody.

    Args:
        segmenter: the network and its options.
        output: the folder of the results.
        preview: also write a picture of the outlines.
    """

    segmenter: "Segmenter"
    output: Path
    preview: bool

    def products(self, case: InputCase) -> dict[str, str]:
        """What is asked for, and the endings of its files."""
        return products_of(case, self.segmenter.options, preview=self.preview)

    def pending(self, case: InputCase, made_with: str) -> dict[str, Any]:
        """The entry of a case whose turn has not come."""
        absent = [self.segmenter.channel_names[number] for number in case.absent]
        asked = list(self.products(case).values())
        return {
            "case": case.name, "input": str(case.path), "output": None, "status": "pending", "error": None,
            "warnings": [f"{case.path} is segmented without {', '.join(absent)}."] * bool(absent), "seconds": {},
            "peak_memory_mb": None, "volumes_ml": {}, "files": {}, "asked": asked, "source": case.where,
            "identity": case.identity(), "made_with": made_with, "absent_channels": absent,
        }  # fmt: skip

    def read(self, case: InputCase, entry: dict[str, Any]) -> Read:
        """The volume of a case.

        Raises:
            UserError: it cannot be read.
        """
        begin = time.perf_counter()
        with listening(entry["warnings"]):
            volume = case.read(self.segmenter.options.reading)
        return volume, time.perf_counter() - begin

    def compute(
        self, entry: dict[str, Any], reading: Callable[[], Read], *, progress: Callable[[int, int], None] | None = None
    ) -> Segmentation | None:
        """The labels of a volume; ``None`` where it cannot be read or segmented.

        Args:
            entry: of the case; gets seconds, memory, volumes, or the error.
            reading: gives the volume, or raises what reading it raised.
            progress: called with the windows that are done and all of them.
        """
        reset_peak_memory()
        try:
            volume, seconds = reading()
            entry["warnings"] += [note.message for note in getattr(volume, "notes", ())]
            options, classes = self.segmenter.options, len(self.segmenter.label_names)
            if options.dicom_seg:
                require_series(volume)
            require_room_for_results(self.output, volume, options, classes=classes)
            with listening(entry["warnings"]):
                seen_again = options.statistics or self.preview
                result = self.segmenter.segment(volume, progress=progress, keep_voxels=seen_again)
        except UserError as error:
            entry["error"] = str(error)
        except Exception as error:
            logger.debug("%s failed", entry["input"], exc_info=True)
            entry["error"] = f"{entry['input']}: {type(error).__name__}: {error}"
        else:
            result.seconds["read"] = seconds
            entry["seconds"] = {k: round(v, 4) for k, v in result.seconds.items()}
            entry["peak_memory_mb"] = peak_memory_mb()
            entry["volumes_ml"] = result.volumes_ml
            if options.statistics:
                from monai_transfer.inference.statistics import label_statistics  # only where it is asked for

                entry["statistics"] = label_statistics(result, self.segmenter.channel_names)
            entry |= result.judgement
            entry["runtime"] = self.segmenter.predictor.used
            entry["windows"] = {"computed": result.windows[0], "all": result.windows[1]}
            return result
        return None

    def write(self, case: InputCase, entry: dict[str, Any], result: Segmentation | None, stale: Sequence[str]) -> None:
        """Write what was computed, and complete the entry.

        Args:
            case: whose it is.
            entry: of the case.
            result: of :meth:`compute`.
            stale: files of an earlier run; those that are not written again are removed.
        """
        begin = time.perf_counter()
        entry["status"] = "failed"
        if result is not None:
            try:
                with listening(entry["warnings"]):
                    written = write_results(result, self.output, case.name, self.products(case))
                entry |= {"output": str(written[0]), "status": "ok"}
                entry["files"] = {
                    path.relative_to(self.output).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                    for path in written
                }
            except (UserError, OSError) as error:
                told = cannot_write(self.output / entry["case"], error) if isinstance(error, OSError) else error
                entry["error"] = str(told)
            except Exception as error:
                logger.debug("%s cannot be written", entry["case"], exc_info=True)
                entry["error"] = f"The result of {entry['input']} cannot be written: {type(error).__name__}: {error}"
            entry["seconds"]["write"] = round(time.perf_counter() - begin, 4)
        for name in set(stale) - set(entry["files"]):
            # A side product that was not asked for again, or a result whose input now fails, would be taken for new.
            _remove(self.output, name)


class Recorder(AbstractContextManager["Recorder"]):
    """Records entries now and then, and what waits at the end of its ``with`` block.

    A manifest of many cases is not written anew after each: its cost would grow with the square of their number.

    Args:
        manifest: where they go.

    Attributes:
        number: entries so far.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.number = 0
        self._waiting: list[Mapping[str, Any]] = []
        self._next = 0.0

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Take an entry, and record all that wait where that has not been done for a while."""
        self.number += 1
        self._waiting.append(entry)
        if time.monotonic() >= self._next:
            self._record()

    def _record(self) -> None:
        begin = time.monotonic()
        self.manifest.record(self._waiting)
        self._waiting = []
        self._next = due_again(begin)  # a kill costs seconds of finished cases

    def __exit__(self, *_: object) -> None:
        """Record what waits."""
        if self._waiting:
            self._record()


@dataclass
class Places:
    """Inputs and output of a run.

    Args:
        inputs: files and folders.
        output: the folder of the results.
    """

    inputs: list[Path]
    output: Path

    def case(self, case: InputCase) -> InputCase:
        """A case that can be read."""
        return case

    def work(self, segmenter: "Segmenter", *, preview: bool) -> CaseWork:
        """What reads, computes and writes the cases."""
        return CaseWork(segmenter, self.output, preview)

    def manifest(self, head: Mapping[str, Any]) -> Manifest:
        """The manifest in the output."""
        return Manifest(self.output, head)

    def told(self, what: Any) -> Any:
        """Text with the addresses of what folders stand for."""
        return what

    def finish(self) -> None:
        """Bring to its place what stands beside the cases."""


def url_of(path: str | Path) -> str | None:
    """The address of a folder or object in a bucket; ``None`` of a path on a disk.

    Example:
        >>> url_of(Path("s3://hospital/scans")), url_of("scans")
        ('s3://hospital/scans', None)
    """
    text = str(path)
    return _URL.sub(r"\1://", text).rstrip("/") if _URL.match(text) else None


@contextmanager
def places_of(inputs: Sequence[str | Path], output: str | Path, *, share: tuple[int, int] = (0, 1)) -> Iterator[Places]:
    """The places of a run, which may lie in buckets.

    Args:
        inputs: files, folders and addresses.
        output: the folder of the results.
        share: which of how many.

    Raises:
        UserError: a bucket cannot be read, or inputs and results lie in each other there.
    """
    if not any(url_of(path) for path in (*inputs, output)):
        yield Places([Path(path).expanduser() for path in inputs], Path(output).expanduser())
        return
    from monai_transfer.inference.bucket_places import bucket_places  # only where there are buckets

    with bucket_places(inputs, output, share=share) as places:
        yield places


def planned_results(
    inputs: Sequence[str | Path], output: str | Path, options: SegmentOptions, *, share: tuple[int, int] = (0, 1)
) -> tuple[dict[str, str], list[str]]:
    """What a run would make, as far as names tell: input -> label map, and a sentence for each input left out.

    Args:
        inputs: files, folders and addresses.
        output: the folder of the results.
        options: of the run.
        share: which of how many.

    Raises:
        UserError: as the run would, of inputs, output and ``--bids``.
    """
    if options.bids:
        require_bids(options, Path(output))
    with places_of(inputs, output) as places:
        found = (find_bids_cases if options.bids else find_cases)(places.inputs, output=places.output)
        cases = found.cases[share[0] :: share[1]]
        made = {c.path: f"{places.output / c.name}{products_of(c, options)[LABELS]}" for c in cases}
        left_out = [f"{places.told(str(each.path))} is left out: {each.reason}." for each in found.skipped]
        return {places.told(str(path)): places.told(result) for path, result in made.items()}, left_out


def _remove(folder: Path, name: str) -> None:
    """Remove a file that a manifest names, and the folder that held nothing else.

    A manifest is read from the disk, where it may be anybody's: what lies outside of the folder is left alone.
    """
    path = folder / name
    if not path.name or not lies_in(path.parent, folder):
        return
    path.unlink(missing_ok=True)
    if path.parent.resolve() != folder.resolve():
        with suppress(OSError):  # it holds something else
            path.parent.rmdir()
