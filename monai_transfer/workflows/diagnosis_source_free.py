"""Adapting a trained bundle that names classes to images at hand, without its training data and without labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from monai_transfer.adaptation import AdaptedNetwork
from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.folder import BundleFolder, require_free
from monai_transfer.datasets import ExamDataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation.diagnosis_scores import DiagnosisScores
from monai_transfer.files import write_record
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.machine import hardware, versions
from monai_transfer.workflows.diagnosis_scoring import score_exams
from monai_transfer.workflows.source_free import TestTimeSettings, copy_with

_BATCH = 16
"""Images of a step: the entropy of one answer alone is made small by naming the same class always."""

_MOST = 256
"""So many images, at most, are adapted to."""


@dataclass(frozen=True)
class DiagnosisSourceFree:
    """What came of it.

    Attributes:
        bundle: the new bundle; it holds the old weights where the adapted ones were rolled back.
        adapted: label-free scores before and after, and whether the adapted weights were kept.
        before: scores of the old bundle on labelled examinations, where there are any.
        after: scores of the new bundle on them.
    """

    bundle: BundleFolder
    adapted: AdaptedNetwork
    before: DiagnosisScores | None = None
    after: DiagnosisScores | None = None

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        scores = f"information of the answers {self.adapted.score_before:.3f} → {self.adapted.score_after:.3f}"
        verdict = "was adapted to the images" if self.adapted.kept else "looked worse adapted and was rolled back"
        told = [f"The network {verdict}: {scores}."]
        if self.before is not None and self.after is not None:
            told.append(f"AUC: {self.before.auc} before, {self.after.auc} after.")
        return told

    def as_report(self) -> dict[str, Any]:
        """``report.json``."""
        return {
            "kept": self.adapted.kept,
            "score_before": self.adapted.score_before,
            "score_after": self.adapted.score_after,
            "before": self.before.as_dict() if self.before else None,
            "after": self.after.as_dict() if self.after else None,
            "hardware": hardware(),
            "versions": versions(),
        }


def adapt_diagnosis_bundle(
    bundle: str | Path,
    images: ExamDataset,
    output: str | Path,
    *,
    test: ExamDataset | None = None,
    settings: TestTimeSettings | None = None,
    device: str = "auto",
    trust: bool = False,
    overwrite: bool = False,
) -> DiagnosisSourceFree:
    """Write a copy of a bundle whose network was adapted to the images by :func:`monai_transfer.adaptation.tent`.

    Args:
        bundle: the trained bundle, left untouched.
        images: of the target; what they show is not read.
        output: the bundle folder to make; also gets ``report.json``.
        test: labelled examinations to score before and after.
        settings: how long and how fast; its method and patches do not apply, for images are seen whole.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: let a bundle that was not made here run whatever code it names; the copy stays foreign then.
        overwrite: whether to write into a folder that holds something.

    Raises:
        UserError: the output is taken, an image cannot be read, or the bundle does not name classes, or not alone.
    """
    if inspect_bundle(bundle).both:
        raise UserError(f"{bundle} has two tasks, which one network answers: adapt a bundle of --task diagnosis.")
    require_free(output, overwrite=overwrite)
    old, chosen = BundleFolder(bundle), settings or TestTimeSettings()
    diagnoser = Diagnoser.from_bundle(old.root, device=device, trust=trust)
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(chosen.seed))[:_MOST].tolist()
    seen = [diagnoser.read(images.exams[number].images)[1].as_tensor().float() for number in drawn]
    if not seen:
        raise UserError(f"{images.root} holds no image to adapt to: name at least one.")
    batches = [batch.to(diagnoser.device) for batch in torch.split(torch.stack(seen), _BATCH)]
    adapted = chosen.certain(diagnoser.bundle.network, batches)
    new = copy_with(adapted, old, output, overwrite=overwrite)
    scores = [score_exams(each.root, test, device=device, trust=trust) for each in (old, new)] if test else [None, None]
    result = DiagnosisSourceFree(new, adapted, *scores)
    write_record(new.root / "report.json", result.as_report())
    return result
