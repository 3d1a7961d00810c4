"""A network that starts from pretrained weights, ready to learn on."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from monai_transfer.finetuning.freezing import freeze
from monai_transfer.finetuning.kernel_lengths import kernel_lengths, restore_lengths
from monai_transfer.weights import LoadReport, load_pretrained


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
