"""Labels that a network gave the target's volumes, on their way into its training batches."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

PSEUDO_LABEL = "pseudo_label"
"""Key of a target volume's labels in a training batch."""

UNLABELLED = 255
"""Value of a voxel that has no trusted label."""


class PseudoLabels:
    """Label maps by the file of their image: empty at first, filled while a network learns.

    One object stands in the transforms of the target and in the handler that predicts the target.

    Example:
        >>> image = MetaTensor(torch.rand(1, 2, 2), meta={"filename_or_obj": "mr_001.nii.gz"})
        >>> labels = PseudoLabels()
        >>> int(labels.of(image).min())
        255
        >>> labels.set(image, torch.ones(1, 2, 2))
        >>> len(labels), int(labels.of(image).max())
        (1, 1)
    """

    def __init__(self) -> None:
        self._maps: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Number of labelled volumes."""
        return len(self._maps)

    def set(self, image: MetaTensor, label: Tensor) -> None:
        """Keep the label ``(1, *spatial)`` of an image on the same grid."""
        # bytes on the CPU: the label maps of all volumes stay in memory until the training ends
        self._maps[_file(image)] = label.to(torch.uint8).cpu()

    def of(self, image: MetaTensor) -> Tensor:
        """The label ``(1, *spatial)`` of an image, ``UNLABELLED`` everywhere when it has none."""
        found = self._maps.get(_file(image))
        return torch.full((1, *image.shape[1:]), UNLABELLED, dtype=torch.uint8) if found is None else found.clone()

    def state_dict(self) -> dict[str, Tensor]:
        """The label maps by file."""
        return {name: convert_to_tensor(label, track_meta=False) for name, label in self._maps.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the label maps of :meth:`state_dict`."""
        self._maps = dict(state)


class PseudoLabeld(MapTransform, RandomizableTrait):
    """Puts the present pseudo-label of the image beside it, before both are cropped and deformed.

    It is no constant of the case, and so counts as random: a cache stops before it.

    Args:
        keys: under which the label ``(1, *spatial)`` goes.
        labels: by image.
        image_key: of the image ``(channels, *spatial)``.

    Example:
        >>> image = MetaTensor(torch.rand(1, 2, 2), meta={"filename_or_obj": "mr_001.nii.gz"})
        >>> PseudoLabeld(PSEUDO_LABEL, PseudoLabels())({"image": image})[PSEUDO_LABEL].shape
        torch.Size([1, 2, 2])
    """

    def __init__(self, keys: KeysCollection, labels: PseudoLabels, *, image_key: str = Keys.IMAGE) -> None:
        super().__init__(keys)
        self.labels = labels
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the label."""
        d = dict(data)
        image = d[self.image_key]
        for key in self.keys:
            d[key] = MetaTensor(self.labels.of(image), meta=dict(image.meta))
        return d


def _file(image: MetaTensor) -> str:
    name = image.meta["filename_or_obj"]
    return str(name if isinstance(name, str) else name[0])
