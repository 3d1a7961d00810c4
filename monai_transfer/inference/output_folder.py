"""The output folder: what its files are called, its manifest, and what may be written there.

The label map of a case is ``NAME.nii.gz``; what may be asked for beside it is ``NAME_probabilities.nii.gz`` and so on.
A case called ``x_probabilities`` would therefore write over the side product of ``x``. So names are given to all cases
at once, and each is given only where *all* its files are still free, whether or not they are asked for this time: the
names then do not depend on the options.

``manifest.json`` says what becomes of every input. It is written before the first case and after each, by all processes
of a run. Results never come over an input, over the results of other inputs, or among somebody's files.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write, sha256, write_text

if TYPE_CHECKING:
    from monai_transfer.inference.cases import InputCase

LABELS = ".nii.gz"
PROBABILITIES = "_probabilities.nii.gz"
UNCERTAINTY = "_uncertainty.nii.gz"
PREVIEW = "_preview.png"
DICOM_SEG = "_seg.dcm"
MASKS = "_labels"
"""A folder with a file for each label."""

PRODUCTS = (LABELS, PROBABILITIES, UNCERTAINTY, PREVIEW, DICOM_SEG, MASKS)
OTHER_LABELS = (".nii", ".nrrd", ".seg.nrrd", ".mha", ".mgz")
"""Endings that label maps have on request."""

MANIFEST = "manifest.json"
STATISTICS = "statistics.csv"
SIDECARS = ("labels.json", "labels.itksnap.txt", "labels.ctbl")
_LARGEST_MANIFEST = 200_000_000
"""Bytes; a hundred thousand cases fit into it."""

_LONGEST = 160
"""Bytes of a case's name. File systems allow 255; viewers and converters add endings of their own to the results."""

_HARMFUL = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
"""What some file system forbids, a terminal obeys, or turns the direction of writing round."""

_DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
"""Names that open a device on Windows, whatever their ending."""

_PRODUCT_OPTIONS = ("probabilities", "uncertainty", "dicom_seg", "masks", "format", "bids")
"""Options that add or name files and change no number."""


def harmless(name: str) -> str:
    """A name that every file system takes and no shell, viewer or terminal trips over.

    Example:
        >>> harmless("a/b: c?")
        'a_b_ c_'
        >>> harmless("CON"), harmless(" .hidden. "), harmless("- 0"), harmless("")
        ('CON_', 'hidden', '0', 'case')
    """
    plain = _HARMFUL.sub("_", unicodedata.normalize("NFC", name)).lstrip("-. ").rstrip(". ")
    plain = f"{plain}_" if _DEVICES.match(plain) else plain or "case"
    if len(plain.encode()) <= _LONGEST:
        return plain
    # of the whole name: two long names that begin alike stay apart
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain.encode()[: _LONGEST - 9].decode(errors='ignore').rstrip()}-{digest}"


def files_of(name: str) -> list[str]:
    """All files that a case of this name may have."""
    return [name + product for product in (*PRODUCTS, *OTHER_LABELS)]


def names_apart(wishes: Sequence[Sequence[str]]) -> list[str]:
    """Give each case a name of which no file meets that of another, upper and lower case being the same.

    Args:
        wishes: for each case the names to try, the plainest first. A first wish that several cases share is nobody's.

    Returns:
        one name per case; with a number at its end where all wishes were taken.

    Example:
        >>> names_apart([["x"], ["x_probabilities"], ["scan", "a_scan"], ["SCAN", "b_SCAN"]])
        ['x', 'x_probabilities_2', 'a_scan', 'b_SCAN']
    """
    wishes = [[harmless(wish) for wish in each] for each in wishes]
    first = Counter(_key(each[0]) for each in wishes)
    taken = {_key(name) for name in (MANIFEST, STATISTICS, *SIDECARS)}
    names: dict[int, str] = {}
    # Those whose plain name is theirs alone choose first, so that a numbered name never takes it from them.
    shared = [first[_key(each[0])] > 1 for each in wishes]
    for case in sorted(range(len(wishes)), key=lambda index: shared[index]):
        wanted = wishes[case][1:] or wishes[case] if shared[case] else wishes[case]
        names[case] = next(name for name in _numbered(wanted) if taken.isdisjoint(map(_key, files_of(name))))
        taken |= {_key(file) for file in files_of(names[case])}
    return [names[case] for case in range(len(wishes))]


def _numbered(wishes: Sequence[str]) -> Iterable[str]:
    yield from wishes
    number = 2
    while True:
        yield harmless(f"{wishes[-1]}_{number}")
        number += 1


