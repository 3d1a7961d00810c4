"""Where labels lie beside each other: the source's label maps put over one another, and laid over a prediction.

Anatomy is the one thing that two modalities share. A network that meets a foreign contrast takes a bone in the pelvis
for a kidney as long as both are bright; that no kidney of the source lies a hand's breadth below the liver's edge, it
never asks. The atlas asks. It knows directions and distances in voxels of a working grid whose axes mean the same in
both domains (right, anterior, superior), and nothing of intensities.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from scipy.fft import next_fast_len
from torch import Tensor

_SIGMAS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Blurs to choose from, voxels: from subjects who lie alike to subjects who differ by an organ's breadth."""

_SIGMA_OF_FEW = 2.0
"""Blur where fewer than three label maps leave nothing to choose by."""

_FLOOR = 1e-4
"""Share that every class has everywhere: what no source case shows is unlikely, and not impossible."""

_CANDIDATES = 3
"""Places to look at: the organs, and what a network that knows their layout takes for them elsewhere."""

_LEAST_MATCH = 0.5
"""Share of the best match from which on another place is a candidate."""

_MARGIN = 8
"""Voxels around all labels that the atlas covers, enough for the tails of the widest blur that matter."""

_ROUNDS = 5
"""Rounds of aligning the cases by the medians of their centroids, which settle after two or three."""

_LOST = 0.35
"""Share of its usual size below which a class is lost; a third is less than any subject's organ differs by."""


