"""Adapting a trained network to the images at hand by what two views of an image have in common."""

import copy
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_transfer.adaptation.test_time import AdaptedNetwork, Score, judged, listed, minimise
from monai_transfer.transforms import RandGIN

_TURN, _ZOOM, _SHIFT = 0.17, 0.1, 0.1
"""Most rotation in radians, change of the logarithm of the size, and shift in sizes of the image, along each axis."""

_LEAST_VOXELS = 20
"""A class that both views together show less of says nothing."""


def view_consistency(
    network: nn.Module,
    images: Iterable[Tensor],
    *,
    steps: int = 40,
    learning_rate: float = 3e-5,
    parameters: Literal["norm", "all"] = "all",
    tolerance: float = 0.85,
    seed: int = 0,
    score: Score | None = None,
) -> AdaptedNetwork:
    r"""Train a copy until it draws the same in two views of an image.

    A view is the image in another contrast (:class:`~monai_transfer.transforms.RandGIN`), turned, zoomed and shifted at
    random; what the network draws in it is laid back onto the image. With :math:`p, q` its probabilities in two views,
    where both show the image, and the classes :math:`K` of which they show anything,

    .. math:: L = 1 - \frac{1}{|K|} \sum_{k \in K} \frac{2 \sum p_k q_k}{\sum p_k^2 + \sum q_k^2}

    Weihsbach et al., *DG-TTA*, 2023. The given network is left untouched. The copy is rolled back where the label-free
    score drops, where a number stops being finite, and where its labels agree with the original's by less than
    ``tolerance`` times as much as the original's labels of two views agree: it may change by as much as the original
    wavers, much where that hardly sees the target, and little where it sees it well. Statistics of batch normalisation
    stay as they are.

    Args:
        network: a trained segmentation network.
        images: preprocessed tensors ``(batch, channels, *spatial)`` that fit in memory (see :func:`random_patches`).
        steps: optimizer steps, one image each, in turn.
        learning_rate: of Adam.
        parameters: ``"norm"`` for scale and shift of normalisation layers alone, or ``"all"``.
        tolerance: least agreement with the original, as a share of that between two views of its own.
        seed: of the views.
        score: label-free score; by default :func:`monai_transfer.losses.information_score`.

    Raises:
        UserError: there are no images, or nothing to adapt.
    """
    patches = listed(images)
    adapted = copy.deepcopy(network).eval()
    least = tolerance * _steadiness(adapted, patches, seed)  # while it is still the original
    views = _Views(seed)

    def difference(image: Tensor) -> Tensor | None:
        agreement = views.agreement(adapted, image)
        return None if agreement is None else 1 - agreement

    minimise(difference, adapted, patches, steps=steps, learning_rate=learning_rate, parameters=parameters)
    return judged(network, adapted, patches, score, least)


@torch.no_grad()
def _steadiness(network: nn.Module, images: list[Tensor], seed: int) -> float:
    """How well what a network draws in two views of an image agrees, on the mean."""
    views = _Views(seed)
    known = [float(found) for image in images if (found := views.agreement(network, image)) is not None]
    return sum(known) / len(known) if known else 0.0


class _Views:
    """Random views of images."""

    def __init__(self, seed: int) -> None:
        self.places = np.random.RandomState(seed)
        self.contrast = RandGIN(prob=1.0).set_random_state(seed)

    def agreement(self, network: nn.Module, images: Tensor) -> Tensor | None:
        """Soft Dice of what a network draws in two views of ``(batch, channels, *spatial)``; ``None`` of nothing."""
        (first, seen), (second, too) = self._drawn(network, images), self._drawn(network, images)
        both = (seen * too > 0.99).to(first)
        first, second, axes = first * both, second * both, (0, *range(2, images.ndim))
        overlap = (first * second).sum(axes)[1:]
        sizes = (first.square() + second.square()).sum(axes)[1:]
        shown = sizes > _LEAST_VOXELS
        return (2 * overlap[shown] / sizes[shown]).mean() if bool(shown.any()) else None

    def _drawn(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of one view laid back onto the images, and how much of each voxel it shows."""
        there = self._matrix(images.shape[2:])
        back = torch.linalg.inv(there)
        view = torch.stack([self.contrast(image) for image in _warped(images, there, "border")])
        probabilities = network(view).float().softmax(1)
        return _warped(probabilities, back, "zeros"), _warped(torch.ones_like(images[:, :1]), back, "zeros")

    def _matrix(self, shape: torch.Size) -> Tensor:
        """A random map of places in ``[-1, 1]`` along each axis, the last axis first, as ``affine_grid`` takes it."""
        dims = len(shape)
        matrix = np.eye(dims + 1)
        for first in range(dims):
            for second in range(first + 1, dims):
                turn, angle = np.eye(dims + 1), self.places.uniform(-_TURN, _TURN)
                turn[first, first] = turn[second, second] = np.cos(angle)
                turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
                matrix = matrix @ turn
        zoom = np.diag([*np.exp(self.places.uniform(-_ZOOM, _ZOOM, dims)), 1.0])
        halves = np.diag([*(np.array(shape[::-1]) / 2), 1.0])  # a rotation is one among voxels, not among shares
        matrix = np.linalg.inv(halves) @ matrix @ zoom @ halves
        matrix[:-1, -1] = self.places.uniform(-2 * _SHIFT, 2 * _SHIFT, dims)
        return torch.from_numpy(matrix).float()


def _warped(images: Tensor, matrix: Tensor, beyond: Literal["border", "zeros"]) -> Tensor:
    """Images ``(batch, channels, *spatial)`` looked up where a matrix maps their places to."""
    grid = F.affine_grid(matrix[None, :-1].expand(len(images), -1, -1).to(images), list(images.shape), False)
    return F.grid_sample(images, grid, padding_mode=beyond, align_corners=False)
