"""One training of a scoreboard: found finished, or done and scored."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.configs import Configs, adaptation_configs
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains
from monai_transfer.bundle.training import training_seconds
from monai_transfer.evaluation import ScoredRun, ScoreTable
from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.files import write_text
from monai_transfer.machine import peak_memory_mb, reset_peak_memory, versions
from monai_transfer.workflows.adaptation import Say
from monai_transfer.workflows.judging import estimated_unseen
from monai_transfer.workflows.label_measures import measure_labels
from monai_transfer.workflows.scoring import score_bundle

logger = logging.getLogger(__name__)

_RESULT = "result.json"


@dataclass(frozen=True)
class PlannedRun:
    """What one arm learns from with one seed, and where its bundle and its scores lie.

    Attributes:
        domains: the cases; the test cases are labelled.
        plan: the choices, the seed among them.
        arm: what is trained.
        folder: the bundle folder; ``result.json`` in it says that the run is finished, and of what.
        contents: name and checksums of every case.
    """

    domains: Domains
    plan: Plan
    arm: Arm
    folder: Path
    contents: Sequence[Sequence[str]]

    @cached_property
    def configs(self) -> Configs:
        """The configurations of the bundle."""
        return adaptation_configs(self.plan, self.domains, self.arm, title=f"{self.arm.name} {self.plan.seed}")

    @cached_property
    def checksum(self) -> str:
        """Of all that decides the run: configurations, contents of the files, device and versions."""
        parts: Mapping[str, Any] = {
            "configs": {name: self.configs[name] for name in ("train", "inference")},
            "files": self.contents,
            "device": self.plan.device.type,
            "versions": {name: versions().get(name) for name in ("monai-transfer", "monai", "torch")},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def finished(self) -> ScoredRun | None:
        """The scores, where the run was done before with just these choices and files."""
        try:
            content = json.loads((self.folder / _RESULT).read_text(encoding="utf-8"))
            if content["configuration"] != self.checksum or not (self.folder / "models" / "model.pt").is_file():
                return None
            evidence = {label: LabelEvidence.from_dict(one) for label, one in content.get("label_free", {}).items()}
            table = ScoreTable.from_dict(content["scores"])
            estimated = {label: float(dice) for label, dice in content.get("estimated_dice", {}).items()}
            return ScoredRun(table, content["seconds"], content["peak_memory_mb"], evidence, estimated)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def train(self, say: Say = lambda message: None) -> ScoredRun:
        """Train the bundle in this process, score it, and write ``result.json``.

        A training of the same configurations that was cut off is gone on with; anything else that is there is replaced.

        Raises:
            UserError: when training or scoring fails for a reason that the user can mend.
        """
        if self.domains.test is None:
            raise ValueError("a scored run has test cases")
        another = (self.folder / _RESULT).exists()
        again = " (what was here is of another configuration, other files or other versions)" if another else ""
        bundle = BundleFolder.create(
            "domain_adaptation", self.folder, configs=self.configs, overwrite=True, resume=not another
        )
        say(f"{self.plan.steps} steps on {self.plan.device}{again}{bundle.standing}")
        reset_peak_memory()
        bundle.run("train", device=self.plan.device)
        # a training that was cut off took time in earlier processes too
        seconds, memory = training_seconds(bundle.root) or 0.0, _peak_memory_mb(self.plan.device)
        table = score_bundle(bundle, self.domains.test, device=str(self.plan.device))
        run = ScoredRun(table, round(seconds, 3), memory)
        self._write(run)
        return self.observed(run)

    def observed(self, run: ScoredRun) -> ScoredRun:
        """The finished run with what can be seen of its labels in the target without labels, measured if need be.

        An adapted network estimates its Dice on the test cases as well.
        """
        if run.evidence:
            return run
        bundle, adapted = BundleFolder(self.folder), self.arm.labels_of == "all"
        try:
            evidence = measure_labels(bundle, self.plan, self.domains)
            estimated = estimated_unseen(bundle, self.plan, self.domains) if adapted else {}
        except Exception:  # the run has its scores: no fault of what is measured beside them may cost it
            logger.warning("%s: its labels could not be looked at in the target", self.folder, exc_info=True)
            return run
        seen = replace(run, evidence=evidence, estimated=estimated)
        self._write(seen)
        return seen

    def _write(self, run: ScoredRun) -> None:
        content = {
            "configuration": self.checksum,
            "arm": self.arm.name,
            "seed": self.plan.seed,
            "seconds": run.seconds,
            "peak_memory_mb": run.peak_memory_mb,
            "scores": run.table.as_dict(),
            "label_free": {label: evidence.as_dict() for label, evidence in run.evidence.items()},
            "estimated_dice": dict(run.estimated),
        }
        write_text(self.folder / _RESULT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1024**2, 1)
    return peak_memory_mb()
