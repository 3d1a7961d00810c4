"""What a training knows of its target: how the classes look there, and the labels that the network gave its volumes."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

RANGE = (0.01, 0.995)
"""Quantiles between which an image's range of intensities lies."""

AROUND = tuple(0.01 + 0.02 * step for step in range(50))
"""Quantiles that describe the surroundings of the classes."""

LEAST_VOXELS = 8
"""A class with fewer voxels has no intensity worth measuring."""

MAD_TO_SD = 1.4826
"""Makes the median absolute deviation of a normal distribution its standard deviation."""

_SAMPLES = 20_000
_LEAST_SURROUNDINGS = 50
_WIDTH = 5

PSEUDO_LABEL = "pseudo_label"
"""Key of a target volume's labels in a training batch."""

TAUGHT = "pseudo_label_taught"
"""Key of the classes that a target volume's labels teach, ``(256,)`` boolean."""

UNLABELLED = 255
"""Value of a voxel that has no trusted label."""

_MOST_CLASSES = 256
"""Length of every vector of taught classes, so that volumes with and without labels make one batch."""


@dataclass(frozen=True)
class IntensityProfile:
    """How one volume looks.

    Attributes:
        low: 1 % quantile of each channel, ``(channels,)``.
        high: 99.5 % quantile of each channel, ``(channels,)``.
        mean: median intensity of each class and channel, ``(classes, channels)``; NaN where the class was not found.
        deviation: scaled median absolute deviation, ``(classes, channels)``.
        around: quantiles :data:`AROUND` of the background within five voxels of the classes, ``(channels, 50)``;
            ``None`` where there is none.

    Example:
        >>> profile = IntensityProfile.of_range(torch.linspace(0, 100, 101).reshape(1, 101), classes=3)
        >>> float(profile.low), float(profile.high), tuple(profile.mean.shape)
        (1.0, 99.5, (3, 1))
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    deviation: Tensor
    around: Tensor | None = None

    @classmethod
    def of_range(cls, image: Tensor, *, classes: int) -> "IntensityProfile":
        """A profile of an image ``(channels, *spatial)`` that holds its range and no class."""
        low, high = intensity_range(image.flatten(1).float())
        nothing = torch.full((classes, len(image)), float("nan"))
        return cls(low.cpu(), high.cpu(), nothing, nothing)

    @classmethod
    def measure(cls, image: Tensor, probabilities: Tensor, *, believed: Tensor | None = None) -> "IntensityProfile":
        """Measure each class over the surer half of the voxels that are predicted to be of it.

        Args:
            image: ``(channels, *spatial)``.
            probabilities: a network's, ``(classes, *spatial)``.
            believed: which classes are measured, ``(classes,)``, for the network may have taken something else for one
                of no plausible size; all by default.
        """
        values, classes = image.flatten(1).float(), probabilities.shape[0]
        confidence, label = probabilities.flatten(1).max(0)
        low, high = intensity_range(values)
        mean = torch.full((classes, len(image)), float("nan"))
        deviation = mean.clone()
        for number in range(1, classes):
            found = (label == number).nonzero()[:, 0]
            if len(found) < LEAST_VOXELS or (believed is not None and not believed[number]):
                continue
            least = confidence[found].kthvalue(len(found) // 2 + 1).values
            sure = found[confidence[found] >= least]
            mean[number], deviation[number] = (moment.cpu() for moment in robust_moments(values[:, sure]))
        near = values[:, surroundings(label.reshape(image.shape[1:])).flatten()]
        around = sampled_quantiles(near, AROUND).T.cpu() if near.shape[1] >= _LEAST_SURROUNDINGS else None
        return cls(low.cpu(), high.cpu(), mean, deviation, around)

    @classmethod
    def of_numbers(cls, numbers: Mapping[str, Any]) -> "IntensityProfile":
        """The profile of :attr:`numbers`; NumPy makes NaN of ``None``."""
        return cls(**{name: value and torch.tensor(np.array(value, "f4")) for name, value in numbers.items()})

    @property
    def numbers(self) -> dict[str, Any]:
        """The attributes as lists of numbers, ``None`` where a class was not found: for JSON, which has no NaN."""
        found = {key: value.double().numpy().round(4) for key, value in vars(self).items() if value is not None}
        return {"around": None} | {key: np.where(np.isnan(a), np.array(None), a).tolist() for key, a in found.items()}


class ClassIntensities:
    """Profiles of the target's volumes: empty at first, renewed while a network learns.

    One object stands in the transforms of the source and in the handler that measures the target.

    Args:
        unknown: probability of random intensities for the classes that no profile holds.
        profiles: of volumes that were measured elsewhere, as :attr:`IntensityProfile.numbers`.

    Example:
        >>> intensities = ClassIntensities()
        >>> label = torch.zeros(8, 8, dtype=torch.long)
        >>> label[2:6, 2:6] = 1
        >>> probabilities = torch.nn.functional.one_hot(label, 2).movedim(-1, 0).float()
        >>> intensities.renew([IntensityProfile.measure(100.0 * label[None], probabilities)])
        >>> float(intensities.profiles[0].mean[1, 0])
        100.0
    """

    def __init__(self, unknown: float = 0.9, profiles: Sequence[Mapping[str, Any]] = ()) -> None:
        self.unknown = unknown
        self.profiles: list[IntensityProfile] = []
        self.renew([IntensityProfile.of_numbers(numbers) for numbers in profiles])

    def renew(self, profiles: list[IntensityProfile]) -> None:
        """Take these profiles from now on; those without any class are left out."""
        self.profiles = [profile for profile in profiles if bool(torch.isfinite(profile.mean).any())]

    def state_dict(self) -> dict[str, list[dict[str, Tensor | None]]]:
        """The profiles, as tensors by name."""
        return {"profiles": [dict(vars(profile)) for profile in self.profiles]}

    def load_state_dict(self, state: Mapping[str, list[dict[str, Any]]]) -> None:
        """Take the profiles of :meth:`state_dict`."""
        self.profiles = [IntensityProfile(**profile) for profile in state["profiles"]]


def intensity_range(values: Tensor) -> tuple[Tensor, Tensor]:
    """The low and the high quantile of ``(channels, voxels)``."""
    low, high = sampled_quantiles(values, RANGE)
    return low, high


def robust_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Median and scaled median absolute deviation over the last axis, as robust as mean and standard deviation are not.

    The factor :data:`MAD_TO_SD` makes the deviation of a normal distribution its standard deviation.
    """
    centre = values.median(-1).values
    return centre, MAD_TO_SD * (values - centre[..., None]).abs().median(-1).values


