"""The ``dataset.json`` that says what the volumes of a data set are, and the list of what examinations show."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_transfer.files import write_text


def write_description(
    root: Path, *, name: str, text: str, modalities: Sequence[str], label_names: Mapping[int, str]
) -> None:
    """Write ``dataset.json`` as the Medical Segmentation Decathlon does, with every subject in ``images``.

    Args:
        root: holds ``images`` and, for all or some of them, ``labels`` of the same names.
        name: of the data set.
        text: one sentence about it.
        modalities: of the channels of the images, such as ``["CT"]``.
        label_names: label value -> name.
    """
    files = sorted(path.name for path in (root / "images").glob("*.nii.gz") if not path.name.startswith("."))
    labelled = {path.name for path in (root / "labels").glob("*.nii.gz")}
    pairs = [
        {"image": f"./images/{file}", **({"label": f"./labels/{file}"} if file in labelled else {})} for file in files
    ]
    description = {
        "name": name,
        "description": text,
        "tensorImageSize": "3D",
        "modality": {str(number): modality for number, modality in enumerate(modalities)},
        "labels": {str(value): label for value, label in label_names.items()},
        "numTraining": len(pairs),
        "training": pairs,
        "test": [],
    }
    write_text(root / "dataset.json", json.dumps(description, indent=2) + "\n")


def write_exam_list(path: Path, labels: Mapping[str, str]) -> None:
    """Write a CSV table of ``image`` and ``label`` that :func:`~monai_transfer.datasets.read_exams` reads.

    An image that is on an earlier table of that name already, but not among these, stays on it.

    Args:
        path: the table.
        labels: image, relative to the table -> the name of its class.
    """
    kept: dict[str, str] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            kept = {row["image"]: row["label"] for row in csv.DictReader(file)}
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(("image", "label"))
    table.writerows(sorted({**kept, **labels}.items()))
    write_text(path, buffer.getvalue())
