"""One optimizer group per level of the network, with a learning rate that falls from the head to the stem."""

from typing import Any

from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.networks.levels import DECODER, HEAD, bare, network_levels


def parameter_groups(
    network: nn.Module,
    *,
    learning_rate: float,
    layerwise_decay: float = 1.0,
    head_factor: float = 1.0,
    weight_decay: float | None = None,
    norm_weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    r"""Sort the parameters of ``network`` into named groups for an optimizer.

    The decoder trains at ``learning_rate``, the head at ``head_factor`` times it, and the encoder level that is
    :math:`k` steps above the decoder at :math:`\eta\, d^{k}` with :math:`d` = ``layerwise_decay``. Frozen parameters
    are in their group too, so unfreezing needs no new optimizer.

    In a bundle: ``"params": "$monai_transfer.finetuning.parameter_groups(@network, learning_rate=1e-3,
    layerwise_decay=0.7)"``.

    Howard and Ruder, "Universal language model fine-tuning for text classification", ACL 2018 (discriminative rates).

    Args:
        network: the network.
        learning_rate: of the decoder.
        layerwise_decay: factor from level to level towards the input, in (0, 1].
        head_factor: how much faster the head trains.
        weight_decay: of every group; the optimizer's own where None.
        norm_weight_decay: of biases and normalisation, which then are groups ``LEVEL.norm`` of their own.

    Returns:
        Dictionaries with ``params``, ``lr`` and ``name``, from the stem to the head.

    Raises:
        UserError: a rate or factor is out of range.
    """
    if learning_rate <= 0 or not 0 < layerwise_decay <= 1 or head_factor <= 0:
        raise UserError(
            f"learning_rate ({learning_rate}) and head_factor ({head_factor}) must be positive and layerwise_decay "
            f"({layerwise_decay}) in (0, 1]."
        )
    parameters = dict(bare(network).named_parameters())
    levels = {level: [name for name in names if name in parameters] for level, names in network_levels(network).items()}
    encoder = [level for level in levels if level not in (DECODER, HEAD)]
    groups: list[dict[str, Any]] = []
    for level, names in levels.items():
        rate = learning_rate * (head_factor if level == HEAD else 1.0)
        if level in encoder and len(levels) > 1:
            rate *= layerwise_decay ** (len(encoder) - encoder.index(level))
        kernels = [name for name in names if parameters[name].ndim > 1 or norm_weight_decay is None]
        others = [name for name in names if name not in kernels]
        for name, members, decay in ((level, kernels, weight_decay), (f"{level}.norm", others, norm_weight_decay)):
            if members:
                group = {"params": [parameters[member] for member in members], "lr": rate, "name": name}
                groups.append(group if decay is None else {**group, "weight_decay": decay})
    return groups
