"""Scoring a folder of predicted label maps against the labels of a data set."""

from collections.abc import Callable, Mapping
from pathlib import Path

from monai_transfer.datasets import CaseDataset
from monai_transfer.datasets.label_values import as_labels
from monai_transfer.errors import UserError
from monai_transfer.evaluation.matching import label_map_of, read_like, read_single
from monai_transfer.evaluation.scores import LabelScore, score_case
from monai_transfer.evaluation.table import ScoreTable


def score_folder(
    predictions: Path | Mapping[str, Path],
    dataset: CaseDataset,
    *,
    label_names: Mapping[int, str] | None = None,
    nsd_tolerance_mm: float = 2.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> ScoreTable:
    """Score ``<case>.nii.gz`` files against the labels of a data set, each on the native grid of its label.

    Args:
        predictions: folder of label maps named after the cases, or case → label map.
        dataset: the cases to score; those without a label are left aside.
        label_names: value → name in the predictions; the data set's own by default. Where both are given, the labels
            that both know are scored.
        nsd_tolerance_mm: tolerance of NSD.
        progress: called with (done, all, name) before each case.

    Raises:
        UserError: when nothing can be scored, a file cannot be read or holds no labels, a prediction lies on another
            grid than its label, or the predictions and the data set call the same value by different names.
    """
    labelled = [case for case in dataset.cases if case.label is not None]
    if not labelled:
        raise UserError(f"{dataset.root} has no labels to score against; give a labelled data set.")
    names = common_labels(label_names or {}, dataset.label_names)
    rows: list[LabelScore] = []
    without: list[str] = []
    for done, case in enumerate(labelled):
        if progress is not None:
            progress(done, len(labelled), case.name)
        path = label_map_of(case.name, predictions)
        if path is None or case.label is None:
            without.append(case.name)
            continue
        truth = read_single(case.label, reading=dataset.reading)
        rows += score_case(
            read_like(path, truth, reading=dataset.reading),
            as_labels(case.label, truth.array[0])[0],
            spacing=truth.affine,
            label_names=names,
            nsd_tolerance_mm=nsd_tolerance_mm,
            case=case.name,
        )
    if len(without) == len(labelled):
        raise UserError(
            f"{_where(predictions)} no label map for any of the {len(labelled)} labelled cases of {dataset.root}; "
            f"name them after the cases, as in {labelled[0].name}.nii.gz."
        )
    return ScoreTable(tuple(rows), nsd_tolerance_mm=nsd_tolerance_mm, without_prediction=tuple(without))


def common_labels(predicted: Mapping[int, str], true: Mapping[int, str]) -> dict[int, str]:
    """Return the labels that predictions and truth share; where one side is unnamed, the other's.

    Raises:
        UserError: when they call a value by different names, or share none.
    """
    if not predicted or not true:
        return {value: name for value, name in (predicted or true).items() if value != 0}
    shared = {value: name for value, name in true.items() if value != 0 and value in predicted}
    for value, name in shared.items():
        if not _same_name(name, predicted[value], value):
            raise UserError(
                f"Label {value} is {predicted[value]!r} in the predictions but {name!r} in the data set; "
                "renumber the labels of one of them."
            )
    if not shared:
        raise UserError("The predictions and the data set have no label value in common; renumber one of them.")
    return shared


def _same_name(first: str, second: str, value: int) -> bool:
    plain = ["".join(ch for ch in name.lower() if ch.isalnum()) for name in (first, second)]
    generic = {f"label{value}", f"class{value}", str(value), ""}
    return plain[0] == plain[1] or bool(generic & set(plain))


def _where(predictions: Path | Mapping[str, Path]) -> str:
    return "There is" if isinstance(predictions, Mapping) else f"{predictions} has"
