"""From random shapes to weights that a training of any modality can start from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.pretraining_plan import PretrainingPlan, pretraining_configs
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
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Pretraining:
    """Pretrain a network on random shapes.

    Args:
        plan: the choices.
        output: the bundle folder to make.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with a training of the same command that was cut off there.
        say: called with a sentence when the training begins.

    Raises:
        UserError: when ``output`` is not free.
        Interrupted: the training was interrupted; ``resume`` goes on with it.
    """
    from monai_transfer.pretraining import KINDS

    configs = pretraining_configs(plan, KINDS)
    bundle = BundleFolder.create("pretraining", output, configs=configs, overwrite=overwrite, resume=resume)
    say(f"Pretraining {plan.network} on random shapes, {plan.steps} steps{bundle.standing}")
    bundle.run("train", device=plan.device)
    history = read_history(bundle.root / "eval" / "history.jsonl")
    steps, losses = (int(history[-1]["step"]), history[-1]["losses"]) if history else (0, {})
    return Pretraining(bundle, _write_half(bundle, plan, steps), steps, losses)


def _write_half(bundle: BundleFolder, plan: PretrainingPlan, steps: int) -> Path:
    """The network in half precision beside ``model.pt``, with what it was pretrained on in the file's own header."""
    state = torch.load(bundle.weights, map_location="cpu", weights_only=True)
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous() for name, tensor in state.items()
    }
    header = {
        "pretrained_on": f"random shapes ({plan.objective}, {steps} steps, seed {plan.seed})",
        "network": plan.network,
        "made_with": str(versions().get("monai-transfer")),
        "hardware": str(hardware()),
    }
    path = bundle.root / "models" / "model.safetensors"
    with replacing(path) as file:
        file.write(save(halves, metadata=header))
    return path
