"""A step that would ruin the network is not taken, and the cases that led to it are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.errors import UserError

_REMEDY = "lower the learning rate, or look for extreme intensities with `monai-transfer check`"


def require_finite_loss(total: Tensor, losses: Mapping[str, Tensor], *, step: int, batch: Mapping[str, Any]) -> None:
    """See that the loss of a step is a number.

    Args:
        total: the sum, a scalar.
        losses: its terms by name.
        step: number of the step, for the sentence.
        batch: domain -> what it was made of.

    Raises:
        UserError: it is not; the sentence names the terms and the cases.
    """
    if not bool(torch.isfinite(total)):
        guilty = ", ".join(name for name, value in losses.items() if not bool(torch.isfinite(value)))
        raise UserError(f"The loss is not finite at step {step} ({guilty or 'sum'}){_of_cases(batch)}: {_REMEDY}.")


def require_finite_gradient(norm: Tensor, *, step: int, batch: Mapping[str, Any]) -> None:
    """See that the gradient of a step is a number: the norm of a gradient with one value that is none is none.

    Args:
        norm: of the network's gradient, a scalar.
        step: number of the step, for the sentence.
        batch: domain -> what it was made of.

    Raises:
        UserError: it is not; the sentence names the cases.
    """
    if not bool(torch.isfinite(norm)):
        raise UserError(f"The gradient is not finite at step {step}{_of_cases(batch)}: {_REMEDY}.")


def names_in(batch: Mapping[str, Any]) -> list[str]:
    """File names of the images of a batch, domain by domain; those of plain tensors are not known.

    Example:
        >>> image = MetaTensor(torch.zeros(1, 1, 4, 4), meta={"filename_or_obj": ["/data/ct_001.nii.gz"]})
        >>> names_in({"source": {"image": image}})
        ['ct_001.nii.gz']
    """
    found: list[str] = []
    for tensors in batch.values():
        image = tensors.get(Keys.IMAGE)
        files = image.meta.get("filename_or_obj", []) if isinstance(image, MetaTensor) else []
        found += [Path(str(file)).name for file in ([files] if isinstance(files, str | Path) else files)]
    return list(dict.fromkeys(found))


def _of_cases(batch: Mapping[str, Any]) -> str:
    names = names_in(batch)
    return f" for {', '.join(names)}" if names else ""
