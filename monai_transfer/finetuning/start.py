r"""A network that starts from pretrained weights, ready to learn on: its kernels as long as fresh ones.

A kernel :math:`w` that a normalisation follows may be multiplied by any number: the output stays the same, and the
gradient is divided by that number. Training lengthens such kernels step by step, and an optimizer that moves each value
by about its learning rate :math:`\eta` in a step, as Adam does, turns a kernel by about :math:`\eta / \lVert w \rVert`.
So a network that was trained for long learns anew several times more slowly than a fresh one *at the same learning
rate*. See van Laarhoven, *L2 Regularization versus Batch and Weight Normalization*, 2017; Hoffer et al., *Norm
Matters*, NeurIPS 2018.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from monai_transfer.finetuning.freezing import freeze
from monai_transfer.networks.levels import bare
from monai_transfer.weights import LoadReport, load_pretrained

_NORMALISATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def start_from(
    network: nn.Module,
    weights: str,
    *,
    frozen: Collection[str] = (),
    restore: bool = True,
    label_names: Mapping[int, str] | None = None,
    **rules: Any,
) -> LoadReport | None:
    """Load weights, freeze levels, and bring the other kernels to the length of fresh ones.

    Args:
        network: with fresh values.
        weights: a SPEC as :func:`~monai_transfer.weights.load_pretrained` takes it; empty keeps the fresh values.
        frozen: levels that never train, as :func:`~monai_transfer.finetuning.freeze` takes them.
        restore: whether to change lengths, see :func:`~monai_transfer.finetuning.restore_lengths`.
        label_names: class names of the network by index.
        rules: further arguments of ``load_pretrained``.

    Returns:
        What was loaded; ``None`` without weights.

    Raises:
        UserError: the weights do not fit, or the network has no such level.

    Example:
        >>> network = nn.Conv2d(1, 1, 1)
        >>> start_from(network, "") is None
        True
    """
    if not weights:
        if frozen:
            freeze(network, frozen)
        return None
    lengths = kernel_lengths(network)
    report = load_pretrained(network, weights, label_names=label_names, **rules)
    # before the lengths: what is frozen stays bitwise as it was loaded
    freeze(network, frozen)
    if restore:
        restore_lengths(network, lengths)
    return report


def kernel_lengths(network: nn.Module) -> dict[str, float]:
    """The Euclidean length of each convolution's kernel that a normalisation follows, by the convolution's name.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.InstanceNorm2d(1), nn.Conv2d(1, 1, 1))
        >>> _ = nn.init.constant_(network[0].weight, 3.0)
        >>> kernel_lengths(network)
        {'0': 3.0}
    """
    return {name: float(kernel.weight.detach().norm()) for name, kernel, _ in _normalised(network)}


def restore_lengths(network: nn.Module, lengths: Mapping[str, float]) -> dict[str, float]:
    """Scale kernels, and what belongs to them, to ``lengths``; the network's output stays the same.

    Frozen kernels and those that are not longer than that stay as they are.

    Args:
        network: a network with pretrained values.
        lengths: of the fresh network, from :func:`kernel_lengths`.

    Returns:
        The factors, by the convolution's name.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.InstanceNorm2d(1))
        >>> _ = nn.init.constant_(network[0].weight, 3.0)
        >>> restore_lengths(network, {"0": 1.5}), network[0].weight.item()
        ({'0': 0.5}, 1.5)
    """
    factors = {}
    with torch.no_grad():
        for name, convolution, normalisation in _normalised(network):
            length = float(convolution.weight.norm())
            # a shorter kernel already turns faster than a fresh one; lengthening it would only take that away
            if not convolution.weight.requires_grad or length <= lengths.get(name, length):
                continue
            factor = factors[name] = lengths[name] / length
            for tensor in convolution.parameters(recurse=False):  # its bias, and what else it adds to its output
                tensor.mul_(factor)
            if isinstance(normalisation, _BatchNorm) and normalisation.running_mean is not None:
                # running statistics are those of the convolution's output, which is scaled too
                normalisation.running_mean.mul_(factor)
                normalisation.running_var.mul_(factor**2)  # type: ignore[union-attr]
    return factors


def _normalised(network: nn.Module) -> Iterator[tuple[str, _ConvNd, nn.Module]]:
    """Convolutions whose next neighbour in the same module is, or begins with, a normalisation of their channels.

    Only neighbours: what lies further apart may be added to or concatenated with something in between.
    """
    for path, parent in bare(network).named_modules():
        children = list(parent.named_children())
        for (name, child), (_, following) in pairwise(children):
            if isinstance(child, _ConvNd):
                first = next((part for part in following.modules() if not list(part.children())), None)
                if isinstance(first, _NORMALISATIONS) and _channels(first) in (None, child.out_channels):
                    yield f"{path}.{name}".lstrip("."), child, first


def _channels(normalisation: nn.Module) -> int | None:
    count = getattr(normalisation, "num_features", getattr(normalisation, "num_channels", None))
    return None if count is None else int(count)
