"""What a label map says to the training: values as classes, and labels that the network itself gave its target."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.errors import UserError

PSEUDO_LABEL = "pseudo_label"
"""Key of a target volume's labels in a training batch."""

TAUGHT = "pseudo_label_taught"
"""Key of the classes that a target volume's labels teach, ``(256,)`` boolean."""

UNLABELLED = 255
"""Value of a voxel that has no trusted label."""

_MOST_CLASSES = 256
"""Length of every vector of taught classes, so that volumes with and without labels make one batch."""


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
        self._taught: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Number of labelled volumes."""
        return len(self._maps)

    def set(self, image: MetaTensor, label: Tensor, *, untaught: Sequence[int] = ()) -> None:
        """Keep the label of an image.

        Args:
            image: on the same grid.
            label: ``(1, *spatial)``.
            untaught: classes of which the label says nothing: its background may be one of them.
        """
        # bytes on the CPU: the label maps of all volumes stay in memory until the training ends
        self._maps[_file(image)] = label.to(torch.uint8).cpu()
        self._taught[_file(image)] = torch.ones(_MOST_CLASSES, dtype=torch.bool)
        self._taught[_file(image)][list(untaught)] = False

    def of(self, image: MetaTensor) -> Tensor:
        """The label ``(1, *spatial)`` of an image, ``UNLABELLED`` everywhere when it has none."""
        found = self._maps.get(_file(image))
        return torch.full((1, *image.shape[1:]), UNLABELLED, dtype=torch.uint8) if found is None else found.clone()

    def taught(self, image: MetaTensor) -> Tensor:
        """Which classes the label of an image teaches, ``(256,)``; all where it has none."""
        found = self._taught.get(_file(image))
        return torch.ones(_MOST_CLASSES, dtype=torch.bool) if found is None else found.clone()

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The label maps, and the classes that they teach, by file."""
        maps = {name: convert_to_tensor(label, track_meta=False) for name, label in self._maps.items()}
        return {"maps": maps, "taught": dict(self._taught)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take what :meth:`state_dict` gave."""
        self._maps, self._taught = dict(state["maps"]), dict(state["taught"])


class PseudoLabeld(MapTransform, RandomizableTrait):
    """Puts the present pseudo-label of the image beside it, before both are cropped and deformed.

    It is not a constant of the case, and so counts as random: a cache stops before it.

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
        """Add the label, and under :data:`TAUGHT` the classes that it teaches."""
        d = dict(data)
        image = d[self.image_key]
        for key in self.keys:
            d[key] = MetaTensor(self.labels.of(image), meta=dict(image.meta))
            d[TAUGHT] = self.labels.taught(image)
        return d


def _file(image: MetaTensor) -> str:
    name = image.meta["filename_or_obj"]
    return str(name if isinstance(name, str) else name[0])


class LabelClassesd(MapTransform):
    """Gives each voxel of a label map the number of its class.

    Label maps may be stored as almost whole numbers and with gaps between their values: 17 and 2035 are classes 1 and 2
    of a network with three outputs.

    Args:
        keys: label maps ``(1, ...)``.
        values: the value of each class, background first; ``None`` where the values are the numbers.

    Raises:
        UserError: a label map holds a value that is none of them.

    Example:
        >>> label = torch.tensor([[0.0, 17.0, 2035.0]])
        >>> LabelClassesd("label", [0, 17, 2035])({"label": label})["label"]
        tensor([[0., 1., 2.]])
    """

    def __init__(self, keys: KeysCollection, values: Sequence[int] | None = None) -> None:
        super().__init__(keys)
        self.values = None if values is None else torch.tensor(sorted(values), dtype=torch.float64)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label maps."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            label = changed[key].round()
            if self.values is not None:
                wide = torch.as_tensor(label, dtype=torch.float64).contiguous()
                classes = torch.searchsorted(self.values, wide).clamp(max=len(self.values) - 1)
                if not torch.equal(self.values[classes], wide):
                    odd = float(wide[self.values[classes] != wide][0])
                    raise UserError(
                        f"A label map holds the value {odd:g}, which no class has: run monai-transfer check."
                    )
                label = torch.zeros_like(label) + classes  # a MetaTensor keeps its affine
            changed[key] = label
        return changed
