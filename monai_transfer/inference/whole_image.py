"""A network over a whole preprocessed image, for what needs the logits of all its voxels at once."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_transfer.bundle.reading import InferenceBundle, WindowSettings
from monai_transfer.inference.boxes import PartSeen, in_all
from monai_transfer.inference.correction import corrected_logits
from monai_transfer.inference.pipeline import activate
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading

if TYPE_CHECKING:
    from monai_transfer.adaptation import LabelAtlas

Judge = Callable[[Tensor, Callable[[Tensor], Tensor], Mapping[int, str]], dict[str, Any]]
"""Says something of a case: from the preprocessed image (C, *working shape), what gives the logits of whole images
(1, C, *working shape), and the names of the labels by class."""

_OVERLAP = 0.25


def whole_image(bundle: InferenceBundle, files: Sequence[Path], reading: Reading, part: PartSeen = in_all) -> Tensor:
    """A preprocessed image ``(channels, *spatial)`` without its trace, where the bundle's network is.

    Args:
        bundle: whose preprocessing it is.
        files: one for each channel.
        reading: how strictly they are read.
        part: of the volume, in which the network looks.

    Raises:
        UserError: a file cannot be read, or nothing of it is left.
    """
    _, volume = part(read_volume(files, reading=reading))
    image = preprocess(volume, bundle.preprocessing, key=bundle.image_key)
    plain: Tensor = image.as_tensor().float().to(next(bundle.network.parameters()).device)
    return plain


def over_whole_image(
    network: Callable[[Tensor], Tensor], window: WindowSettings, atlas: "LabelAtlas | None" = None
) -> Callable[[Tensor], Tensor]:
    """What gives logits ``(1, classes, *spatial)`` for an image ``(1, channels, *spatial)``, window by window.

    Args:
        network: from windows to logits.
        window: the bundle's; its overlap is not used, for a quarter is enough to compare label maps.
        atlas: by which what the network says is corrected.
    """
    roi = [size if size > 0 else None for size in window.roi_size]
    inferer = SlidingWindowInferer(roi, overlap=_OVERLAP, mode="gaussian", padding_mode="replicate")

    def predict(image: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = inferer(image, network)
        return logits

    return lambda image: corrected_logits(image, predict(image), atlas, predict)


def combined(logits: Tensor, *, members: int) -> Tensor:
    """Logits of an ensemble, ``(n, members * C, *spatial)`` -> ``(n, C, *spatial)``, by their mean probabilities."""
    return logits if members == 1 else activate(logits, "softmax", members=members).clamp(min=1e-9).log()


def only_of(judgement: dict[str, Any], labels: Collection[str]) -> dict[str, Any]:
    """What a judge said, of labels that are asked for; of all where none are named."""
    estimates = judgement.get("estimated_dice")
    if not labels or estimates is None:
        return judgement
    return {**judgement, "estimated_dice": {name: one for name, one in estimates.items() if name in labels}}
