"""The source's organs painted with other intensities: random ones, and those that they seem to have in the target."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from monai_transfer.errors import UserError
from monai_transfer.transforms.random_intensity import RandContrastCurve
from monai_transfer.transforms.target import (
    AROUND,
    ClassIntensities,
    IntensityProfile,
    intensity_range,
    sampled_quantiles,
    surroundings,
)

_RANDOM_SPREAD = (0.01, 0.1)
_KNOTS = (3, 6)
_AIR = 0.02
_DARK_AIR = 0.5
_SAMPLES = 2_000

_ALIKE = 0.3
"""Mean Bhattacharyya distance of the classes' intensities up to which an image is of one kind with the target. Medians:
0.02 (hippocampus MR) and 0.2 (T1 of two sites) between images of one kind, 0.8 to 27 between modalities."""

_LEAST_KNOWN = 0.5
"""Share of an image's classes that a profile must hold to say anything of their kind."""


class RandClassIntensityd(RandomizableTransform, MapTransform):
    r"""Gives every labelled class an intensity of its own: the target's where it is known, a random one elsewhere.

    A voxel of class :math:`c` with intensity :math:`x` becomes

    .. math:: \mu_c + r_c \sigma_c \frac{x - m_c}{s_c}

    where :math:`m_c, s_c` are the mean and deviation of the class in the image. A class that a random profile of the
    target holds gets its :math:`\mu_c + j_c, \sigma_c` with :math:`j_c \sim N(0, (\mathtt{jitter}\, \sigma_c)^2)` and
    :math:`\log r_c \sim N(0, 0.2^2)`; any other class, with the intensities' probability ``unknown`` for all of them at
    once, :math:`\mu_c` uniform over the range of intensities and :math:`\sigma_c` from 1 to 10 % of it. A blur with
    kernel ``[b, 1 - 2b, b]`` per axis, :math:`b \sim U(0, \mathtt{blur})`, then mixes the tissues at their borders, as
    a scanner does.

    What has no label goes through a random contrast curve. Once the target is known, ``candidates`` curves of three to
    six knots are drawn, and the one is taken that brings the tissues around the classes closest to those in the
    target: with the least distance of their quantiles (Wasserstein-1), so that fat becomes bright where most of what
    lies around the organs is bright.

    An image that is of one kind with the target, though another scanner made it, is neither painted nor sent through a
    random curve but given the scanner's contrast as a whole (:func:`of_one_kind`). A single class may look alike by
    chance: each that says so halves the share of such images that are treated as all others.

    A random intensity tears a class from the tissues that happen to be as bright in the source, which no contrast curve
    does: a dark vessel would stay as dark as bone and air. Random intensities per class are those of Billot et al.,
    *SynthSeg*, MedIA 2023; here texture and background are kept, and they give way to the target's.

    Args:
        keys: of the image ``(channels, *spatial)``.
        label_key: of the label ``(1, *spatial)``.
        intensities: profiles of the target.
        prob: probability to paint.
        curve: random contrast of an image that is not fitted to the target; none by default.
        candidates: curves to choose from, at least 1.
        jitter: standard deviation of the change of a class's mean, in its deviations in the target.
        blur: greatest weight of a neighbour in the blur, at most 1/3.
        allow_missing_keys: as in MONAI.

    Example:
        >>> paint = RandClassIntensityd("image", "label", ClassIntensities(unknown=1.0), prob=1.0, blur=0.0)
        >>> label = (torch.arange(64).reshape(1, 8, 8) > 40).long()
        >>> image = torch.linspace(0, 1, 64).reshape(1, 8, 8)
        >>> painted = paint.set_random_state(0)({"image": image, "label": label})["image"]
        >>> [bool((painted == image)[label == value].all()) for value in (0, 1)]
        [True, False]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's attribute)

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        intensities: ClassIntensities,
        prob: float = 0.8,
        *,
        curve: RandContrastCurve | None = None,
        candidates: int = 32,
        jitter: float = 0.5,
        blur: float = 0.2,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= blur <= 1 / 3:
            raise ValueError(f"blur must be from 0 to 1/3, not {blur}")
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, not {candidates}")
        self.label_key = label_key
        self.intensities = intensities
        self.curve = curve
        self.candidates = candidates
        self.jitter = jitter
        self.blur = blur

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the images under the keys, each after the same target volume.

        Raises:
            UserError: when the label holds a class that the profiles do not know of.
        """
        d = dict(data)
        self.randomize(None)
        label = convert_to_tensor(d[self.label_key], track_meta=False)[0].long()
        profile = self._draw_profile(int(label.max()))
        guess = float(self.R.uniform()) < self.intensities.unknown
        weight, doubt = float(self.R.uniform(0.0, self.blur)), float(self.R.uniform())
        ring = surroundings(label) if profile is not None else torch.zeros_like(label, dtype=torch.bool)
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], track_meta=get_track_meta())
            plain = convert_to_tensor(image, track_meta=False, dtype=torch.float32)
            if profile is not None:
                matched, classes = of_one_kind(plain, label, ring, profile)
                if doubt < 1 - 0.5**classes:
                    d[key] = convert_to_dst_type(matched, image, dtype=torch.float32)[0]
                    continue
            fitted = profile if self._do_transform else None
            changed = self._contrast(plain, ring, fitted)
            if self._do_transform:
                changed = _blurred(self._paint(changed, label, fitted, guess=guess), weight)
            d[key] = convert_to_dst_type(changed, image, dtype=torch.float32)[0]
        return d

    def _draw_profile(self, highest: int) -> IntensityProfile | None:
        profiles = self.intensities.profiles
        if not profiles:
            return None
        profile = profiles[int(self.R.randint(len(profiles)))]
        if highest >= len(profile.mean):
            raise UserError(f"The label holds {highest}, but the target was measured for {len(profile.mean)} classes.")
        return profile

    def _contrast(self, image: Tensor, ring: Tensor, profile: IntensityProfile | None) -> Tensor:
        """The image through a random curve, or through the best of several and in the range of the target."""
        if profile is None:
            if self.curve is None:
                return image
            self.curve.set_random_state(int(self.R.randint(2**31)))
            changed: Tensor = self.curve(image)
            return changed
        spatial = [1] * (image.ndim - 1)
        low, high = (edge.to(image).reshape(-1, *spatial) for edge in (profile.low, profile.high))
        unit = _unit(image)
        if profile.around is not None and bool(ring.any()):
            wanted = ((profile.around.to(image) - low.flatten(1)) / (high - low).flatten(1).clamp(min=1e-6)).clamp(0, 1)
            fitted = torch.stack([self._fit(unit[c], unit[c][ring], wanted[c]) for c in range(len(image))])
            dark_air = bool(self.R.uniform() < _DARK_AIR)
            unit = fitted.masked_fill(unit <= _AIR, 0.0) if dark_air else fitted
        return low + (high - low) * unit

    def _fit(self, unit: Tensor, ring: Tensor, wanted: Tensor) -> Tensor:
        """``unit`` through the curve that brings the values of ``ring`` closest to the wanted quantiles."""
        chosen = torch.from_numpy(self.R.randint(len(ring), size=min(_SAMPLES, len(ring)))).to(ring.device)
        sample, quantiles = ring[chosen], torch.tensor(AROUND, device=ring.device)
        counts = range(_KNOTS[0], _KNOTS[1] + 1)
        drawn = [self.R.uniform(size=counts[int(self.R.randint(len(counts)))]) for _ in range(self.candidates)]
        curves = [torch.from_numpy(knots).to(unit) for knots in drawn]
        found = torch.quantile(torch.stack([_through(sample, curve) for curve in curves]), quantiles, dim=1)
        return _through(unit, curves[int((found - wanted[:, None]).abs().mean(0).argmin())])

    def _paint(self, image: Tensor, label: Tensor, profile: IntensityProfile | None, *, guess: bool) -> Tensor:
        profile = profile or IntensityProfile.of_range(image, classes=int(label.max()) + 1)
        wanted, spread = self._draw_intensities(profile, guess=guess)
        return torch.stack([_painted(image[c], label, wanted[:, c], spread[:, c]) for c in range(len(image))])

    def _draw_intensities(self, profile: IntensityProfile, *, guess: bool) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each class and channel, ``(classes, channels)``; NaN leaves a class as it is."""
        shape = tuple(profile.mean.shape)
        draws = torch.from_numpy(self.R.normal(size=(2, *shape))).float()
        mean = profile.mean + self.jitter * profile.deviation * draws[0]
        deviation = profile.deviation * (0.2 * draws[1]).exp()
        if guess:
            low, span = profile.low, profile.high - profile.low
            missing = ~profile.mean.isfinite()
            # the background is not a class: it keeps what the contrast curve made of it
            missing[0] = False
            anywhere = low + span * torch.from_numpy(self.R.uniform(size=shape)).float()
            width = span * torch.from_numpy(self.R.uniform(*_RANDOM_SPREAD, size=shape)).float()
            mean, deviation = torch.where(missing, anywhere, mean), torch.where(missing, width, deviation)
        return mean, deviation


def of_one_kind(image: Tensor, label: Tensor, ring: Tensor, profile: IntensityProfile) -> tuple[Tensor, int]:
    r"""The image as the target's scanner would show it, and how many classes say that both are of one kind.

    Scanners, sites and protocols change brightness and contrast but leave dark what is dark; another modality, or
    sequence, turns tissues round. So an image is brought to the target by the one rising curve that gives what lies
    around its classes its quantiles in the target (histogram matching, Nyúl and Udupa, IEEE TMI 1999), and where its
    classes then look as in the target too, both are of one kind. Two normal distributions look alike by Bhattacharyya's
    distance (1943), :math:`\frac{(m - \mu)^2}{4 (s^2 + \sigma^2)} + \frac12 \ln \frac{s^2 + \sigma^2}{2 s \sigma}`.

    Args:
        image: ``(channels, *spatial)``.
        label: ``(*spatial)``.
        ring: what lies around the classes, ``(*spatial)``.
        profile: of a target volume.

    Returns:
        the image through that curve, and the number of classes that were compared; of another kind, or with less than
        half of its classes known, the image as it is, and 0.
    """
    if profile.around is None or not bool(ring.any()):
        return image, 0
    curves = _curves(image, ring, profile, profile.around)
    labelled = label > 0  # the rest is spared where the image is of another kind, as in most pairs
    inside, classes = label[labelled], len(profile.mean)
    numbers = (torch.bincount(inside, minlength=classes).cpu() > 0).nonzero()[:, 0]
    moments = [_moments(_rising(channel[labelled], *curve), inside, classes) for channel, *curve in curves]
    mean, deviation = (torch.stack(each, 1)[numbers] for each in zip(*moments, strict=True))
    here, there = deviation.clamp(min=1e-6), profile.deviation[numbers].clamp(min=1e-6)
    both = here.square() + there.square()
    apart = (mean - profile.mean[numbers]).square() / (4 * both) + (both / (2 * here * there)).log() / 2
    known = apart[apart.isfinite().all(1)]
    if len(known) < max(1, _LEAST_KNOWN * len(apart)) or bool(known.mean() > _ALIKE):
        return image, 0
    return torch.stack([_rising(*curve) for curve in curves]), len(known)


def _curves(image: Tensor, ring: Tensor, profile: IntensityProfile, around: Tensor) -> list[tuple[Tensor, ...]]:
    """Every channel, and the points between which its ring gets the quantiles ``around``, in the profile's range."""
    low, high = intensity_range(image.flatten(1))
    found = torch.cat([low[:, None], sampled_quantiles(image[:, ring], AROUND).T, high[:, None]], 1)
    wanted = torch.cat([profile.low[:, None], around, profile.high[:, None]], 1).to(image)
    return list(zip(image, found, wanted, strict=True))


