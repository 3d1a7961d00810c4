"""Adapting a diagnosis to a domain without labels: source-only, adapted, oracle, and the share of the gap on AUC."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_transfer.bundle.diagnosis_configs import TEMPLATE, diagnosis_adaptation, diagnosis_configs
from monai_transfer.bundle.diagnosis_networks import diagnosis_network
from monai_transfer.bundle.diagnosis_plan import DiagnosisOptions, DiagnosisPlan, ImageKind, make_diagnosis_plan
from monai_transfer.bundle.folder import BundleFolder, require_free
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import ExamDataset, ExamReport, read_exams, require_sound_exams
from monai_transfer.errors import UserError
from monai_transfer.evaluation.diagnosis_scores import DiagnosisScores
from monai_transfer.evaluation.gap import gap_recovered
from monai_transfer.files import write_record
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.losses import information_score
from monai_transfer.machine import choose_device, hardware, versions
from monai_transfer.workflows.choice import keep_source_only
from monai_transfer.workflows.diagnosis_scoring import score_exams
from monai_transfer.workflows.exam_split import SHARE, ExamSplit, choose_exams

DEFAULT_METHODS = ("DANN",)
"""What is used where nothing is asked for."""

_TEST_SHARE = 0.4
"""Share of a labelled target that is only scored, where there is no test set of its own."""

_ALIKE = 0.005
"""Differences of AUC below this are told as none."""


@dataclass(frozen=True)
class DiagnosisDomains:
    """The examinations of an adaptation.

    Attributes:
        source: labelled.
        target: to adapt to; labels, where there are any, are the oracle's alone.
        test: labelled target examinations of other patients; ``None`` where there are none to score.
    """

    source: ExamSplit
    target: ExamDataset
    test: ExamDataset | None


@dataclass(frozen=True)
class DiagnosisAdaptation:
    """What an adaptation left.

    Attributes:
        bundle: the adapted bundle.
        kept: ``adapted``, or ``source_only`` where that looked better without labels.
        scores: arm -> scores on the target's test examinations.
        information: arm -> label-free score that decided.
        report: the content of ``report.json``.
    """

    bundle: BundleFolder
    kept: str
    scores: dict[str, DiagnosisScores]
    information: dict[str, float]
    report: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        return [*self.report["sentences"], f"Bundle: {self.bundle.root}"]


def choose_diagnosis_domains(
    source: str | Path, target: str | Path, *, test: str | Path | None = None, seed: int = 0
) -> DiagnosisDomains:
    """Read the domains and keep the patients of the test apart.

    Raises:
        UserError: there are no source labels, too few patients, or classes that the source does not know.
    """
    chosen = choose_exams(source, seed=seed)
    names, exclusive = chosen.training.class_names, chosen.training.exclusive
    found = read_exams(target).as_classes(names, exclusive=exclusive)
    if test is not None:
        held = read_exams(test).as_classes(names, exclusive=exclusive).labelled
        return DiagnosisDomains(chosen, found.without_patients(held.patients), held)
    if len(found.labelled) < len(found) or not found.exams:
        return DiagnosisDomains(chosen, found, None)
    given = found.of_split("test")
    if given.exams:
        return DiagnosisDomains(chosen, found.without_patients(given.patients), given)
    return DiagnosisDomains(chosen, *found.split(_TEST_SHARE, seed=seed))


def plan_diagnosis_adaptation(domains: DiagnosisDomains, **options: Any) -> tuple[DiagnosisPlan, ImageKind]:
    """Check every examination and plan one training for both domains; returns the kind of the target's images too.

    Raises:
        UserError: for the first fault in the data, an option out of range, or domains of another number of axes.
    """
    chosen = DiagnosisOptions(**options)
    reports = [require_sound_exams(domains.source.everything), require_sound_exams(domains.target)]
    if domains.test is not None:
        reports.append(require_sound_exams(domains.test))
    if len({(report.spatial_dims, report.channels) for report in reports}) > 1:
        raise UserError(f"{domains.target.root} has other axes or channels than the source: give images of one kind.")
    given = {name: value for name, value in chosen.given.items() if name not in ("device", "size", "spacing")}
    common = {
        "class_names": domains.source.training.class_names,
        "exclusive": domains.source.training.exclusive,
        "device": choose_device(chosen.device),
        "size": chosen.size,
        **given,
    }
    plans = [make_diagnosis_plan(reports[0], spacing=chosen.spacing, **common)]
    spacing = plans[0].spacing or None
    plans += [make_diagnosis_plan(report, spacing=spacing, **common) for report in reports[1:]]
    shape = tuple(max(lengths) for lengths in zip(*(plan.shape for plan in plans), strict=True))
    return replace(plans[0], shape=shape), _kind(reports[1])


def adapt_diagnosis(
    domains: DiagnosisDomains,
    plan: DiagnosisPlan,
    kind: ImageKind,
    output: str | Path,
    *,
    methods: Sequence[Mapping[str, Any]],
    oracle: bool = True,
    choose: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> DiagnosisAdaptation:
    """Train source-only, adapted and, where target labels allow it, the oracle; keep what looks better without labels.

    Temperature and thresholds stay as they are: to choose them would take labels of the target.

    Args:
        domains: the examinations.
        plan: the choices of every training.
        kind: of the target's images.
        output: the bundle folder to make; the other arms go to its ``comparison``.
        methods: definitions of adaptation methods.
        oracle: whether to train the ceiling.
        choose: whether source-only may be kept where it looks better.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with trainings of the same command that were cut off there.
        say: called with a sentence before each training.

    Raises:
        UserError: the output folder is taken.
    """
    if resume and not overwrite and (Path(output) / "report.json").is_file():
        raise UserError(f"{output} is finished: omit --resume and add --overwrite to adapt again.")
    require_free(output, overwrite=overwrite or resume)
    existing = {"overwrite": overwrite, "resume": resume}
    say(f"adapted: {plan.steps} steps on {plan.device}")
    bundle = train_diagnosis_arm(domains.source, domains.target, plan, kind, output, methods, **existing)
    others = {"source_only": (domains.source, plan)}
    if oracle and domains.test is not None and domains.target.labelled.exams:
        others["oracle"] = (oracle_split(domains, plan), replace(plan, kind=kind))
    arms = {"adapted": bundle}
    for arm, (split, own) in others.items():
        say(f"{arm}: {plan.steps} steps")
        place = bundle.root / "comparison" / arm
        arms[arm] = train_diagnosis_arm(split, domains.target, own, kind, place, (), **existing)
    information = {arm: _information(arms[arm], domains.target, plan) for arm in ("source_only", "adapted")}
    scores = {}
    if domains.test is not None:
        device = str(plan.device)
        scores = {arm: score_exams(made.root, domains.test, device=device) for arm, made in arms.items()}
    kept = "source_only" if choose and information["adapted"] < information["source_only"] else "adapted"
    if kept == "source_only":
        keep_source_only(bundle, arms["source_only"])
    return _report(bundle, kept, scores, information, domains, plan)


def oracle_split(domains: DiagnosisDomains, plan: DiagnosisPlan) -> ExamSplit:
    """The target's labelled examinations: of each class one patient at least to watch, as in every training."""
    parts = domains.target.labelled.split(SHARE, seed=plan.seed)
    return ExamSplit(*parts, parts[1] if domains.test is None else domains.test)


