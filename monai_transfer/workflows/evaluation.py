"""Evaluating a bundle, or label maps that are there already, on a labelled data set."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.bundle.facts import DIAGNOSIS, inspect_bundle
from monai_transfer.datasets import Case, CaseDataset, ExamDataset, read_dataset, read_exams
from monai_transfer.datasets.exam_layouts import has_exam_list
from monai_transfer.errors import UserError
from monai_transfer.evaluation.folder import score_folder
from monai_transfer.evaluation.matching import label_map_of
from monai_transfer.evaluation.table import ScoreTable
from monai_transfer.figures.overlays import best_median_worst
from monai_transfer.figures.report import evaluation_headline, evaluation_warnings, write_evaluation_report
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.files import read_object, write_record
from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.machine import hardware, versions
from monai_transfer.volumes.volume import Reading
from monai_transfer.workflows.segmenting import CaseProgress, segment

if TYPE_CHECKING:
    from monai_transfer.workflows.diagnosis_evaluation import DiagnosisEvaluation

Progress = Callable[[int, int, str], None]
"""Called with (done, all, name)."""

Stages = Callable[[str], AbstractContextManager[Progress]]
"""Called with the title of a stage."""


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

        # a channel may lack its file: whether the bundle does without it, the segmentation says
        there = {case.name: _there(case) for case in dataset.labelled.cases}
        images = {str(paths[0]): name for name, paths in there.items()}
        inputs = [path for paths in there.values() for path in paths]
        segmenter = Segmenter.from_bundle(
            bundle, device=device, options=SegmentOptions(reading=dataset.reading), trust=trust
        )
        # A folder of this package's own, which every evaluation, of every checkpoint, fills anew.
        # All of them by this process: the others under torchrun may be waiting for the next training.
        manifest = segment(inputs, segmenter, output, overwrite=True, shard=(0, 1), progress=show)
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
    data: str | Path,
    output: str | Path,
    *,
    bundle: str | Path | None = None,
    predictions: str | Path | None = None,
    cases: Sequence[str] = (),
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    nsd_tolerance_mm: float = 2.0,
    device: str = "auto",
    trust: bool = False,
    progress: Stages = lambda title: nullcontext(lambda done, total, name: None),
) -> "Evaluation | DiagnosisEvaluation":
    """Score a bundle, or label maps, and write ``scores.csv``, ``scores.json`` and ``report.html`` into ``output``.

    Of a bundle that does both, its diagnoses are scored too, into ``diagnosis`` in it, where the data list any.

    Args:
        data: the labelled data set; of examinations for a bundle that names classes.
        output: folder of the three files; the label maps of a bundle go to ``predictions`` in it.
        bundle: what segments the images.
        predictions: a folder of label maps to score in place of a bundle's.
        cases: name patterns of the cases to score; all by default.
        reading: how strictly files are read.
        nsd_tolerance_mm: tolerance of NSD.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: let a bundle that was not made here run whatever code it names.
        progress: gives for the title of a stage a context with a function that is called before each case.

    Raises:
        UserError: not one of bundle and predictions is given, or it cannot be used, or no case can be scored.
    """
    from monai_transfer.workflows.diagnosis_evaluation import evaluate_diagnosis

    if (bundle is None) == (predictions is None):
        raise UserError("Give either --bundle, to segment the images, or --predictions, to score label maps.")
    chosen, folder = cases_to_score(data, bundle, cases=cases, reading=reading), Path(output).expanduser()
    if isinstance(chosen, ExamDataset):
        assert bundle is not None
        with progress("scoring") as advance:
            return evaluate_diagnosis(bundle, chosen, folder, device=device, trust=trust, progress=advance)
    _require_beside_no_case(folder, chosen)
    if predictions is not None:
        made = Predictions.in_folder(Path(predictions).expanduser())
    else:
        assert bundle is not None
        with progress("segmenting") as advance:
            made = Predictions.by_bundle(
                Path(bundle), chosen, folder / "predictions", device=device, trust=trust, progress=advance
            )
    with progress("scoring") as advance:
        found = _score(made, chosen, folder, nsd_tolerance_mm=nsd_tolerance_mm, progress=advance)
    if bundle is None or not inspect_bundle(bundle).both or not has_exam_list(data):
        return found
    with progress("diagnosing") as advance:
        told = evaluate_diagnosis(
            bundle, read_exams(data).labelled, folder / DIAGNOSIS, device=device, trust=trust, progress=advance
        )
    headline = f"{found.record['headline']} {told.record['headline']}"
    return replace(found, record={**found.record, "headline": headline, "diagnosis": told.record})


def cases_to_score(
    data: str | Path,
    bundle: str | Path | None = None,
    *,
    cases: Sequence[str] = (),
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> CaseDataset | ExamDataset:
    """The labelled cases of a data set, or its labelled examinations for a bundle that names classes.

    Raises:
        UserError: the data set or the bundle cannot be read, or a pattern meets no case.
    """
    if bundle is not None and inspect_bundle(bundle).diagnoses:
        return read_exams(data).labelled
    dataset = read_dataset(data, reading=reading)
    return (dataset.select(cases) if cases else dataset).labelled


def _require_beside_no_case(folder: Path, dataset: CaseDataset) -> None:
    """Keep scores out of folders of images and label maps, where the next reader would meet them."""
    files = (path for case in dataset.cases for path in (*case.images, case.label) if path is not None)
    if folder.resolve() in {parent.resolve() for parent in {path.parent for path in files}}:
        raise UserError(f"{folder} holds images or labels of {dataset.root}; choose another --output for the scores.")


def _score(
    predictions: Predictions, dataset: CaseDataset, output: Path, *, nsd_tolerance_mm: float, progress: Progress
) -> Evaluation:
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
    write_record(files[1], record)
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
                    _there(cases[name])[0],
                    label_names=dataset.label_names or predictions.label_names,
                    truth=cases[name].label,
                    predictions={"prediction": path},
                    dice={"prediction": table.case_mean(name)},
                    reading=dataset.reading,
                )
            )
    return shown


def _there(case: Case) -> tuple[Path, ...]:
    """The files of a case that are there; the first one where none is, which then fails."""
    return tuple(path for path in case.images if os.path.lexists(path)) or case.images[:1]


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    return read_object(path, remedy="segment again, or remove it") if path.is_file() else {}
