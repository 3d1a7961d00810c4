"""The atlas that a bundle keeps, so that it can correct its labels in images that nobody labels."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from monai_transfer.adaptation.label_atlas import LabelAtlas
from monai_transfer.errors import UserError
from monai_transfer.files import replacing
from monai_transfer.weights.checkpoint import read_checkpoint


def write_atlas(atlas: LabelAtlas, path: Path) -> None:
    """Write an atlas to a file that appears when it is complete."""
    with replacing(path) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in atlas_tensors(atlas).items()}))


def read_atlas(path: Path, *, classes: int | None = None) -> LabelAtlas:
    """The atlas of a file.

    Args:
        path: of the file.
        classes: that it must have, background included; ``None`` takes any.

    Raises:
        UserError: the file is damaged, or of other classes.
    """
    remedy = "remove it, and labels will be as the network draws them"
    try:
        atlas = atlas_of_tensors(read_checkpoint(path).tensors)
    except (UserError, ValueError) as error:
        raise UserError(f"{path} is not a readable atlas ({error}): {remedy}.") from error
    if classes is not None and len(atlas.share) != classes - 1:
        raise UserError(f"{path} knows {len(atlas.share)} labels, the bundle {classes - 1}: {remedy}.")
    return atlas


def atlas_tensors(atlas: LabelAtlas) -> dict[str, Tensor]:
    """What an atlas is made of; the shares in half precision."""
    numbers = {name: getattr(atlas, name).float() for name in ("usual", "placed", "reach", "lesions")}
    return {"share": atlas.share.half(), "sigma": torch.tensor(atlas.sigma), **numbers}


def atlas_of_tensors(tensors: Mapping[str, Tensor]) -> LabelAtlas:
    """The atlas of :func:`atlas_tensors`.

    In older files every class has a place, no end at a border is known, and nothing of how lesions lie.

    Raises:
        ValueError: for anything else.
    """
    real = {name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()}
    share, usual, sigma = (real.get(name, torch.empty(0)) for name in ("share", "usual", "sigma"))
    fits = share.ndim in (3, 4) and usual.shape == share.shape[:1] and sigma.numel() == 1 and share.numel() > 0
    if not (fits and bool(((share >= 0) & (share <= 1)).all()) and bool((usual >= 0).all())):
        raise ValueError("these tensors are no atlas")
    unknown = {
        "placed": torch.ones_like(usual),
        "reach": torch.tensor([-torch.inf, torch.inf]).expand(len(share), share.ndim - 1, 2),
        "lesions": torch.zeros(len(share), 3),
    }
    parts = {name: real.get(name, default) for name, default in unknown.items()}
    wrong = any(part.shape != unknown[name].shape or bool(part.isnan().any()) for name, part in parts.items())
    if wrong or not bool(((parts["lesions"][:, 0] >= 0) & (parts["lesions"][:, 0] <= len(share))).all()):
        raise ValueError("these tensors are no atlas")
    placed = parts.pop("placed") > 0
    return LabelAtlas.of_parts(share=share, usual=usual, placed=placed, sigma=float(sigma), **parts)
