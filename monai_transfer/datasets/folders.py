"""Cases from folders of images and labels whose files bear equal names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_transfer.datasets.cases import Case, Fault
from monai_transfer.datasets.channels import group_channels, names_end_in_channels
from monai_transfer.datasets.descriptions import Description
from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import is_segmentation, label_stem, list_volumes, stem


@dataclass
class Found:
    """What was gathered so far."""

    cases: list[Case] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def read_folders(images: Path, labels: Path | None, description: Description, found: Found) -> None:
    """Add the cases of a folder of images, and of a folder with their labels.

    Raises:
        UserError: two files are images, or labels, of the same case.
    """
    files, others = list_volumes(images), []
    if description.file_ending is not None:
        others = [file for file in files if not file.name.endswith(description.file_ending)]
        files = [file for file in files if file not in others]
    if others:
        message = (
            f"{others[0]} does not end in {description.file_ending} as {description.path} says: it is left out"
            f"{with_others(others)}."
        )
        found.warnings.append(Fault(others[0], "", "file_ending", message))
    maps = [] if labels is None else list_volumes(labels)
    if labels is None:  # 3D Slicer saves scan.nrrd and scan.seg.nrrd side by side
        maps = [file for file in files if is_segmentation(file)]
        files = [file for file in files if file not in maps]
    by_name = _by_name(maps, "labels")
    cases = pair(files, by_name, description, folder=images.name)
    used = {case.label for case in cases}
    found.cases += cases
    found.faults += [stray_label(label) for label in by_name.values() if label not in used]


def pair(images: Iterable[Path], labels: dict[str, Path], description: Description, *, folder: str) -> list[Case]:
    """Cases of image files, one per name or, where the names end in channels, one per group.

    Args:
        images: the files.
        labels: name of a case -> label map.
        description: what is known of the data set.
        folder: the name of the images' folder.

    Raises:
        UserError: two files are images of the same case.
    """
    by_name = _by_name(images, "images")
    if not names_end_in_channels(by_name, labels, folder=folder, description=description):
        return [Case(name, (image,), labels.get(name)) for name, image in by_name.items()]
    groups = group_channels(by_name, len(description.channel_names))
    return [Case(name, channels, labels.get(name)) for name, channels in groups.items()]


def stray_label(path: Path) -> Fault:
    """The fault of a label map that has no image."""
    message = f"{path} is a label without an image: add the image under the same name or remove the label."
    return Fault(path, "", "no_image", message)


def with_others(paths: Sequence[Path]) -> str:
    """How many more there are than the first, for the end of a sentence."""
    return f" ({len(paths) - 1} more)" if len(paths) > 1 else ""


def _by_name(files: Iterable[Path], kind: str) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for file in files:
        name = label_stem(file) if kind == "labels" else stem(file)
        if name in by_name:
            raise UserError(f"{by_name[name]} and {file} are {kind} of the same case: keep one of them.")
        by_name[name] = file
    return by_name
