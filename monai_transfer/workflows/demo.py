"""The main road in one call: phantoms, adaptation with floor and ceiling, report."""

from pathlib import Path

from matplotlib.figure import Figure

from monai_transfer.bundle.request import PlanOptions
from monai_transfer.figures.overlays import overview_picture
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.figures.style import save_figure
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.adaptation import Adaptation, Say, adapt, choose_domains, plan_from
from monai_transfer.workflows.reporting import report_adaptation
from monai_transfer.workflows.scoring import overlay_cases

SOURCE_SUBJECTS = 8
TARGET_SUBJECTS = 8
TEST_SUBJECTS = 3
SPACING = (6.0, 6.0, 6.0)
STEPS = 500
"""Of each arm: with 800 the adapted network was no better (Dice 0.80), and the demo took half as long again."""


def run_demo(
    output: str | Path,
    *,
    source: str = "ct",
    steps: int = STEPS,
    device: str = "auto",
    seed: int = 0,
    size: float = 1.0,
    jobs: int = 1,
    say: Say = lambda message: None,
) -> Adaptation:
    """Adapt from CT phantoms to MR phantoms (or back) and write ``report.html``, ``report.json`` and a picture.

    Args:
        output: gets ``data/``, ``bundle/``, the report and ``overview.png``; an earlier demo there is replaced.
        source: ``"ct"`` or ``"mr"``; the target is the other.
        steps: optimizer steps of every arm.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: seed of phantoms and training.
        size: share of the phantoms' usual number of voxels per axis.
        jobs: trainings at once, as for :func:`~monai_transfer.workflows.adaptation.adapt`.
        say: called with a sentence when a part begins.
    """
    PlanOptions(device=device, spacing=SPACING, steps=steps, seed=seed)
    folder = Path(output)
    target = "mr" if source == "ct" else "ct"
    say(f"Phantoms: {SOURCE_SUBJECTS} {source.upper()}, {TARGET_SUBJECTS + TEST_SUBJECTS} {target.upper()}")
    sets = ((source, SOURCE_SUBJECTS), (target, TARGET_SUBJECTS + TEST_SUBJECTS))
    for modality, subjects in sets:
        write_phantoms(
            folder / "data" / modality,
            modality="ct" if modality == "ct" else "mr",
            subjects=subjects,
            seed=seed,
            size=size,
        )
    test = [f"{target}_{TARGET_SUBJECTS + number + 1:03}" for number in range(TEST_SUBJECTS)]
    domains = choose_domains(folder / "data" / source, folder / "data" / target, test_cases=test)
    plan = plan_from(domains, device=device, spacing=SPACING, steps=steps, seed=seed)
    result = adapt(domains, plan, folder / "bundle", overwrite=True, jobs=jobs, say=say)
    report_adaptation(result, folder, title=f"Phantoms, {source.upper()} to {target.upper()}")
    save_figure(_picture(result), folder / "overview.png", dpi=110)
    return result


def _picture(result: Adaptation) -> Figure:
    """The README's picture: a labelled source case, and the median target case before and after."""
    domains = result.domains
    if domains.test is None:
        raise ValueError("the demo has test subjects")
    first = domains.source.cases[0]
    names = domains.source.label_names
    given = OverlayCase.read(first.name, first.images[0], label_names=names, truth=first.label)
    arms = {"source-only": result.arms["source_only"], "adapted": result.arms["adapted"]}
    scores = {"source-only": result.scores["source_only"], "adapted": result.scores["adapted"]}
    cases = overlay_cases(domains.test, arms, scores, order_by="adapted")
    median = cases[len(cases) // 2]
    source, target = result.plan.source_modality.upper(), result.plan.target_modality.upper()
    return overview_picture(given, median, source_title=f"{source}, with labels", target_title=target)
