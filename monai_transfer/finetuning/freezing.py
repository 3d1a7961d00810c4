"""Freeze levels of a network, so that training leaves them bitwise as they are."""

from collections.abc import Iterable

from torch import nn

from monai_transfer.networks.levels import bare, names_of, network_levels


def freeze(network: nn.Module, levels: Iterable[str]) -> list[str]:
    """Stop the training of the given levels.

    Their gradients are dropped, so an optimizer that holds them changes nothing, weight decay and momentum included.
    Running statistics of batch normalisation are not parameters: give :class:`BatchNormPolicy` to the trainer as well.

    Args:
        network: the network.
        levels: names as in :func:`network_levels`, or ``encoder`` for all of its levels.

    Returns:
        Names of the frozen parameters.

    Raises:
        UserError: the network has no such level.
    """
    return _set_trainable(network, levels, trainable=False)


def unfreeze(network: nn.Module, levels: Iterable[str]) -> list[str]:
    """Train the given levels again; returns the names of their parameters.

    Raises:
        UserError: the network has no such level.
    """
    return _set_trainable(network, levels, trainable=True)


def trainable_levels(network: nn.Module) -> dict[str, bool]:
    """Say for each level of ``network`` whether any of its parameters trains."""
    parameters = dict(bare(network).named_parameters())
    return {
        level: any(parameters[name].requires_grad for name in names if name in parameters)
        for level, names in network_levels(network).items()
    }


def _set_trainable(network: nn.Module, levels: Iterable[str], *, trainable: bool) -> list[str]:
    chosen = names_of(network, levels)
    changed = []
    for name, parameter in bare(network).named_parameters():
        if name in chosen:
            parameter.requires_grad_(trainable)
            # with a gradient of zeros the optimizer would still decay it and follow its momentum
            parameter.grad = None if not trainable else parameter.grad
            changed.append(name)
    return changed
