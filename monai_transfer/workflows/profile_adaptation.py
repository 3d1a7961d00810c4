"""A network for a target whose images do not leave their site: what was measured there paints the source here.

Three files travel: the target's grid, a network that has learnt from random intensities, and the intensities that it
measured at the target's site. The last training then paints every class as it looks there. Labels and images stay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan, make_plan
from monai_transfer.bundle.profile_configs import profile_configs
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.datasets import CaseDataset, require_sound
from monai_transfer.errors import UserError
from monai_transfer.machine import choose_device
from monai_transfer.workflows.cards import write_model_card
from monai_transfer.workflows.choice import source_sizes
from monai_transfer.workflows.starting_point import StartingPoint
from monai_transfer.workflows.target_profile import TargetProfile


@dataclass(frozen=True)
class ProfileAdaptation:
    """What a training for a target elsewhere left.

    Attributes:
        bundle: the trained bundle.
        painted: name of a class -> number of target volumes whose intensity it was painted with.
    """

    bundle: BundleFolder
    painted: dict[str, int]

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        known = ", ".join(f"{name} of {number}" for name, number in self.painted.items() if number)
        told = f"Painted as in the target: {known} volume(s)." if known else "Painted at random: nothing was measured."
        return [told, "Not scored: the target's images are elsewhere.", f"Bundle: {self.bundle.root}"]

    def as_report(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {"bundle": str(self.bundle.root), "painted": self.painted}


def plan_for_profile(
    source: CaseDataset, profile: TargetProfile, start: StartingPoint | None, *, device: str = "auto", **options: Any
) -> Plan:
    """Check every case of the source and plan its training.

    Raises:
        UserError: for the first fault in the source, a profile of other channels or classes, an option out of range, or
            weights that do not fit.
    """
    PlanOptions(device=device, **options)
    found = require_sound(source, labelled=True)
    channels = len(source.channel_names)
    if channels != profile.channels:
        raise UserError(f"{source.root} has {channels} channel(s), the target's profile has {profile.channels}.")
    fixed: dict[str, Any] = {"label_names": source.names_for(found.label_values), "device": choose_device(device)}
    make = partial(make_plan, found, profile.fingerprint, **fixed)
    plan = make(**options) if start is None else start.plan(make, options, channels=channels)
    if profile.classes and profile.classes != plan.class_names:
        theirs = ", ".join(profile.classes.values())
        raise UserError(
            f"The target was measured for {theirs}, {source.root} has {', '.join(plan.class_names.values())}."
        )
    return plan


def adapt_to_profile(
    source: CaseDataset,
    profile: TargetProfile,
    plan: Plan,
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> ProfileAdaptation:
    """Train a bundle for the target on the source alone, painted in what was measured in the target.

    Args:
        source: labelled cases.
        profile: of the target.
        plan: the choices.
        output: the bundle folder to make.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with a training of the same command that was cut off there.
        say: called with a sentence when the training begins.

    Raises:
        UserError: when the output folder is taken or training fails for a reason that the user can mend.
    """
    profiles = profile.profiles(source_sizes(source, plan.label_values).label_ml)
    configs = profile_configs(plan, source, profiles)
    bundle = BundleFolder.create("domain_adaptation", output, configs=configs, overwrite=overwrite, resume=resume)
    say(f"adapting: {plan.steps} steps on {plan.device}{bundle.standing}")
    bundle.run("train", device=plan.device)
    means = [profile["mean"] for profile in profiles]
    painted = {
        name: sum(rows[number][0] is not None for rows in means) for number, name in plan.class_names.items() if number
    }
    result = ProfileAdaptation(bundle, painted)
    run = {
        "source": f"{source.root}, {len(source)} cases",
        "target": f"{profile.cases} volume(s) elsewhere, {len(profile.volumes)} of them measured",
        "network": plan.network,
        "training": f"{plan.steps} steps of {plan.batch_size} case(s), seed {plan.seed}",
    }
    title = f"Segmentation of {plan.target_modality.upper()}, learnt from {plan.source_modality.upper()}"
    write_model_card(bundle, title=title, plan=plan, sentences=result.sentences[:2], scores={}, run=run)
    return result