class LabelAtlas:
    r"""Probabilities of the classes by place, for label maps aligned with each other.

    The maps of the source are shifted so that the centroids of their classes agree (by medians: one missing or cut
    organ moves nothing), averaged, and blurred by the Gaussian under which each map is likeliest by the atlas of the
    others. The atlas may lie over a prediction wherever their correlation has a peak, every class counting alike.

    :meth:`correct` multiplies, :math:`q_{vc} \propto p_{vc} \, a_{vc}^\lambda`, with the atlas :math:`a` as the prior
    of the place. Where the network has lost a class, what it calls background may be that class too: the place alone
    proposes where, and the volume's intensities (:func:`~monai_transfer.adaptation.refine_probabilities`) then tell
    what of it is. Probabilistic atlases: Ashburner and Friston, *Unified segmentation*, NeuroImage 2005.

    Args:
        labels: of the source, ``(1, *spatial)`` each, on the working grid, in two or three dimensions; the shapes may
            differ.
        classes: number of classes, background included.

    Raises:
        ValueError: when no map holds a class.

    Example:
        >>> label = torch.zeros(1, 24, 24, dtype=torch.long)
        >>> label[0, 4:8, 4:8], label[0, 14:18, 14:18] = 1, 2
        >>> atlas = LabelAtlas([label, label.roll(1, 1), label.roll(2, 2)], classes=3)
        >>> probabilities = F.one_hot(label[0], 3).movedim(-1, 0).float()
        >>> probabilities[:, 20:22, 2:6] = torch.tensor([0.4, 0.6, 0.0])[:, None, None]  # class 1 in the wrong place
        >>> share = atlas.laid(atlas.places(probabilities)[0], probabilities.shape[1:])
        >>> corrected = atlas.correct(probabilities, share).argmax(0)
        >>> bool((corrected == label[0]).all())
        True
    """

    def __init__(self, labels: Sequence[Tensor], classes: int) -> None:
        maps = [_one_hot(label, classes) for label in labels]
        maps = [one_hot for one_hot in maps if bool(one_hot.any())]
        if not maps:
            raise ValueError("an atlas needs a label map that holds a class")
        canvas, seen = _aligned(maps)
        self.sigma = _best_sigma(canvas, seen)
        cover = seen.sum(0).clamp(min=1)
        counts = torch.stack([one_hot.flatten(1).sum(1) for one_hot in maps])
        usual = torch.where(counts > 0, counts, torch.nan).nanmedian(0).values.nan_to_num(0.0)
        self._hold((blurred(canvas.sum(0), self.sigma) / cover).clamp(0, 1), usual)

    def _hold(self, share: Tensor, usual: Tensor) -> None:
        self.share = share
        """Share of each class by place, ``(classes - 1, *canvas)``."""
        self.usual = usual
        """Median number of voxels of each class where it occurs, ``(classes - 1,)``; 0 for one that never does."""
        # 0 where no case has the class, 1 where all have it: what a hit is worth when the atlas is laid over something
        self._worth = ((share + _FLOOR) / _FLOOR).log() / math.log(1 / _FLOOR)

    def tensors(self) -> dict[str, Tensor]:
        """What an atlas is made of, to be kept in a file; the shares in half precision."""
        return {"share": self.share.half(), "usual": self.usual.float(), "sigma": torch.tensor(self.sigma)}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "LabelAtlas":
        """The atlas of :meth:`tensors`.

        Raises:
            ValueError: for anything else.
        """
        real = {name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()}
        share, usual, sigma = (real.get(name, torch.empty(0)) for name in ("share", "usual", "sigma"))
        fits = share.ndim in (3, 4) and usual.shape == share.shape[:1] and sigma.numel() == 1 and share.numel() > 0
        if not (fits and bool(((share >= 0) & (share <= 1)).all()) and bool((usual >= 0).all())):
            raise ValueError("these tensors are no atlas")
        atlas = cls.__new__(cls)
        atlas.sigma = float(sigma)
        atlas._hold(share, usual)
        return atlas

    def places(self, probabilities: Tensor) -> list["Place"]:
        """Where the atlas may lie over a prediction ``(classes, *spatial)``, best match first; nowhere if empty."""
        numbers = torch.arange(1, len(probabilities), device=probabilities.device)
        found = probabilities[1:] * (probabilities.argmax(0)[None] == _over(numbers, probabilities))
        if not bool(found.any()):
            return []
        # every class counts by its usual size: a large one must not outvote the others, nor one of a few voxels
        found = found / _over(self.usual.to(found).clamp(min=1), found) / len(found)
        worth = self._worth.to(found)
        peaks: list[Place] = []
        for corner in _correlation_peaks(_halved(found), _halved(worth), _CANDIDATES):
            # a peak is known to two voxels: try its neighbours
            near = [
                tuple(2 * at + step for at, step in zip(corner, steps, strict=True))
                for steps in itertools.product((-1, 0, 1), repeat=len(corner))
            ]
            matches = [float((found * _placed(worth, found.shape[1:], place)).sum()) for place in near]
            peaks.append(Place(near[matches.index(max(matches))], max(matches)))
        peaks.sort(key=lambda peak: -peak.match)
        return [peak for peak in peaks if peak.match >= _LEAST_MATCH * peaks[0].match]

    def laid(self, place: "Place", shape: Sequence[int]) -> Tensor:
        """Share of every class ``(classes, *shape)``, background first, where the atlas lies at ``place``."""
        share = _placed(self.share, shape, place.corner)
        return torch.cat([(1 - share.sum(0, keepdim=True)).clamp(min=0), share])

    def correct(self, probabilities: Tensor, share: Tensor, *, weight: float = 0.7, find_lost: bool = True) -> Tensor:
        """Probabilities of a prediction, beside what is likely at each place.

        Args:
            probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
            share: what :meth:`laid` gave, of the same shape.
            weight: exponent of the atlas; 0 leaves the prediction alone.
            find_lost: whether to propose where a class lies of which the network finds next to nothing.
        """
        share = share.to(probabilities)
        corrected = _weighed(probabilities, share, weight)
        numbers = self.lost(corrected) if find_lost else ()
        if not len(numbers):
            return corrected
        candid, weights = probabilities.clone(), probabilities.new_full((len(probabilities),), weight)
        candid[0] += probabilities[numbers].sum(0)
        candid[numbers], weights[numbers] = candid[0].clone(), 1.0
        return _weighed(candid, share, _over(weights, candid))

    def lost(self, probabilities: Tensor) -> Tensor:
        """Numbers of the classes of which a prediction ``(classes, *spatial)`` has next to nothing."""
        sizes = torch.bincount(probabilities.argmax(0).flatten(), minlength=len(probabilities))[1:]
        numbers: Tensor = (sizes < _LOST * self.usual.to(sizes.device)).nonzero()[:, 0] + 1
        return numbers


@dataclass(frozen=True)
class Place:
    """A place of an atlas over a prediction.

    Attributes:
        corner: voxel of the prediction at which the atlas's first corner lies; it may lie outside.
        match: mean over the classes of the part of their usual size that is found where the atlas expects it; 0 for
            none, about 1 for all.
    """

    corner: tuple[int, ...]
    match: float


def _weighed(probabilities: Tensor, share: Tensor, weight: Tensor | float) -> Tensor:
    """Prediction times atlas to the power of ``weight``, brought to the sum 1."""
    weighed: Tensor = (probabilities.clamp(min=1e-6).log() + weight * (share + _FLOOR).log()).softmax(0)
    return weighed


def _one_hot(label: Tensor, classes: int) -> Tensor:
    """The classes but the background of a label ``(1, *spatial)``, as ``(classes - 1, *spatial)``."""
    return F.one_hot(label[0].long(), classes).movedim(-1, 0)[1:].float()


