"""The source's organs painted with the intensities that they seem to have in the target."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from monai_transfer.errors import UserError

_QUANTILES = (0.01, 0.995)
_SAMPLES = 20_000
_LEAST_VOXELS = 8
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class IntensityProfile:
    """How one volume looks.

    Attributes:
        low: 1 % quantile of each channel, ``(channels,)``.
        high: 99.5 % quantile of each channel, ``(channels,)``.
        mean: median intensity of each class and channel, ``(classes, channels)``; NaN where the class was not found.
        deviation: scaled median absolute deviation, ``(classes, channels)``.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def measure(cls, image: Tensor, probabilities: Tensor) -> "IntensityProfile":
        """Measure each class over the surer half of the voxels that are predicted to be of it.

        Args:
            image: ``(channels, *spatial)``.
            probabilities: a network's, ``(classes, *spatial)``.
        """
        channels, classes = image.shape[0], probabilities.shape[0]
        values = image.flatten(1).float()
        confidence, label = probabilities.flatten(1).max(0)
        low, high = _range(values)
        mean = torch.full((classes, channels), float("nan"))
        deviation = torch.full((classes, channels), float("nan"))
        for number in range(1, classes):
            found = (label == number).nonzero()[:, 0]
            if len(found) < _LEAST_VOXELS:
                continue
            least = confidence[found].kthvalue(len(found) // 2 + 1).values
            sure = found[confidence[found] >= least]
            mean[number] = values[:, sure].median(1).values.cpu()
            distance = (values[:, sure] - mean[number, :, None].to(values)).abs()
            deviation[number] = _MAD_TO_SD * distance.median(1).values.cpu()
        return cls(low.cpu(), high.cpu(), mean, deviation)


class ClassIntensities:
    """Profiles of the target's volumes: empty at first, renewed while a network learns.

    One object stands in the transforms of the source and in the handler that measures the target.
    """

    def __init__(self) -> None:
        self.profiles: list[IntensityProfile] = []

    def renew(self, profiles: list[IntensityProfile]) -> None:
        """Take these profiles from now on; those without any class are left out."""
        self.profiles = [profile for profile in profiles if bool(torch.isfinite(profile.mean).any())]


class RandClassIntensityd(RandomizableTransform, MapTransform):
    r"""Gives every labelled class the intensities of that class in a random target volume, and the rest its range.

    A voxel of class :math:`c` with intensity :math:`x` becomes

    .. math:: \mu_c + j_c + r_c \sigma_c \frac{x - m_c}{s_c}, \qquad
       j_c \sim N(0, (\mathtt{jitter}\, \sigma_c)^2), \quad \log r_c \sim N(0, 0.2^2)

    where :math:`m_c, s_c` are the mean and deviation of the class in the image, and :math:`\mu_c, \sigma_c` those of
    the class in the target, as a network sees it. The background, and a class that the target's profile lacks, is
    mapped linearly to the target's range of intensities; give it a random contrast first
    (:class:`~monai_transfer.transforms.RandContrastCurved`), for what it looks like in the target is not known. A blur
    with kernel ``[b, 1 - 2b, b]`` per axis, :math:`b \sim U(0, \mathtt{blur})`, then mixes the tissues at their
    borders, as a scanner does.

    The labels' borders are the source's own, so the network learns how they look in the target, which wrong
    pseudo-labels cannot teach. After Billot et al., *SynthSeg*, MedIA 2023, which draws an intensity for every class
    at random; here texture and background are kept, and the intensities are the target's.

    Args:
        keys: of the image ``(channels, *spatial)``.
        label_key: of the label ``(1, *spatial)``.
        intensities: profiles of the target; nothing is done while there are none.
        prob: probability to act.
        jitter: standard deviation of the change of a class's mean, in its deviations in the target.
        blur: greatest weight of a neighbour in the blur, at most 1/3.
        allow_missing_keys: as in MONAI.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's attribute)

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        intensities: ClassIntensities,
        prob: float = 0.8,
        *,
        jitter: float = 0.5,
        blur: float = 0.2,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= blur <= 1 / 3:
            raise ValueError(f"blur must be from 0 to 1/3, not {blur}")
        self.label_key = label_key
        self.intensities = intensities
        self.jitter = jitter
        self.blur = blur

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Paint the images under the keys, each with the same target volume.

        Raises:
            UserError: when the label holds a class that the profiles do not know of.
        """
        d = dict(data)
        self.randomize(None)
        if not (self._do_transform and self.intensities.profiles):
            return d
        profile = self.intensities.profiles[int(self.R.randint(len(self.intensities.profiles)))]
        label = convert_to_tensor(d[self.label_key], track_meta=False)[0].long().flatten()
        if int(label.max()) >= len(profile.mean):
            raise UserError(f"The label holds {int(label.max())}, but the target was measured for {len(profile.mean)}.")
        weight = float(self.R.uniform(0.0, self.blur))
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], track_meta=get_track_meta())
            plain = convert_to_tensor(image, track_meta=False, dtype=torch.float32)
            painted = torch.stack([self._paint(plain[c], label, profile, c) for c in range(len(plain))])
            d[key] = convert_to_dst_type(_blurred(painted, weight), image, dtype=torch.float32)[0]
        return d

    def _paint(self, image: Tensor, label: Tensor, profile: IntensityProfile, channel: int) -> Tensor:
        values = image.flatten()
        low, high = (edge[0] for edge in _range(values[None]))
        mean, deviation = _moments(values, label, len(profile.mean))
        wanted, spread = self._drawn(profile, channel)
        known = wanted.isfinite() & (deviation > 0)
        factor = spread / deviation.clamp(min=1e-6)
        span = (profile.high[channel] - profile.low[channel]).to(values) / (high - low).clamp(min=1e-6)
        scale = torch.where(known.to(values.device), factor.to(values), span)
        shift = torch.where(
            known.to(values.device), (wanted - factor * mean).to(values), profile.low[channel].to(values) - low * span
        )
        return (values * scale[label] + shift[label]).reshape(image.shape)

    def _drawn(self, profile: IntensityProfile, channel: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each class, changed at random."""
        mean, deviation = profile.mean[:, channel], profile.deviation[:, channel]
        draws = torch.from_numpy(self.R.normal(size=(2, len(mean)))).float()
        return mean + self.jitter * deviation * draws[0], deviation * (0.2 * draws[1]).exp()


def _range(values: Tensor) -> tuple[Tensor, Tensor]:
    """The low and the high quantile of ``(channels, voxels)``."""
    sample = values[:, :: max(1, values.shape[1] // _SAMPLES)]
    low, high = torch.quantile(sample, torch.tensor(_QUANTILES, device=values.device), dim=1)
    return low, high


def _moments(values: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each class, ``(classes,)``; 0 where it is absent."""
    count = torch.bincount(label, minlength=classes).clamp(min=1)
    mean = torch.bincount(label, weights=values, minlength=classes) / count
    square = torch.bincount(label, weights=(values - mean[label]).square(), minlength=classes) / count
    return mean.float().cpu(), square.sqrt().float().cpu()


def _blurred(image: Tensor, weight: float) -> Tensor:
    """Blur every spatial axis with ``[weight, 1 - 2 weight, weight]``, edges repeated."""
    for axis in range(1, image.ndim):
        size = image.shape[axis]
        before = image.narrow(axis, 0, 1), image.narrow(axis, 0, size - 1)
        after = image.narrow(axis, 1, size - 1), image.narrow(axis, size - 1, 1)
        neighbours = torch.cat(before, axis) + torch.cat(after, axis)
        image = torch.lerp(image, 0.5 * neighbours, 2 * weight)
    return image
