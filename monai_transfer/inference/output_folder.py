"""Where results may be written: never over an input, over the results of other inputs, or among somebody's files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_transfer.errors import UserError
from monai_transfer.inference.cases import InputCase, is_result_folder
from monai_transfer.inference.manifest import Manifest
from monai_transfer.inference.naming import MANIFEST, SIDECARS


def require_apart(inputs: Sequence[Path], output: Path) -> None:
    """See that no input lies in the output folder, and that an output folder within an input holds results only.

    The latter is left out when the input is searched (see :func:`find_cases`), so nothing but results may be in it.

    Raises:
        UserError: naming both.
    """
    for given in inputs:
        if _lies_in(given, output):
            raise UserError(f"{given} lies in the output folder {output}; choose an --output apart from the inputs.")
        if given.is_dir() and _lies_in(output, given) and output.is_dir():
            foreign = [p.name for p in output.iterdir() if not p.name.startswith(".")]
            if foreign and not is_result_folder(output):
                raise UserError(
                    f"{output} lies in the input {given} and holds {foreign[0]}, which is no result of this command; "
                    "choose an empty or new --output."
                )


def require_free(
    output: Path,
    files: Mapping[InputCase, Sequence[str]],
    manifest: Manifest,
    *,
    resume: bool,
    overwrite: bool,
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
    ours = [name for name in (MANIFEST, *SIDECARS) if os.path.lexists(output / name)]
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


def _require_owned(path: Path, case: InputCase, owner: str | None, *, resume: bool) -> None:
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


def _lies_in(path: Path, folder: Path) -> bool:
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