def train_diagnosis_arm(
    split: ExamSplit,
    target: ExamDataset,
    plan: DiagnosisPlan,
    kind: ImageKind,
    output: str | Path,
    methods: Sequence[Mapping[str, Any]],
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> BundleFolder:
    """Train one arm: a bundle of labelled examinations, and of the target's images where there are methods.

    Args:
        split: what is learnt from and watched.
        target: examinations to adapt to; their labels are put away.
        plan: the choices.
        kind: of the target's images.
        output: the bundle folder to make.
        methods: definitions of adaptation methods.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with, or keep, a training of the same choices there.

    Raises:
        UserError: the output folder is taken.
    """
    classes = len(plan.class_names)
    definition = diagnosis_network(
        plan.network, classes=classes, channels=plan.channels, spatial_dims=plan.spatial_dims
    )
    configs = diagnosis_configs(plan, split.training, split.validation, definition=definition, strategy=Strategy())
    configs = diagnosis_adaptation(configs, plan, target, kind=kind, definition=definition, methods=methods)
    bundle = BundleFolder.create(TEMPLATE, output, configs=configs, overwrite=overwrite, resume=resume)
    bundle.run("train", "finetune", *(["adapt"] if methods else []), device=plan.device)
    return bundle


def _information(bundle: BundleFolder, target: ExamDataset, plan: DiagnosisPlan) -> float:
    """How certain and how varied the answers on the target are, 0 to 1."""
    diagnoser = Diagnoser.from_bundle(bundle.root, device=str(plan.device))
    found = [diagnoser.logits(diagnoser.read(exam.images)[1]) for exam in target.exams]
    logits = torch.from_numpy(np.stack(found))
    if plan.exclusive:
        return float(information_score(logits.softmax(1)))
    present = logits.sigmoid()
    both = torch.stack([1 - present, present], dim=1)  # every finding is a question with two answers
    return float(torch.stack([information_score(both[..., number]) for number in range(both.shape[2])]).mean())


def _kind(report: ExamReport) -> ImageKind:
    if report.spatial_dims == 2 or report.fingerprint is None:
        return "picture"
    return report.fingerprint.modality


def _report(
    bundle: BundleFolder,
    kept: str,
    scores: dict[str, DiagnosisScores],
    information: dict[str, float],
    domains: DiagnosisDomains,
    plan: DiagnosisPlan,
) -> DiagnosisAdaptation:
    areas = {arm: one.auc.value for arm, one in scores.items()}
    share = None
    if "oracle" in areas:
        share = gap_recovered(areas["source_only"], areas["adapted"], areas["oracle"])
    sentences = adaptation_sentences(scores, share)
    told = ", ".join(f"{arm.replace('_', '-')} {value:.3f}" for arm, value in information.items())
    sentences.append(f"Kept without labels: {kept.replace('_', '-')} (information {told}).")
    report = {
        "sentences": sentences,
        "kept": kept,
        "information": information,
        "scores": {arm: one.as_dict() for arm, one in scores.items()},
        "gap_recovered": share,
        "data": {"source": str(domains.source.training.root), "target": str(domains.target.root)},
        "training": f"{plan.steps} steps of {plan.batch_size}, {plan.network}, seed {plan.seed}",
        "hardware": hardware(),
        "versions": versions(),
    }
    write_record(bundle.root / "report.json", report)
    return DiagnosisAdaptation(bundle, kept, scores, information, report)


def adaptation_sentences(scores: Mapping[str, DiagnosisScores], share: float | None) -> list[str]:
    """What the scores on the target say, the bad news first."""
    if not scores:
        return ["Not scored: the target has no labelled examinations."]
    areas = {arm: one.auc.value for arm, one in scores.items()}
    told = ", ".join(f"{arm.replace('_', '-')} {one.auc}" for arm, one in scores.items())
    gain = areas["adapted"] - areas["source_only"]
    if gain < -_ALIKE:
        verdict = f"Adaptation made it worse by {-gain:.3f}."
    elif gain < _ALIKE:
        verdict = "Adaptation changed nothing worth the name."
    else:
        verdict = f"Adaptation brought {gain:.3f}."
    recovered = [] if share is None else [f"{share:.0%} of the gap to the oracle was recovered."]
    return [verdict, f"AUC on the target: {told}.", *recovered]
