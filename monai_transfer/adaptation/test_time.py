"""Adapting a trained network to the images at hand, without source and without labels."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from monai_transfer.adaptation.norm_layers import affine_norms, batch_norms
from monai_transfer.errors import UserError
from monai_transfer.losses import entropy_loss, information_score, label_agreement, voxel_samples
from monai_transfer.transforms.target import likeliest_class

Score = Callable[[nn.Module, Sequence[Tensor]], float]
"""Label-free score of a network in evaluation mode on images ``(batch, channels, *spatial)``; higher is better."""

_SCORED_VOXELS = 20_000


@dataclass(frozen=True)
class AdaptedNetwork:
    """What came of adapting at test time.

    Attributes:
        network: the network to use, in evaluation mode: the adapted copy, or a copy of the original when rolled back.
        kept: whether the adapted copy was kept.
        score_before: label-free score of the original.
        score_after: label-free score of the adapted copy.
        agreement: mean foreground Dice of both networks' label maps.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
        >>> adapted = recalibrate_norm(network, [torch.rand(1, 1, 8, 8)], min_agreement=1.1)
        >>> adapted.kept, adapted.network.training
        (False, False)
    """

    network: nn.Module
    kept: bool
    score_before: float
    score_after: float
    agreement: float


def tent(
    network: nn.Module,
    images: Iterable[Tensor],
    *,
    steps: int = 20,
    learning_rate: float = 1e-3,
    parameters: Literal["norm", "all"] = "norm",
    recalibrate: bool = True,
    score: Score | None = None,
    min_agreement: float = 0.5,
) -> AdaptedNetwork:
    """Minimise the entropy of predictions over the scale and shift of normalisation layers.

    The given network is left untouched. Statistics of batch normalisation are set to those of the images first and then
    held, so that the result is an ordinary network in evaluation mode. It is rolled back where the label-free score
    drops, its labels agree with the original's less than ``min_agreement``, or a number stops being finite. No such
    score is a proof: certainty is what is minimised here, and a large learning rate buys certain nonsense. Wang et
    al., *Tent: Fully Test-Time Adaptation by Entropy Minimization*, ICLR 2021.

    Args:
        network: a trained segmentation network.
        images: preprocessed tensors ``(batch, channels, *spatial)`` that fit in memory (see :func:`random_patches`).
        steps: optimizer steps, one image each, in turn.
        learning_rate: of Adam.
        parameters: ``"norm"``, or ``"all"`` for networks whose normalisation has no scale and shift.
        recalibrate: whether to set the statistics of batch normalisation first.
        score: label-free score; by default :func:`monai_transfer.losses.information_score`.
        min_agreement: least mean foreground Dice of the label maps before and after.

    Raises:
        UserError: there are no images, or nothing to adapt.
    """
    patches = listed(images)
    adapted = copy.deepcopy(network)
    if recalibrate and batch_norms(adapted):
        _recalibrate(adapted, patches)

    def entropy(image: Tensor) -> Tensor:
        return entropy_loss(adapted(image).float())

    minimise(entropy, adapted.eval(), patches, steps=steps, learning_rate=learning_rate, parameters=parameters)
    return judged(network, adapted, patches, score, min_agreement)


def recalibrate_norm(
    network: nn.Module, images: Iterable[Tensor], *, score: Score | None = None, min_agreement: float = 0.5
) -> AdaptedNetwork:
    """Replace the statistics of batch normalisation by those of the images (AdaBN), on a copy.

    Rolled back as in :func:`tent`. Li et al., *Revisiting Batch Normalization for Practical Domain Adaptation*, 2016.

    Args:
        network: a trained segmentation network.
        images: preprocessed tensors ``(batch, channels, *spatial)``.
        score: label-free score; by default :func:`monai_transfer.losses.information_score`.
        min_agreement: least mean foreground Dice of the label maps before and after.

    Raises:
        UserError: there are no images, or no batch normalisation.
    """
    patches = listed(images)
    adapted = copy.deepcopy(network)
    if not batch_norms(adapted):
        raise UserError(
            f"this {type(network).__name__} has no batch normalisation whose statistics could be replaced: choose tent"
        )
    _recalibrate(adapted, patches)
    return judged(network, adapted, patches, score, min_agreement)


def random_patches(images: Iterable[Tensor], roi_size: Sequence[int], *, count: int, seed: int) -> list[Tensor]:
    """Patches ``(1, channels, *roi_size)`` of images ``(channels, *spatial)``, in turn, at random places.

    An axis shorter than the patch is taken whole.
    """
    state = np.random.RandomState(seed)
    sources = list(images)
    patches = []
    for number in range(count if sources else 0):
        patch = sources[number % len(sources)]
        for axis, size in enumerate(roi_size, start=1):
            free = max(0, patch.shape[axis] - size)
            patch = patch.narrow(axis, int(state.randint(free + 1)), min(size, patch.shape[axis]))
        patches.append(patch[None])
    return patches


def listed(images: Iterable[Tensor]) -> list[Tensor]:
    """The images to adapt to.

    Raises:
        UserError: there are none.
    """
    patches = list(images)
    if not patches:
        raise UserError("there are no images to adapt to: give at least one")
    return patches


@torch.no_grad()
def _recalibrate(network: nn.Module, images: Sequence[Tensor]) -> None:
    layers = batch_norms(network)
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all images
        layer.train()
    for image in images:
        network(image)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


def minimise(
    loss: Callable[[Tensor], Tensor | None],
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    steps: int,
    learning_rate: float,
    parameters: Literal["norm", "all"],
) -> None:
    """Train a network on images in turn, one a step, by Adam.

    Args:
        loss: of the network on an image; ``None`` where that has nothing to teach.
        network: is changed: its weights, and which of them ask for gradients.
        images: ``(batch, channels, *spatial)``.
        steps: number of images.
        learning_rate: of Adam.
        parameters: ``"norm"`` for scale and shift of normalisation layers, or ``"all"``.

    Raises:
        UserError: the normalisation layers have neither scale nor shift.
    """
    optimizer = torch.optim.Adam(_trainable(network, parameters), learning_rate)
    for step in range(steps):
        found = loss(images[step % len(images)])
        if found is not None:
            optimizer.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _trainable(network: nn.Module, which: str) -> list[nn.Parameter]:
    network.requires_grad_(which == "all")
    layers = affine_norms(network) if which == "norm" else [network]
    chosen = [parameter for layer in layers for parameter in layer.parameters()]
    for parameter in chosen:
        parameter.requires_grad_()
    if not chosen:
        raise UserError(
            f"the normalisation layers of this {type(network).__name__} have no scale and shift: "
            'set parameters to "all"'
        )
    return chosen


@torch.no_grad()
def judged(
    original: nn.Module, adapted: nn.Module, images: Sequence[Tensor], score: Score | None, min_agreement: float
) -> AdaptedNetwork:
    """The adapted network, or a copy of the original where it looks worse without labels; see :func:`tent`."""
    # a copy, so that the caller's network keeps its mode
    before, adapted = copy.deepcopy(original).eval(), adapted.eval()
    flags = [p.requires_grad for p in original.parameters()]
    for parameter, flag in zip(adapted.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
    first, second, classes = [], [], 1
    for image in images:
        logits = before(image)
        classes = logits.shape[1]
        first.append(likeliest_class(logits, 1).flatten())
        second.append(likeliest_class(adapted(image), 1).flatten())
    agreement = float(label_agreement(torch.cat(first), torch.cat(second), classes))
    measure = score or _information
    was, now = measure(before, images), measure(adapted, images)
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in adapted.state_dict().values())
    kept = finite and now >= was and agreement >= min_agreement
    return AdaptedNetwork(adapted if kept else before, kept, was, now, agreement)


def _information(network: nn.Module, images: Sequence[Tensor]) -> float:
    samples = [voxel_samples(network(image).float().softmax(1), _SCORED_VOXELS) for image in images]
    return float(information_score(torch.cat(samples)))
