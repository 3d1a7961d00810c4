"""The configurations of a training for a target whose images lie elsewhere: only what was measured in them is here."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.config_parts import with_values
from monai_transfer.bundle.configs import Configs, adaptation_configs
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains
from monai_transfer.datasets import CaseDataset

_ARM = Arm("federated", methods=(), painting="random")
"""The default recipe without what looks at images of the target: its second stage, and measuring as it trains."""


def profile_configs(plan: Plan, source: CaseDataset, profiles: Sequence[Mapping[str, Any]]) -> Configs:
    """A training whose source is painted in intensities of the target that were measured there.

    Args:
        plan: the choices.
        source: labelled cases.
        profiles: of target volumes, as :attr:`~monai_transfer.transforms.IntensityProfile.numbers`; with none of them
            every class gets random intensities.
    """
    nobody = source.only(())
    configs = adaptation_configs(plan, Domains(source, nobody, None), _ARM)
    elsewhere = {"target_dir": "", "target_items": [], "intensities#profiles": list(profiles)}
    return {**configs, "train": with_values(configs["train"], elsewhere)}
