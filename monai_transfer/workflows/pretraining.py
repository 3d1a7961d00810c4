"""From random shapes, or from volumes without labels, to weights that a training can start from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.pretraining_configs import Volumes, masked_configs, shapes_configs
from monai_transfer.bundle.pretraining_plan import PretrainingPlan
from monai_transfer.engines import read_history
from monai_transfer.files import replacing
from monai_transfer.machine import hardware, versions


@dataclass(frozen=True)
class Pretraining:
    """What a pretraining left.

    Attributes:
        bundle: the bundle folder.
        weights: the network in half precision, a SPEC for ``--weights``.
        steps: steps that were done.
        losses: means over the last epoch, by name.
    """

    bundle: BundleFolder
    weights: Path
    steps: int
    losses: dict[str, float]

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        return [f"{self.steps} steps; losses of the last epoch: {losses}.", f"Weights: {self.weights}"]

    def as_report(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "bundle": str(self.bundle.root),
            "weights": str(self.weights),
            "steps": self.steps,
            "losses": self.losses,
        }


def pretrain(
    plan: PretrainingPlan,
    output: str | Path,
    *,
    volumes: Volumes | None = None,
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Pretraining:
    """Pretrain a network on random shapes, or on volumes with hidden blocks.

    Args:
        plan: the choices.
        output: the bundle folder to make.
        volumes: what the recipe ``masked`` learns from.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with a training of the same command that was cut off there.
        say: called with a sentence when the training begins.

    Raises:
        UserError: when ``output`` is not free.
        Interrupted: the training was interrupted; ``resume`` goes on with it.
    """
    from monai_transfer.pretraining import KINDS

    configs = shapes_configs(plan, KINDS) if volumes is None else masked_configs(plan, volumes)
    source = f"random shapes ({plan.objective})" if volumes is None else f"hidden blocks of {volumes.describe()}"
    bundle = BundleFolder.create("pretraining", output, configs=configs, overwrite=overwrite, resume=resume)
    say(f"Pretraining {plan.network} on {source}, {plan.steps} steps{bundle.standing}")
    bundle.run(*(name for name in ("train", "masked") if name in configs), device=plan.device)
    history = read_history(bundle.root / "eval" / "history.jsonl")
    steps, losses = (int(history[-1]["step"]), history[-1]["losses"]) if history else (0, {})
    return Pretraining(bundle, _write_half(bundle, plan, source, steps), steps, losses)


def _write_half(bundle: BundleFolder, plan: PretrainingPlan, source: str, steps: int) -> Path:
    """The network in half precision beside ``model.pt``, with what it was pretrained on in the file's own header."""
    state = torch.load(bundle.weights, map_location="cpu", weights_only=True)
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous() for name, tensor in state.items()
    }
    header = {
        "pretrained_on": f"{source}, {steps} steps, seed {plan.seed}",
        "network": plan.network,
        "made_with": str(versions().get("monai-transfer")),
        "hardware": str(hardware()),
    }
    path = bundle.root / "models" / "model.safetensors"
    with replacing(path) as file:
        file.write(save(halves, metadata=header))
    return path