def _aligned(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The maps on one canvas ``(cases, classes - 1, *canvas)``, and where each was seen ``(cases, 1, *canvas)``."""
    centroids = torch.stack([_centroids(one_hot) for one_hot in maps])
    shift = centroids.nanmean(1)
    for _ in range(_ROUNDS):
        usual = (centroids - shift[:, None]).nanmedian(0).values
        shift = (centroids - usual).nanmedian(1).values
    shift = shift.round().long()
    corners = [one_hot.any(0).nonzero() - by for one_hot, by in zip(maps, shift, strict=True)]
    low = torch.stack([voxels.amin(0) for voxels in corners]).amin(0) - _MARGIN
    size = (torch.stack([voxels.amax(0) for voxels in corners]).amax(0) + _MARGIN - low + 1).tolist()
    places = [(-by - low).tolist() for by in shift]
    canvas = [_placed(one_hot, size, place) for one_hot, place in zip(maps, places, strict=True)]
    seen = [_placed(torch.ones_like(one_hot[:1]), size, place) for one_hot, place in zip(maps, places, strict=True)]
    return torch.stack(canvas), torch.stack(seen)


def _centroids(one_hot: Tensor) -> Tensor:
    """Centroid of each class ``(classes - 1, dimensions)`` in voxels; NaN where it is absent."""
    nothing = torch.full((one_hot.ndim - 1,), math.nan)
    return torch.stack([mask.nonzero().float().mean(0) if bool(mask.any()) else nothing for mask in one_hot])


def _best_sigma(canvas: Tensor, seen: Tensor) -> float:
    """The blur under which each case is likeliest by the atlas of all others, every class counting alike."""
    if len(canvas) < 3:
        return _SIGMA_OF_FEW
    # at half of the resolution, where it costs an eighth: the choice needs no more
    maps, within = torch.stack([_halved(case) for case in canvas]), torch.stack([_halved(case) for case in seen])

    def likelihood(sigma: float) -> float:
        smooth = torch.stack([blurred(case, sigma / 2) for case in maps])
        total, cover = smooth.sum(0), within.sum(0)
        sums = 0.0
        for case, alone, own in zip(maps, smooth, within, strict=True):
            share = ((total - alone) / (cover - own).clamp(min=0.5)).clamp(0, 1)
            full = torch.cat([(1 - share.sum(0, keepdim=True)).clamp(min=0), share])
            truth = torch.cat([(1 - case.sum(0, keepdim=True)).clamp(min=0) * own, case])
            count = truth.flatten(1).sum(1)
            each = ((full + _FLOOR).log() * truth).flatten(1).sum(1) / count.clamp(min=1)
            sums += float(each[count > 0].sum())
        return sums

    return max(_SIGMAS, key=likelihood)


def _correlation_peaks(image: Tensor, template: Tensor, most: int) -> list[list[int]]:
    """Places of the template's first corner in the image where the correlation, summed over the channels, is greatest.

    Both are ``(channels, *spatial)``; the template may stick out on all sides, so that places may be negative. Peaks
    are at least a quarter of the template apart along some axis.
    """
    inner, axes = image.shape[1:], tuple(range(1, image.ndim))
    size = [next_fast_len(a + b, real=True) for a, b in zip(inner, template.shape[1:], strict=True)]
    product = torch.fft.rfftn(image, size, dim=axes) * torch.fft.rfftn(template, size, dim=axes).conj()
    match = torch.fft.irfftn(product.sum(0), size)
    places = []
    for _ in range(most):
        peak = [int(index) for index in torch.unravel_index(match.argmax(), size)]
        # the correlation is circular: what lies beyond the image is a place before its first voxel
        places.append(
            [at if at < within else at - around for at, within, around in zip(peak, inner, size, strict=True)]
        )
        quarters = [torch.arange(-(length // 4), length // 4 + 1) for length in template.shape[1:]]
        around = [(at + near) % length for at, near, length in zip(peak, quarters, size, strict=True)]
        match[torch.meshgrid(*around, indexing="ij")] = -torch.inf
    return places


def _placed(block: Tensor, shape: Sequence[int], place: Sequence[int]) -> Tensor:
    """``block`` ``(channels, *any)`` in a field of zeros ``(channels, *shape)``, its first corner at ``place``."""
    field = block.new_zeros(len(block), *shape)
    inside, outside = [], []
    for length, room, at in zip(block.shape[1:], shape, place, strict=True):
        first, last = max(0, -int(at)), min(length, room - int(at))
        if last <= first:
            return field
        inside.append(slice(first, last))
        outside.append(slice(first + int(at), last + int(at)))
    field[(slice(None), *outside)] = block[(slice(None), *inside)]
    return field


def _halved(maps: Tensor) -> Tensor:
    pool = F.avg_pool3d if maps.ndim == 4 else F.avg_pool2d
    return pool(maps[None], 2, ceil_mode=True)[0]


def _over(values: Tensor, maps: Tensor) -> Tensor:
    """One value per channel, to be broadcast over ``(channels, *spatial)``."""
    return values.reshape(-1, *[1] * (maps.ndim - 1))


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps ``(channels, *spatial)`` through a Gaussian of so many voxels."""
    smooth: Tensor = GaussianFilter(maps.ndim - 1, sigma).to(maps)(maps[None])[0]
    return smooth
