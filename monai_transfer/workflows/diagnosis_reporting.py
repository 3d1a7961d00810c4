"""What a finished training for diagnosis tells: sentences, report.html, report.json and the model card."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from monai_transfer.bundle.diagnosis_plan import DiagnosisPlan
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.engines import read_history
from monai_transfer.evaluation.diagnosis_scores import DiagnosisScores
from monai_transfer.figures.diagnosis_report import diagnosis_headline, diagnosis_warnings, write_diagnosis_report
from monai_transfer.files import write_record, write_text
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.machine import hardware, versions
from monai_transfer.text import markdown
from monai_transfer.workflows.diagnosis_efficiency import EfficiencyRun, efficiency_table
from monai_transfer.workflows.diagnosis_scoring import ask
from monai_transfer.workflows.exam_split import ExamSplit
from monai_transfer.workflows.starting_point import StartingPoint

_USE = """## Use

```
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES --output_dir OUT
```

`monai-transfer diagnose IMAGES --bundle . --output OUT` gives the same probabilities, a decision, and maps of where the
network looked.

For research. Not a medical device.
"""

SCORE_AUC = "val_auc"


@dataclass(frozen=True)
class DiagnosisTraining:
    """What a training for diagnosis left.

    Attributes:
        bundle: the trained bundle.
        scores: on the held examinations.
        curve: step and AUC on the validation's.
        report: the content of its ``report.json``.
    """

    bundle: BundleFolder
    scores: DiagnosisScores
    curve: tuple[tuple[int, float], ...] = ()
    report: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        return [*self.report["sentences"], f"Report: {self.bundle.root / 'report.html'}"]


def report_diagnosis(
    bundle: BundleFolder,
    split: ExamSplit,
    plan: DiagnosisPlan,
    start: StartingPoint | None,
    strategy: Strategy,
    forgotten: tuple[DiagnosisScores, ...] | None,
    runs: Sequence[EfficiencyRun] = (),
) -> DiagnosisTraining:
    """Score the held examinations and write ``report.html``, ``report.json`` and the model card.

    Args:
        bundle: trained and calibrated.
        split: the examinations.
        plan: the choices of the training.
        start: the weights that it started from.
        strategy: how it went on from them.
        forgotten: scores of old examinations before and after.
        runs: trainings on shares of the examinations, whose table goes into ``label_efficiency.md``.
    """
    answers = ask(Diagnoser.from_bundle(bundle.root, device=str(plan.device)), split.held)
    scores = answers.scores()
    sentences = [diagnosis_headline(scores), *diagnosis_warnings(scores)]
    if forgotten is not None:
        before, after = forgotten
        sentences.append(f"Old examinations: AUC {before.auc.value:.3f} before and {after.auc.value:.3f} after.")
    if runs:
        table = efficiency_table(runs)
        write_text(bundle.root / "label_efficiency.md", table + "\n")
        sentences.append("Label efficiency: label_efficiency.md has the AUC of each number of examinations.")
    inference = bundle.read("inference")
    run = _facts_of_run(bundle, split, plan, start, strategy)
    facts = {"hardware": hardware(), "versions": versions()}
    write_diagnosis_report(
        bundle.root / "report.html",
        scores,
        probabilities=answers.probabilities,
        targets=answers.targets,
        run={**run, **facts},
    )
    report = {
        "sentences": sentences,
        "scores": scores.as_dict(),
        "label_efficiency": [asdict(one) for one in runs],
        "old": None if forgotten is None else [one.as_dict() for one in forgotten],
        "temperature": inference["temperature"],
        "thresholds": inference["thresholds"],
        "run": run,
        **facts,
    }
    write_record(bundle.root / "report.json", report)
    _write_card(bundle, plan, scores, sentences, run)
    lines = read_history(bundle.root / "eval" / "history.jsonl")
    curve = tuple(
        (int(line["step"]), float(line["metrics"][SCORE_AUC])) for line in lines if SCORE_AUC in line["metrics"]
    )
    return DiagnosisTraining(bundle, scores, curve, report)


def _facts_of_run(
    bundle: BundleFolder, split: ExamSplit, plan: DiagnosisPlan, start: StartingPoint | None, strategy: Strategy
) -> dict[str, str]:
    inference = bundle.read("inference")
    return {
        "data": f"{split.training.root}: {len(split.training)} to learn from, {len(split.validation)} to watch, "
        f"{len(split.held)} held; no patient in two of them",
        "weights": start.spec if start is not None else "none, from scratch",
        "network": plan.network if start is None or start.definition is None else "that of the weights",
        "images": f"{plan.kind}, {' × '.join(map(str, plan.shape))}",
        "training": f"{plan.steps} steps of {plan.batch_size}, seed {plan.seed}; {strategy.describe()}",
        "calibration": f"temperature {inference['temperature']:g}, thresholds {inference['thresholds'] or 'none'}",
    }


def _write_card(
    bundle: BundleFolder, plan: DiagnosisPlan, scores: DiagnosisScores, sentences: list[str], run: dict[str, str]
) -> None:
    lines = [
        "# Diagnosis",
        "",
        f"Classes: {', '.join(markdown(name) for name in plan.class_names)}.",
        "",
        "## Scores",
        "",
        *(markdown(sentence) for sentence in sentences),
        "",
        "## How it was made",
        "",
        *(f"- {heading}: {markdown(text)}" for heading, text in run.items()),
        "",
        _USE,
    ]
    write_text(bundle.root / "docs" / "README.md", "\n".join(lines))
    bundle.change("metadata", {"eval_metrics": {"auc": scores.auc.as_dict()["value"]}})