def _rising(values: Tensor, places: Tensor, heights: Tensor) -> Tensor:
    """Linear interpolation between points that are made to rise; beyond them the slope is that of the whole."""
    places, heights = _wider(places.cummax(0).values), _wider(heights.cummax(0).values)
    # no two at one place
    places = places + 1e-4 * (places[-1] - places[0]) * torch.linspace(0, 1, len(places), device=places.device)
    index = torch.bucketize(values.contiguous(), places[1:-1])
    slope = heights.diff()[index] / places.diff()[index]
    return heights[index] + slope * (values - places[index])


def _wider(points: Tensor) -> Tensor:
    """Rising points, and one at either end as far away as all of them are long."""
    length = (points[-1:] - points[:1]).clamp(min=1e-6)
    return torch.cat([points[:1] - length, points, points[-1:] + length])


def _unit(image: Tensor) -> Tensor:
    """Every channel of ``(channels, *spatial)`` with its range brought to ``[0, 1]``."""
    values = image.flatten(1)
    low, high = intensity_range(values)
    return ((values - low[:, None]) / (high - low)[:, None].clamp(min=1e-6)).clamp(0, 1).reshape(image.shape)


def _through(unit: Tensor, curve: Tensor) -> Tensor:
    """Linear interpolation of a curve's knots at even distances in ``[0, 1]``."""
    place = unit * (len(curve) - 1)
    index = place.long().clamp(max=len(curve) - 2)
    return torch.lerp(curve[index], curve[index + 1], place - index)


def _painted(image: Tensor, label: Tensor, wanted: Tensor, spread: Tensor) -> Tensor:
    """One channel with the wanted mean and deviation in each class; a class with NaN stays as it is."""
    values, classes = image.flatten(), label.flatten()
    mean, deviation = _moments(values, classes, len(wanted))
    known = wanted.isfinite() & (deviation > 0)
    scale = torch.where(known, spread / deviation.clamp(min=1e-6), 1.0)
    shift = torch.where(known, wanted - scale * mean, 0.0)
    return (values * scale.to(values)[classes] + shift.to(values)[classes]).reshape(image.shape)


def _moments(values: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each class's ``(voxels,)``, ``(classes,)`` on the CPU; 0 where it is absent."""
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
