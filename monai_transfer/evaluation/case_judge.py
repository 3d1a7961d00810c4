"""What can be said of a segmentation that nobody checks: how good it will be, and whether the image is of a known kind.

A bundle carries its judge in ``configs/judge.json``: numbers only, measured at the end of its training.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from monai_transfer.errors import UserError
from monai_transfer.evaluation.description import Description, describe
from monai_transfer.evaluation.dice_estimate import COVERAGE, DiceEstimator
from monai_transfer.evaluation.familiarity import Familiarity
from monai_transfer.evaluation.label_evidence import LabelEvidence, gather_evidence
from monai_transfer.evaluation.selection import Predictor, SourceSizes
from monai_transfer.transforms.target import likeliest_class

JUDGE = "judge"
"""Name of the configuration that holds it."""

_AGREEMENTS = ("shift", "correction")
"""What tells most for one further prediction. Under noise label maps hardly differ where they are good or middling, and
what has a side differs when it is mirrored however good it is."""


@dataclass(frozen=True)
class CaseJudge:
    """Judges single images of one bundle.

    Attributes:
        sizes: volumes of the source's labels.
        voxel_ml: volume of a voxel of the working grid.
        estimator: gives the Dice; ``None`` where too few cases were held to calibrate it.
        familiarity: tells what is usual; ``None`` where too few images were seen.

    Example:
        >>> judge = CaseJudge(SourceSizes((1.0, 2.0), {1: 1.5}), voxel_ml=1.0)
        >>> judge.judge(torch.zeros(1, 8, 8, 8), lambda image: torch.zeros(1, 2, *image.shape[2:]), {1: "liver"})
        {'estimated_dice': {}, 'unlike': []}
    """

    sizes: SourceSizes
    voxel_ml: float
    estimator: DiceEstimator | None = None
    familiarity: Familiarity | None = None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave."""
        low, high = (float(ml) for ml in content["foreground_ml"])
        sizes = SourceSizes((low, high), {int(label): float(ml) for label, ml in content["label_ml"].items()})
        estimator, familiarity = content.get("estimator"), content.get("familiarity")
        return cls(
            sizes,
            float(content["voxel_ml"]),
            DiceEstimator.from_dict(estimator) if estimator else None,
            Familiarity.from_dict(familiarity) if familiarity else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "coverage": COVERAGE,
            "voxel_ml": self.voxel_ml,
            "foreground_ml": list(self.sizes.foreground_ml),
            "label_ml": {str(label): ml for label, ml in self.sizes.label_ml.items()},
            "estimator": self.estimator.as_dict() if self.estimator else None,
            "familiarity": self.familiarity.as_dict() if self.familiarity else None,
        }

    def judge(self, image: Tensor, predict: Predictor, names: Mapping[int, str]) -> dict[str, Any]:
        """What the manifest says of a case.

        It takes two predictions of the image, and a third, of its mirror image, where that is known to tell.

        Args:
            image: preprocessed, ``(channels, *spatial)``.
            predict: the network, from images ``(1, channels, *spatial)`` to logits.
            names: class -> name of its label, without the background.

        Returns:
            ``estimated_dice``, label -> ``dice``, ``low`` and ``high``; and ``unlike``, in what the image is unlike
            those that the bundle has seen, in words.
        """
        seen = self.look(image, predict)
        unlike: list[str] = []
        if self.familiarity is not None:
            mirrored = self.describe(image.flip(1), predict) if self.familiarity.mirror else None
            unlike = self.familiarity.unlike(seen.description, mirrored)
        estimated = {}
        if self.estimator is not None:
            estimated = {
                name: self.estimator.estimate(str(number), seen.evidence[number]).as_dict()
                for number, name in names.items()
                if number in seen.evidence
            }
        return {"estimated_dice": estimated, "unlike": unlike}

    def describe(self, image: Tensor, predict: Predictor) -> Description:
        """What one prediction tells of an image ``(channels, *spatial)``: all but how steady it is."""
        return self.look(image, predict, agreements=()).description

    def look(self, image: Tensor, predict: Predictor, *, agreements: Collection[str] = _AGREEMENTS) -> "Sight":
        """All that is measured of one image ``(channels, *spatial)``, without its label."""
        whole = image[None].float()
        with torch.no_grad():
            logits = predict(whole)
        evidence = gather_evidence(
            _remembering(predict, whole, logits),
            [whole],
            voxel_ml=self.voxel_ml,
            sizes=self.sizes,
            agreements=agreements,
        )
        label = likeliest_class(logits[0])
        described = describe(whole[0], label, classes=logits.shape[1], voxel_ml=self.voxel_ml, evidence=evidence)
        return Sight(logits[0], label, evidence, described)


@dataclass(frozen=True)
class Sight:
    """What was seen of one image.

    Attributes:
        logits: of the network, ``(classes, *spatial)``.
        label: its label map, ``(*spatial)``.
        evidence: class -> what else is seen of it.
        description: of the image.
    """

    logits: Tensor
    label: Tensor
    evidence: Mapping[int, LabelEvidence]
    description: Description


def read_judge(root: Path) -> CaseJudge | None:
    """The judge of a bundle; ``None`` where it has none, as bundles that were made elsewhere.

    Raises:
        UserError: its file is broken.
    """
    path = root / "configs" / f"{JUDGE}.json"
    if not path.is_file():
        return None
    try:
        return CaseJudge.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is broken ({type(error).__name__}): delete it, or train the bundle again.") from error


def _remembering(predict: Predictor, known: Tensor, logits: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda image: logits if image is known else predict(image)
