"""The atlas that a bundle keeps, so that it can correct its labels in images that nobody labels."""

from pathlib import Path

from safetensors.torch import save

from monai_transfer.adaptation.label_atlas import LabelAtlas
from monai_transfer.errors import UserError
from monai_transfer.files import replacing
from monai_transfer.weights.checkpoint import read_checkpoint


def write_atlas(atlas: LabelAtlas, path: Path) -> None:
    """Write an atlas to a file that appears when it is complete."""
    with replacing(path) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in atlas.tensors().items()}))


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
        atlas = LabelAtlas.of_tensors(read_checkpoint(path).tensors)
    except (UserError, ValueError) as error:
        raise UserError(f"{path} is not a readable atlas ({error}): {remedy}.") from error
    if classes is not None and len(atlas.share) != classes - 1:
        raise UserError(f"{path} knows {len(atlas.share)} labels, the bundle {classes - 1}: {remedy}.")
    return atlas
