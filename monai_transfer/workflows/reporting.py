"""What a finished adaptation tells: report.html, report.json and the bundle's own README and metadata."""

from pathlib import Path
from typing import Any

from monai_transfer.adaptation import SelfTraining
from monai_transfer.bundle.arms import describe_start
from monai_transfer.engines import read_history
from monai_transfer.figures.report import write_adaptation_report
from monai_transfer.workflows.adaptation import Adaptation
from monai_transfer.workflows.cards import write_model_card
from monai_transfer.workflows.scoring import overlay_cases

_WORDS = {"source_only": "source-only", "adapted": "adapted", "oracle": "oracle"}


def report_adaptation(adaptation: Adaptation, folder: str | Path, *, title: str = "Domain adaptation") -> Path:
    """Write ``report.html`` (returned) and ``report.json`` into ``folder``, and the scores into the bundle."""
    summary = adaptation.summary
    page = Path(folder) / "report.html"
    arms = {_WORDS[arm]: bundle for arm, bundle in adaptation.arms.items() if arm in adaptation.scores}
    scores = {_WORDS[arm]: table for arm, table in adaptation.scores.items()}
    overlays = []
    if adaptation.domains.test is not None:
        ordered = {arm: arms[arm] for arm in _WORDS.values() if arm in arms}
        overlays = overlay_cases(adaptation.domains.test, ordered, scores, order_by="adapted")
    write_adaptation_report(
        page, summary, overlays=overlays, curves=curves_of_arms(adaptation), run=describe_run(adaptation), title=title
    )
    summary.write_json(page.with_suffix(".json"))
    write_model_card(
        adaptation.bundle,
        title=f"Segmentation of {adaptation.plan.target_modality.upper()} {_with_labels(adaptation)}",
        plan=adaptation.plan,
        sentences=summary.sentences,
        scores=scores,
        run=describe_run(adaptation),
    )
    return page


def curves_of_arms(adaptation: Adaptation) -> dict[str, list[dict[str, float]]]:
    """Arm -> the supervised loss, every method's loss and the validation Dice by step."""
    curves = {}
    for arm, bundle in adaptation.arms.items():
        lines = read_history(bundle.root / "eval" / "history.jsonl")
        curves[_WORDS[arm]] = [
            {"step": line["step"], **{f"loss: {name}": v for name, v in line["losses"].items()}, **line["metrics"]}
            for line in lines
        ]
    return {arm: lines for arm, lines in curves.items() if lines}


def describe_run(adaptation: Adaptation) -> dict[str, Any]:
    """What was run, in the words of the report."""
    plan, domains = adaptation.plan, adaptation.domains
    labelled = domains.labelled_target
    test = "none" if domains.test is None else f"{len(domains.test)} cases: {', '.join(domains.test.names)}"
    return {
        "methods": ", ".join(_told(name, adaptation) for name in adaptation.methods) or "none",
        "source": "; ".join(
            f"{cases.root} ({modality.upper()}), {len(cases)} labelled cases: {', '.join(cases.names)}"
            for cases, modality in zip(
                (domains.source, *domains.further_sources),
                (plan.source_modality, *plan.further_modalities),
                strict=True,
            )
        ),
        "target": f"{domains.target.root} ({plan.target_modality.upper()}), {len(domains.target)} cases without "
        f"labels: {', '.join(domains.target.names)}",
        **({"target labels": ", ".join(labelled.names)} if labelled is not None else {}),
        "test": test,
        "network": plan.network,
        "working grid": " × ".join(f"{step:g}" for step in plan.spacing) + " mm",
        "window": " × ".join(str(size) for size in plan.roi_size) + " voxels",
        "training": f"{plan.steps} steps of {plan.batch_size} case(s) per domain, the same for every arm",
        "start": describe_start(plan.weights),
        "weights": _weights(adaptation),
        "notes": " ".join(domains.notes) or "none",
    }


def _told(method: str, adaptation: Adaptation) -> str:
    """A method's name, and of self-training whether it found anything to teach."""
    if method != SelfTraining.__name__:
        return method
    lines = read_history(adaptation.bundle.root / "eval" / "history.jsonl")
    taught = any("self_training" in line["losses"] for line in lines)
    return method if taught else f"{method} (left out: no label of the target was worth learning)"


def _with_labels(adaptation: Adaptation) -> str:
    labelled = adaptation.domains.labelled_target
    return "without target labels" if labelled is None else f"with the labels of {len(labelled)} target case(s)"


def _weights(adaptation: Adaptation) -> str:
    if adaptation.choice is None:
        return "the adapted network's; no choice was asked for"
    kept = _WORDS[adaptation.choice.kept]
    return f"the {kept} network's, chosen without target labels: {adaptation.choice.reason}"
