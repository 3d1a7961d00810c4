"""Random contrast curves: another scanner's, another modality's, or nobody's."""

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_transfer.transforms.draws import RandIntensity, RandIntensityMap

_QUANTILE_SAMPLES = 20_000


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
