"""Scores of a bundle: its label maps on the native grid against the labels of a data set."""

from collections.abc import Mapping
from pathlib import Path

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.datasets import CaseDataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation import ScoreTable, score_folder
from monai_transfer.evaluation.matching import label_map_of
from monai_transfer.figures.overlays import best_median_worst
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.workflows.evaluation import Predictions


def predictions_folder(bundle: BundleFolder) -> Path:
    """Where :func:`score_bundle` leaves the label maps."""
    return bundle.root / "eval" / "predictions"


def score_bundle(
    bundle: BundleFolder, dataset: CaseDataset, *, device: str = "auto", trust: bool = False
) -> ScoreTable:
    """Segment the labelled cases of ``dataset`` and score them on their native grid.

    Raises:
        UserError: when no case could be segmented or scored.
    """
    made = Predictions.by_bundle(bundle.root, dataset, predictions_folder(bundle), device=device, trust=trust)
    if not made.where:
        raise UserError(next(iter(made.failures.values())))
    return score_folder(made.where, dataset.labelled, label_names=made.label_names)


def overlay_cases(
    dataset: CaseDataset, bundles: Mapping[str, BundleFolder], scores: Mapping[str, ScoreTable], *, order_by: str
) -> list[OverlayCase]:
    """The best, the median and the worst case with the label maps of every arm.

    Args:
        dataset: the scored cases.
        bundles: arm -> bundle whose label maps are in place.
        scores: arm -> scores.
        order_by: the arm whose Dice decides.
    """
    chosen = dict.fromkeys(best_median_worst(scores[order_by]).values())
    cases = {case.name: case for case in dataset.cases}
    maps = {arm: predictions_folder(bundle) for arm, bundle in bundles.items()}
    return [
        OverlayCase.read(
            name,
            cases[name].images[0],
            label_names=dataset.label_names,
            truth=cases[name].label,
            predictions={arm: path for arm, folder in maps.items() if (path := label_map_of(name, folder))},
            dice={arm: scores[arm].case_mean(name) for arm in bundles},
            reading=dataset.reading,
        )
        for name in chosen
    ]