def surroundings(label: Tensor) -> Tensor:
    """Where the background ``(*spatial)`` lies within five voxels of a class."""
    return dilated(label > 0, _WIDTH) & (label == 0)


def dilated(mask: Tensor, by: int) -> Tensor:
    """A mask ``(*spatial)`` of two or three dimensions, grown by so many voxels in every direction."""
    for axis in range(mask.ndim):
        beside = mask.new_zeros([by if at == axis else length for at, length in enumerate(mask.shape)])
        mask, width = torch.cat([beside, mask, beside], axis), 1
        while width <= 2 * by:  # windows of twice the width are two windows side by side: 30 times faster than pooling
            step = min(width, 2 * by + 1 - width)
            left = mask.shape[axis] - step
            mask, width = mask.narrow(axis, 0, left) | mask.narrow(axis, step, left), width + step
    return mask


def likeliest_class(maps: Tensor, dim: int = 0) -> Tensor:
    """Numbers of the classes with the greatest value, the first of equal ones.

    Args:
        maps: logits or probabilities with the classes along ``dim``.
        dim: axis of the classes, which is left out of the result.

    Example:
        >>> likeliest_class(torch.tensor([[0.2, 0.5, 0.1], [0.8, 0.5, 0.9]])).tolist()
        [1, 0, 1]
    """
    # argmax over an axis that is not the last one takes five times as long on a CPU
    return maps.max(dim).indices


def sampled_quantiles(values: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """Quantiles of ``(channels, voxels)``, from voxels at even distances: ``(quantiles, channels)``."""
    sample = values[:, :: max(1, values.shape[1] // _SAMPLES)]
    return torch.quantile(sample, torch.tensor(quantiles, device=values.device), dim=1)


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
