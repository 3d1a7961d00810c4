"""Random changes of intensity: how all of them draw, a scanner's bias field, and another modality's contrast."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}

_QUANTILE_SAMPLES = 20_000


class RandIntensity(RandomizableTransform):
    """A random change of intensities in two steps: draw the parameters, then apply them.

    A subclass draws in :meth:`draw` (from ``self.R`` alone) and changes a plain float32 tensor in :meth:`apply`;
    meta data, dtype conversion and the decision whether to act at all are handled here.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's attribute)

    @abstractmethod
    def draw(self, image: Tensor) -> None:
        """Draw this call's parameters for an image ``(channels, *spatial)``."""

    @abstractmethod
    def apply(self, image: Tensor) -> Tensor:
        """Change a float32 image ``(channels, *spatial)`` with the parameters drawn last."""

    def generator(self) -> torch.Generator:
        """A torch generator on the CPU, seeded from ``self.R``."""
        return torch.Generator().manual_seed(int(self.R.randint(0, 2**31 - 1)))

    def randomize(self, data: Any) -> None:
        """Decide whether to act and, if so, draw the parameters for the image ``data``."""
        super().randomize(None)
        if self._do_transform:
            self.draw(convert_to_tensor(data, track_meta=False))

    def __call__(self, data: Any, randomize: bool = True) -> Tensor:
        """Change the image ``(channels, *spatial)`` with probability ``prob``.

        Args:
            data: array, tensor or ``MetaTensor``; 2D or 3D.
            randomize: ``False`` applies the parameters drawn last once more.
        """
        if randomize:
            self.randomize(data)
        image: Tensor = convert_to_tensor(data, track_meta=get_track_meta())
        if not self._do_transform:
            return image
        changed = self.apply(convert_to_tensor(image, track_meta=False, dtype=torch.float32))
        out: Tensor = convert_to_dst_type(changed, image, dtype=torch.float32)[0]
        return out