def _key(name: str) -> str:
    """What file systems that do not tell upper from lower case, or composed from decomposed letters, compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: the output folder.
        head: what stands before the cases: versions, bundle, options, skipped inputs.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any]) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        self.lock = FileLock(folder / f".{MANIFEST}.lock")
        self.head = dict(head)

    @property
    def made_with(self) -> str:
        """A digest of what decides the numbers in the results: the bundle, the labels and the options."""
        options = {name: value for name, value in self.head["options"].items() if name not in _PRODUCT_OPTIONS}
        facts = [self.head["bundle"], self.head["labels"], options]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def read(self) -> dict[str, Any]:
        """The manifest as it stands; empty when there is none or it is broken."""
        content = _read(self.path)
        return {**content, "cases": [entry for entry in content["cases"] if isinstance(entry, dict)]}

    def entries(self) -> dict[str, dict[str, Any]]:
        """The entries of the cases by name."""
        return {str(entry.get("case")): entry for entry in self.read()["cases"]}

    def record(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add the entries of cases, in place of older ones of the same names.

        Raises:
            UserError: when it cannot be written.
        """
        new = {str(entry["case"]): dict(entry) for entry in entries}
        try:
            with self.lock:
                cases = sorted((self.entries() | new).items())
                content = {**self.head, "cases": [entry for _, entry in cases]}
                write_text(self.path, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def is_finished(self, case: "InputCase", products: Sequence[str], entry: Mapping[str, Any]) -> bool:
        """Whether an earlier run finished this case: the same input, bundle, options and products, the files unharmed.

        Args:
            case: the case as it lies there now.
            products: what is asked for, as the endings of files.
            entry: what the manifest says of the case of that name.
        """
        if entry.get("status") != "ok" or entry.get("made_with") != self.made_with:
            return False
        if not set(products) <= set(entry.get("asked", ())) or entry.get("identity") != case.identity():
            return False
        files = entry.get("files")
        return isinstance(files, dict) and bool(files) and all(self._is_whole(*file) for file in files.items())

    def _is_whole(self, name: str, recorded: Mapping[str, Any]) -> bool:
        path = self.folder / name
        try:
            return bool(path.stat().st_size == recorded["bytes"] and sha256(path) == recorded["sha256"])
        except (OSError, KeyError, TypeError):
            return False


def is_result_folder(folder: Path) -> bool:
    """Whether a folder holds results of this package: its manifest names a bundle and cases."""
    return "bundle" in _read(folder / MANIFEST)


def _read(manifest: Path) -> dict[str, Any]:
    """What a manifest holds; only an empty list of cases where there is none, or something else of that name."""
    with suppress(OSError, ValueError, RecursionError):
        # a named pipe would be waited for, and a device read without end
        if manifest.is_file() and manifest.stat().st_size <= _LARGEST_MANIFEST:
            content = json.loads(manifest.read_text())
            if isinstance(content, dict) and isinstance(content.get("cases"), list):
                return content
    return {"cases": []}


def require_apart(inputs: Sequence[Path], output: Path) -> None:
    """See that no input lies in the output folder, and that an output folder within an input holds results only.

    The latter is left out when the input is searched (see :func:`find_cases`), so nothing but results may be in it.

    Raises:
        UserError: naming both.
    """
    for given in inputs:
        if lies_in(given, output):
            raise UserError(f"{given} lies in the output folder {output}; choose an --output apart from the inputs.")
        if given.is_dir() and lies_in(output, given) and output.is_dir():
            foreign = [p.name for p in output.iterdir() if not p.name.startswith(".")]
            if foreign and not is_result_folder(output):
                raise UserError(
                    f"{output} lies in the input {given} and holds {foreign[0]}, which is not a result of "
                    "this command; choose an empty or new --output."
                )


def require_unclaimed(
    output: Path, files: Mapping["InputCase", Sequence[str]], manifest: Manifest, *, resume: bool, overwrite: bool
) -> None:
    """See that no file of the run is there yet, or that it may be replaced.

    Args:
        output: the folder.
        files: the names of the files that each case will have.
        manifest: of this run, at the place where that of an earlier one may lie.
        resume: whether results of the same inputs may be replaced.
        overwrite: whether other results may be replaced too.

    Raises:
        UserError: naming the file and what it is; one that is itself an input may never be replaced.
    """
    # Listed before the manifest is read: another process of the same run may begin it at this moment.
    ours = [name for name in (MANIFEST, STATISTICS, *SIDECARS) if os.path.lexists(output / name)]
    content, entries = manifest.read(), manifest.entries()
    inputs = {_number(path): path for case in files for path in case.paths if path.is_file()}
    for case, names in files.items():
        for path in (output / name for name in names):
            if not os.path.lexists(path):
                continue
            if (same := inputs.get(_number(path))) is not None:
                raise UserError(f"{path} and the input {same} are one file; choose another --output.")
            if not overwrite:
                _require_owned(path, case, entries.get(case.name, {}).get("source"), resume=resume)
    if overwrite:
        return
    if "bundle" not in content and ours:
        raise UserError(f"{output / ours[0]} is not of this command; add --overwrite or choose another --output.")
    others = entries.keys() - {case.name for case in files}
    if others and content.get("labels") != manifest.head["labels"]:
        raise UserError(f"{output} holds results with other labels, such as {min(others)}; choose another --output.")


def _require_owned(path: Path, case: "InputCase", owner: str | None, *, resume: bool) -> None:
    """See that a result that is there belongs to the same input, and that the user wants to go on with it."""
    if owner is None:
        raise UserError(f"{path} exists and is in no {MANIFEST}; add --overwrite or choose another --output.")
    if owner != case.where:
        raise UserError(
            f"{path} is the result of another input ({owner}); add --overwrite to replace it, or choose another "
            "--output."
        )
    if not resume:
        raise UserError(
            f"{path} exists; add --resume to keep what is finished, --overwrite to make it again, or choose another "
            "--output."
        )


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies in it, by name with links followed or by what the system says is the same."""
    real, real_folder = path.resolve(), folder.resolve()
    if real_folder == real or real_folder in real.parents:
        return True
    # Two names without a link between them: a mount of the same disk, or a disk that ignores upper and lower case.
    number = _number(real_folder)
    return number is not None and any(_number(parent) == number for parent in (real, *real.parents))


def _number(path: Path) -> tuple[int, int] | None:
    """What tells files apart whatever their names: the disk and the number on it."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
