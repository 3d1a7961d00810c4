"""BIDS: which images of a data set are segmented, and how results lie in a data set of derivatives.

``sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz`` becomes ``sub-01/ses-1/anat/sub-01_ses-1_desc-T1w_dseg.nii.gz``: what the
image was stands in ``desc``, so that several images of one session have results of their own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.files import read_object, write_result
from monai_transfer.inference.cases import InputCase, Inputs, Skipped, require_there
from monai_transfer.inference.output_folder import LABELS, PREVIEW, PROBABILITIES, UNCERTAINTY, require_apart
from monai_transfer.machine import versions
from monai_transfer.text import csv_cell, one_line
from monai_transfer.volumes.volume import list_volumes, natural_key, stem

if TYPE_CHECKING:
    from monai_transfer.inference.segmentation import SegmentOptions

BIDS_ENDINGS = {LABELS: "_dseg.nii.gz", PROBABILITIES: "_probseg.nii.gz", UNCERTAINTY: UNCERTAINTY, PREVIEW: PREVIEW}
"""What follows the entities of a case."""

VERSION = "1.9.0"
_DATATYPES = ("anat", "ct", "pet")
"""Folders of volumes that show bodies; those of fMRI, diffusion and field maps hold series."""

_NAME = re.compile(r"^(sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9]+)*)_([A-Za-z0-9]+)$")
_RESULTS = ("dseg", "probseg", "mask")
_DESCRIPTION = "dataset_description.json"
_IGNORED = ("manifest.json", "labels.*", "statistics.csv", "logs/", "*_preview.png", "*_uncertainty.nii.gz")
"""What BIDS does not know."""


def require_bids(options: "SegmentOptions", output: Path) -> None:
    """Refuse what a data set of derivatives has no place for, and a folder that is somebody else's data set.

    Raises:
        UserError: naming the option or the folder.
    """
    for option, given in (("--masks", options.masks), ("--dicom-seg", options.dicom_seg), ("--format", options.format)):
        if given and given != "nifti":
            raise UserError(f"{option} does not go with --bids, whose results are NIfTI label maps: omit it.")
    path = output / _DESCRIPTION
    if path.exists() and "monai-transfer" not in str(read_object(path).get("GeneratedBy")):
        raise UserError(f"{path} describes another data set: choose an --output such as derivatives/monai-transfer.")


def find_bids_cases(inputs: Sequence[Path], *, channels: int | None = None, output: Path | None = None) -> Inputs:
    """The anatomical images of BIDS data sets, or of single subjects of them.

    Args:
        inputs: the folders.
        channels: channels that the bundle expects.
        output: the folder of the results.

    Raises:
        UserError: a folder is no BIDS data set, no image is there, the bundle takes several images at once, or inputs
            and results lie in each other.
    """
    if channels is not None and channels > 1:
        raise UserError(f"The bundle takes {channels} channels, and --bids gives it one image at a time: omit --bids.")
    if output is not None:
        require_apart(inputs, output)
    require_there(inputs)
    found, names = Inputs(), set()
    for given in inputs:
        for case in _images(given, found.skipped):
            if case.name in names:
                found.skipped.append(Skipped(case.path, f"another image gives the result {case.name}"))
            else:
                names.add(case.name)
                found.cases.append(case)
    if not found.cases:
        raise UserError(f"{inputs[0]} has no image such as sub-01/anat/sub-01_T1w.nii.gz: omit --bids.")
    return found


def _images(given: Path, skipped: list[Skipped]) -> list[InputCase]:
    subjects = [given] if given.name.startswith("sub-") else sorted(given.glob("sub-*"), key=_order)
    if not given.is_dir() or not subjects:
        raise UserError(f"{given} is no BIDS data set, for it has no folder sub-…: name its folder or omit --bids.")
    cases = []
    for subject in subjects:
        for session in (subject, *sorted(subject.glob("ses-*"), key=_order)):
            for datatype in sorted(path for path in session.glob("*") if path.is_dir() and path.name[:4] != "ses-"):
                if datatype.name not in _DATATYPES:
                    skipped.append(Skipped(datatype, f"by its name no folder of {', '.join(_DATATYPES)}"))
                    continue
                folder = datatype.relative_to(subject.parent).as_posix()
                for image in list_volumes(datatype):
                    cases += _case(image, folder, skipped)
    return cases


def _case(image: Path, folder: str, skipped: list[Skipped]) -> list[InputCase]:
    match = _NAME.match(stem(image))
    if match is None or match[2] in _RESULTS:
        skipped.append(
            Skipped(image, "not named as BIDS names an image" if match is None else "by its name a label map")
        )
        return []
    entities = match[1].split("_")
    described = "".join(part.removeprefix("desc-") for part in entities if part.startswith("desc-"))
    kept = [part for part in entities if not part.startswith("desc-")]
    return [InputCase(f"{folder}/{'_'.join(kept)}_desc-{described}{match[2]}", image)]


def _order(path: Path) -> tuple[object, str]:
    return natural_key(path.name), path.name


def write_bids_description(output: Path, label_names: Mapping[int, str], inputs: Sequence[Path]) -> None:
    """Write ``dataset_description.json``, the names of the labels (``dseg.tsv``) and what BIDS shall ignore.

    Args:
        output: the folder of the results.
        label_names: name of each value.
        inputs: the data sets, of which the names are told where they have some.

    Raises:
        UserError: they cannot be written.
    """
    ours = {"Name": "monai-transfer", "Version": versions()["monai-transfer"]}
    description: dict[str, Any] = {
        "Name": "Segmentations by monai-transfer",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [ours],
    }
    if names := [name for given in inputs if (name := _name_of(given)) is not None]:
        description["Name"] += f" of {', '.join(names)}"
    table = ["index\tname", *(f"{number}\t{_cell(name)}" for number, name in sorted(label_names.items()))]
    texts = {
        _DESCRIPTION: json.dumps(description, indent=2),
        "dseg.tsv": "\n".join(table),
        ".bidsignore": "\n".join(_IGNORED),
    }
    for name, text in texts.items():
        write_result(output / name, text + "\n")


def _name_of(folder: Path) -> str | None:
    path = folder / _DESCRIPTION
    name = read_object(path).get("Name") if path.is_file() else None
    return one_line(name) if isinstance(name, str) else None


def _cell(name: str) -> str:
    """A name for a table whose columns are told by tabs."""
    return str(csv_cell(" ".join(name.split()) or "n/a"))