class RandIntensityMap(RandomizableTransform, MapTransform):
    """The dictionary version of a :class:`RandIntensity`: one draw, applied to every key."""

    backend = RandIntensity.backend

    def __init__(self, keys: KeysCollection, transform: RandIntensity, prob: float, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed the decision and the array transform's draws."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the images under the keys with the same parameters, with probability ``prob``."""
        d = dict(data)
        self.randomize(None)
        first = self.first_key(d)
        if self._do_transform and first != ():
            self.transform.randomize(d[first])
        for key in self.key_iterator(d):
            if self._do_transform:
                d[key] = self.transform(d[key], randomize=False)
            else:
                d[key] = convert_to_tensor(d[key], track_meta=get_track_meta())
        return d


class RandSmoothBias(RandIntensity):
    r"""Multiplies the image by a smooth random field, as the coils of an MR scanner do.

    .. math:: y = (x - \min x) \, e^{b} + \min x, \qquad b = \mathrm{interpolate}(\sigma z), \quad z \sim N(0, 1)

    on a coarse grid of ``points`` per axis; :math:`\sigma` is drawn from ``std``. The minimum is held, so that the
    transform can follow a normalisation that leaves negative values. All channels share the field. It does the
    work of MONAI's ``RandBiasField``, whose Legendre polynomials are evaluated at every voxel, by one interpolation.

    Args:
        prob: probability to act.
        std: range of the standard deviation of the field's logarithm.
        points: points of the coarse grid per axis, at least 2.

    Example:
        >>> image = torch.ones(1, 8, 8)
        >>> image[0, 0, 0] = -1
        >>> changed = RandSmoothBias(prob=1.0, std=(0.3, 0.3)).set_random_state(0)(image)
        >>> float(changed.min()), bool(changed.std() > image.std())
        (-1.0, True)
    """

    def __init__(self, prob: float = 0.7, std: tuple[float, float] = (0.0, 0.5), *, points: int = 4) -> None:
        if points < 2:
            raise ValueError(f"points must be at least 2, not {points}")
        super().__init__(prob)
        self.std = std
        self.points = points
        self.grid = torch.zeros(0)

    def draw(self, image: Tensor) -> None:
        """Draw the coarse grid."""
        noise = self.R.normal(size=(1, 1, *(self.points,) * (image.ndim - 1)))
        self.grid = torch.from_numpy(noise * self.R.uniform(*self.std)).float()

    def apply(self, image: Tensor) -> Tensor:
        """Multiply by the interpolated field."""
        mode = _MODES[image.ndim - 1]
        grid = self.grid.to(image.device)
        field = F.interpolate(grid, tuple(image.shape[1:]), mode=mode, align_corners=True)[0]
        # normalised images have negative values, whose sign a plain product would stretch the wrong way
        floor = image.min()
        return (image - floor) * field.exp() + floor


class RandSmoothBiasd(RandIntensityMap):
    """Dictionary version of :class:`RandSmoothBias`; all keys share the field.

    Example:
        >>> data = {"t1": torch.rand(1, 8, 8), "t2": torch.rand(1, 8, 8)}
        >>> changed = RandSmoothBiasd(["t1", "t2"], prob=1.0).set_random_state(0)(data)
        >>> {key: tuple(image.shape) for key, image in changed.items()}
        {'t1': (1, 8, 8), 't2': (1, 8, 8)}
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.7,
        std: tuple[float, float] = (0.0, 0.5),
        *,
        points: int = 4,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandSmoothBias(1.0, std, points=points), prob, allow_missing_keys)


class RandContrastCurve(RandIntensity):
    r"""Maps intensities through a random piecewise-linear curve that need not be monotone.

    With :math:`u` the intensity, rescaled to ``[0, 1]`` between two quantiles and clipped, and knots
    :math:`k_i \sim U(0, 1)` at even distances, the result is the linear interpolation of the knots at :math:`u`,
    brought back to the mean and the standard deviation of the input. Which tissue is bright is then no
    evidence any more, so a network has to learn from shape. Every channel gets a curve of its own. Monotone
    curves as self-supervision go back to Zhou et al., *Models Genesis*, MedIA 2021.

    Soft tissues share a small part of a CT's range; between knots at even distances they would keep their order.
    ``gather`` moves the knots to where the voxels are, so that the order of neighbouring tissues changes too.

    Args:
        prob: probability to act.
        knots: least and greatest number of knots, at least 2.
        quantiles: the quantiles of the image that become 0 and 1.
        keep_air: probability that the darkest intensities stay dark, as air does in every modality.
        air: share of the range, from below, that counts as air.
        blend: least weight of the changed image; below 1 the weight is drawn from ``[blend, 1]`` and the rest is
            the input.
        gather: greatest share, below 1, of the way that the knots move from even distances to even quantiles of the
            voxels above ``air``; the share is drawn from ``[0, gather]``.

    Example:
        >>> image = torch.linspace(0, 1, 100).reshape(1, 10, 10)
        >>> changed = RandContrastCurve(prob=1.0).set_random_state(0)(image)
        >>> bool(changed.diff().min() < 0), bool(torch.allclose(changed.mean(), image.mean(), atol=1e-4))
        (True, True)
    """

    def __init__(
        self,
        prob: float = 0.9,
        knots: tuple[int, int] = (3, 8),
        *,
        quantiles: tuple[float, float] = (0.01, 0.995),
        keep_air: float = 0.5,
        air: float = 0.02,
        blend: float = 1.0,
        gather: float = 0.0,
    ) -> None:
        if not 0 <= gather < 1:
            raise ValueError(f"gather must be at least 0 and below 1, not {gather}")
        if not 2 <= knots[0] <= knots[1]:
            raise ValueError(f"knots must be two rising numbers of at least 2, not {knots}")
        super().__init__(prob)
        self.knots = knots
        self.quantiles = quantiles
        self.keep_air = keep_air
        self.air = air
        self.blend = blend
        self.gather = gather
        self.curves = torch.zeros(0, knots[0])
        self.dark_air = False
        self.share = 1.0
        self.gathered = 0.0

    def draw(self, image: Tensor) -> None:
        """Draw one curve per channel."""
        count = int(self.R.randint(self.knots[0], self.knots[1] + 1))
        self.curves = torch.from_numpy(self.R.uniform(0.0, 1.0, size=(image.shape[0], count))).float()
        self.dark_air = bool(self.R.uniform() < self.keep_air)
        self.share = float(self.R.uniform(self.blend, 1.0))
        self.gathered = float(self.R.uniform(0.0, self.gather))

    def apply(self, image: Tensor) -> Tensor:
        """Map every channel through its curve."""
        pairs = zip(image, self.curves.to(image.device), strict=True)
        return torch.stack([self._map(channel, curve) for channel, curve in pairs])

    def _map(self, channel: Tensor, curve: Tensor) -> Tensor:
        values = channel.flatten()
        # quantiles sort: a sample at even distances spares sorting every voxel
        sample = values[:: max(1, values.numel() // _QUANTILE_SAMPLES)]
        low, high = torch.quantile(sample, torch.tensor(self.quantiles, device=channel.device))
        if not bool(high > low):
            return channel
        unit = ((channel - low) / (high - low)).clamp_(0.0, 1.0)
        places = self._places(((sample - low) / (high - low)).clamp_(0.0, 1.0), len(curve))
        index = torch.bucketize(unit.contiguous(), places[1:-1])
        changed = torch.lerp(curve[index], curve[index + 1], (unit - places[index]) / places.diff()[index])
        if self.dark_air:
            changed.masked_fill_(unit <= self.air, 0.0)
        # the curve must change contrast alone, not the scale that the network's input was normalised to
        std, mean = torch.std_mean(channel)
        changed_std, changed_mean = torch.std_mean(changed)
        if not bool(changed_std > 1e-6):
            return channel
        return torch.lerp(channel, (changed - changed_mean) * (std / changed_std) + mean, self.share)

    def _places(self, unit: Tensor, count: int) -> Tensor:
        """Where the knots lie in ``[0, 1]``, rising from 0 to 1."""
        even = torch.linspace(0.0, 1.0, count, device=unit.device)
        inside = unit[unit > self.air]
        if self.gathered == 0 or not inside.numel():
            return even
        places = torch.lerp(even, torch.quantile(inside, even), self.gathered)
        places[0], places[-1] = 0.0, 1.0
        return places


class RandContrastCurved(RandIntensityMap):
    """Dictionary version of :class:`RandContrastCurve`; all keys share the curves.

    Example:
        >>> data = {"t1": torch.rand(1, 8, 8), "t2": torch.rand(1, 8, 8)}
        >>> changed = RandContrastCurved(["t1", "t2"], prob=1.0).set_random_state(0)(data)
        >>> {key: tuple(image.shape) for key, image in changed.items()}
        {'t1': (1, 8, 8), 't2': (1, 8, 8)}
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.9,
        knots: tuple[int, int] = (3, 8),
        *,
        quantiles: tuple[float, float] = (0.01, 0.995),
        keep_air: float = 0.5,
        air: float = 0.02,
        blend: float = 1.0,
        gather: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandContrastCurve(
            1.0, knots, quantiles=quantiles, keep_air=keep_air, air=air, blend=blend, gather=gather
        )
        super().__init__(keys, transform, prob, allow_missing_keys)
