"""Evaluating a bundle, or label maps that are there already, on a labelled data set."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_transfer.datasets import CaseDataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation.folder import score_folder
from monai_transfer.evaluation.matching import label_map_of
from monai_transfer.evaluation.table import ScoreTable
from monai_transfer.figures.overlays import best_median_worst
from monai_transfer.figures.report import evaluation_headline, evaluation_warnings, write_evaluation_report
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.files import write_text
from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.machine import hardware, versions
from monai_transfer.workflows.segmenting import CaseProgress, segment

Progress = Callable[[int, int, str], None]
"""Called with (done, all, name)."""


@dataclass(frozen=True)
class Predictions:
    """Label maps to score.

    Attributes:
        where: a folder of ``<case>.nii.gz``, or case → label map.
        label_names: value → name, as far as the maker of the label maps said.
        failures: case → why it has no label map.
        origin: what made them, for the report.
    """

    where: Path | Mapping[str, Path]
    label_names: Mapping[int, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path) -> "Predictions":
        """Take the label maps of a folder; the manifest of ``monai-transfer segment`` gives their names.

        Raises:
            UserError: when there is no such folder.
        """
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give the folder of the label maps with --predictions.")
        names = {int(value): name for value, name in _manifest(folder).get("labels", {}).items()}
        return cls(folder, names, origin={"predictions": str(folder)})

    @classmethod
    def by_bundle(
        cls,
        bundle: Path,
        dataset: CaseDataset,
        output: Path,
        *,
        device: str = "auto",
        trust: bool = False,
        progress: Progress | None = None,
    ) -> "Predictions":
        """Segment the labelled cases of a data set with a bundle.

        Args:
            bundle: folder of the bundle.
            dataset: its cases with a label are segmented.
            output: where the label maps go.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            trust: let a bundle that was not made here run whatever code it names.
            progress: called before each case.

        Raises:
            UserError: when the bundle cannot be used.
        """

        def show(step: CaseProgress) -> None:
            if progress is not None:
                progress(step.number - 1, step.cases, step.name)

        images = {str(case.images[0]): case.name for case in dataset.labelled.cases}
        inputs = [path for case in dataset.labelled.cases for path in case.images]
        segmenter = Segmenter.from_bundle(
            bundle, device=device, options=SegmentOptions(reading=dataset.reading), trust=trust
        )
        # A folder of this package's own, which every evaluation, of every checkpoint, fills anew.
        manifest = segment(inputs, segmenter, output, overwrite=True, progress=show)
        entries = {images[entry["input"]]: entry for entry in manifest["cases"] if entry["input"] in images}
        return cls(
            where={case: Path(entry["output"]) for case, entry in entries.items() if entry["status"] == "ok"},
            label_names=segmenter.label_names,
            failures={case: str(entry["error"]) for case, entry in entries.items() if entry["status"] != "ok"},
            origin={"bundle": manifest["bundle"], "device": manifest["device"]},
        )


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, and the files that say so."""

    table: ScoreTable
    record: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def complete(self) -> bool:
        """Whether every labelled case was scored."""
        return not self.table.without_prediction


def evaluate(
    predictions: Predictions,
    dataset: CaseDataset,
    output: Path,
    *,
    nsd_tolerance_mm: float = 2.0,
    progress: Progress | None = None,
) -> Evaluation:
    """Score label maps and write ``scores.csv``, ``scores.json`` and ``report.html`` into ``output``.

    Args:
        predictions: what to score.
        dataset: the cases with their labels.
        output: folder of the three files.
        nsd_tolerance_mm: tolerance of NSD.
        progress: called before each case.

    Raises:
        UserError: see :func:`score_folder`.
    """
    if predictions.failures and not predictions.where:
        raise UserError(next(iter(predictions.failures.values())))
    table = score_folder(
        predictions.where,
        dataset,
        label_names=predictions.label_names,
        nsd_tolerance_mm=nsd_tolerance_mm,
        progress=progress,
    )
    run = {
        **predictions.origin,
        "data": {"folder": str(dataset.root), "scored": list(table.cases)},
        "hardware": hardware(),
        "versions": versions(),
    }
    record = {
        "headline": evaluation_headline(table),
        "warnings": evaluation_warnings(table),
        **table.as_dict(),
        "failures": dict(predictions.failures),
        "run": run,
    }
    files = output / "report.html", output / "scores.json", output / "scores.csv"
    table.write_csv(files[2])
    write_text(files[1], json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")
    write_evaluation_report(files[0], table, overlays=_overlays(predictions, dataset, table), run=run)
    return Evaluation(table, record, files)


def _overlays(predictions: Predictions, dataset: CaseDataset, table: ScoreTable) -> list[OverlayCase]:
    cases = {case.name: case for case in dataset.cases}
    shown = []
    for name in best_median_worst(table).values():
        path = label_map_of(name, predictions.where)
        if path is not None:
            shown.append(
                OverlayCase.read(
                    name,
                    cases[name].images[0],
                    label_names=dataset.label_names or predictions.label_names,
                    truth=cases[name].label,
                    predictions={"prediction": path},
                    dice={"prediction": table.case_mean(name)},
                    reading=dataset.reading,
                )
            )
    return shown


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): segment again, or remove it.") from error
    return content if isinstance(content, dict) else {}
