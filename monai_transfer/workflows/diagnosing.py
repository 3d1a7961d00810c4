"""Diagnosing images with a bundle: probabilities, decisions, and pictures of where the network looked."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_transfer.datasets import Exam, read_exams
from monai_transfer.errors import UserError
from monai_transfer.evaluation.diagnosis_scores import decide
from monai_transfer.figures.heat import heat_picture, write_heat_page
from monai_transfer.files import replacing, require_folder, write_record, write_text
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.inference.explanation import saliency, to_native
from monai_transfer.inference.output_folder import require_apart
from monai_transfer.machine import hardware, versions
from monai_transfer.text import csv_cell, one_line
from monai_transfer.volumes.reading import write_volume
from monai_transfer.volumes.volume import Reading, Volume
from monai_transfer.workflows.diagnosis_scoring import ExamProgress

Explaining = Literal["gradcam", "gradcam++", "occlusion", "none"]
RESULTS = ("diagnosis.csv", "diagnosis.json")
PAGE = "explanation.html"

_SHOWN = 200
"""Maps on the page: each takes a hundred kilobytes or so, and all of a large folder no browser opens."""


def diagnose(
    inputs: Sequence[str | Path],
    bundle: str | Path,
    output: str | Path,
    *,
    explain: Explaining = "gradcam",
    device: str = "auto",
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    trust: bool = False,
    overwrite: bool = False,
    progress: ExamProgress | None = None,
) -> dict[str, Any]:
    """Name the class of each image.

    Writes ``diagnosis.csv`` and ``diagnosis.json``, and for each image ``maps/<name>.png`` and, of a volume,
    ``maps/<name>.nii.gz`` on its own grid: how much each place spoke for the class that was named (of two the finding).
    ``explanation.html`` shows the first of them.

    Args:
        inputs: images, folders of images, or lists of examinations.
        bundle: a bundle that names classes.
        output: the folder of the results.
        explain: how the maps are made, ``none`` leaves them out.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reading: how strictly the volumes are read; pictures are read besides.
        trust: let a bundle that was not made here run whatever code it names.
        overwrite: whether results that are there may be replaced.
        progress: called before each image.

    Returns:
        The content of ``diagnosis.json``.

    Raises:
        UserError: there is no input, one lies in the output folder, the bundle cannot be used, or results are there
            already.
    """
    root = Path(output)
    require_apart([Path(path) for path in inputs], root)
    exams = find_exams(inputs)
    standing = next((root / name for name in RESULTS if (root / name).exists()), None)
    if standing is not None and not overwrite:
        raise UserError(f"{standing} is there already: choose another --output, or add --overwrite.")
    diagnoser = Diagnoser.from_bundle(bundle, device=device, reading=reading, trust=trust)
    require_folder(root)
    entries = []
    for done, exam in enumerate(exams):
        if progress is not None:
            progress(done, len(exams), exam.name)
        entries.append(_entry(exam, diagnoser, root, explain))
    record = _record(entries, diagnoser, explain)
    write_record(root / RESULTS[1], record)
    write_text(root / RESULTS[0], _table(entries, diagnoser.class_names))
    if explain != "none":
        _write_page(entries, root, explain)
    return record


def _write_page(entries: Sequence[dict[str, Any]], root: Path, method: Explaining) -> None:
    pictures = []
    for entry in [entry for entry in entries if entry.get("map")][:_SHOWN]:
        of = entry["map_of"]
        caption = one_line(f"{entry['name']}: {of} {entry['probabilities'][of]:.2f}")
        pictures.append((caption, root / "maps" / f"{entry['name']}.png"))
    write_heat_page(root / PAGE, pictures, title="Where the network looked", method=method)


def _record(entries: Sequence[dict[str, Any]], diagnoser: Diagnoser, explain: Explaining) -> dict[str, Any]:
    return {
        "bundle": str(diagnoser.bundle.root),
        "checksum": diagnoser.bundle.checksum,
        "classes": list(diagnoser.class_names),
        "exclusive": diagnoser.exclusive,
        "temperature": diagnoser.temperature,
        "thresholds": list(diagnoser.thresholds),
        "explained_by": explain,
        "images": list(entries),
        "hardware": hardware(),
        "versions": versions(),
    }


def find_exams(inputs: Sequence[str | Path]) -> list[Exam]:
    """The images of files, folders and lists, each name once.

    Raises:
        UserError: nothing is there, or two images bear the same name.
    """
    exams: dict[str, Exam] = {}
    for path in inputs:
        for exam in read_exams(path).exams:
            twin = exams.setdefault(exam.name.casefold(), exam)
            if twin.images != exam.images:
                raise UserError(f"{exam.images[0]} and {twin.images[0]} bear the same name: diagnose them separately.")
    if not exams:
        raise UserError("There is no image to diagnose: name files or folders.")
    return list(exams.values())


def _entry(exam: Exam, diagnoser: Diagnoser, root: Path, explain: Explaining) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": exam.name, "input": str(exam.images[0]), "status": "ok", "error": None}
    try:
        volume, image = diagnoser.read(exam.images)
        logits = diagnoser.logits(image)
        entry |= _answer(diagnoser.probabilities(logits[None])[0], diagnoser)
        entry["map"] = None
        if explain != "none":
            shown = _explained(entry, diagnoser)
            heat = saliency(diagnoser.bundle.network, image, shown, method=explain)
            native = to_native(heat, image, diagnoser.bundle.preprocessing, key=diagnoser.bundle.image_key)
            entry["map"] = str(_write_map(native.numpy(), volume, root / "maps" / exam.name))
            entry["map_of"] = diagnoser.class_names[shown]
    except UserError as error:
        entry |= {"status": "failed", "error": str(error)}
    return entry


def _answer(probabilities: NDArray[np.float64], diagnoser: Diagnoser) -> dict[str, Any]:
    said = decide(probabilities[None], exclusive=diagnoser.exclusive, thresholds=diagnoser.thresholds)[0]
    names = [name for name, present in zip(diagnoser.class_names, said, strict=True) if present]
    pairs = zip(diagnoser.class_names, probabilities, strict=True)
    return {
        "probabilities": {name: round(float(probability), 6) for name, probability in pairs},
        "decision": names[0] if diagnoser.exclusive else names,
    }


def _explained(entry: dict[str, Any], diagnoser: Diagnoser) -> int:
    """The output that a map is made of: of two classes the finding, else the most probable."""
    if diagnoser.exclusive and len(diagnoser.class_names) == 2:
        return 1
    return int(np.argmax(list(entry["probabilities"].values())))


def _write_map(heat: NDArray[np.float32], volume: Volume, path: Path) -> Path:
    picture = heat_picture(volume.array[0], heat, affine=volume.affine)
    png = path.with_name(f"{path.name}.png")
    with replacing(png) as file:
        Image.fromarray(picture).save(file, format="PNG")
    if heat.ndim == 2:
        return png
    written = path.with_name(f"{path.name}.nii.gz")
    write_volume(heat.astype(np.float32), written, affine=volume.affine)
    return written


def _table(entries: Sequence[dict[str, Any]], class_names: Sequence[str]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow([csv_cell(cell) for cell in ("name", "image", "decision", *class_names, "map", "error")])
    for entry in entries:
        decision = entry.get("decision", "")
        told = " ".join(decision) if isinstance(decision, list) else decision
        chances = [entry["probabilities"][name] if "probabilities" in entry else "" for name in class_names]
        cells = (entry["name"], entry["input"], told, *chances, entry.get("map") or "", entry["error"] or "")
        table.writerow([csv_cell(cell) for cell in cells])
    return buffer.getvalue()
