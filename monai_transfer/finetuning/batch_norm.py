"""What batch normalisation does while a pretrained network is trained on."""

from collections.abc import Iterable
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from monai_transfer.errors import UserError
from monai_transfer.networks.levels import bare, names_of, network_levels
from monai_transfer.options import Policy

POLICIES: tuple[Policy, ...] = ("train", "follow_freezing", "frozen_statistics", "frozen_affine")


class BatchNormPolicy:
    """Ignite handler that holds batch normalisation where a policy wants it.

    Trainers call ``network.train()`` in every iteration, which would undo an ``eval()`` done once; so this handler
    hooks the layers themselves, from the start of the training to its end.

    - ``train``: normalise with the batch and keep running statistics up to date, in frozen levels too.
    - ``follow_freezing``: layers of a level that is frozen at the moment keep their statistics and normalise with them.
    - ``frozen_statistics``: so do all layers; scale and shift train where their level does.
    - ``frozen_affine``: scale and shift are frozen as well, whatever unfreezes their level.

    Small batches make the batch's own statistics noisy; Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021.

    Args:
        policy: one of the above.
        levels: where it holds, as in :func:`network_levels` or ``encoder``; everywhere by default.

    Raises:
        UserError: the policy is unknown, or (when training starts) a level is.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        >>> trainer = Engine(lambda engine, image: network.train()(image).detach())
        >>> trainer.network = network
        >>> BatchNormPolicy("frozen_statistics").attach(trainer)
        >>> _ = trainer.run([torch.rand(2, 1, 4, 4)])
        >>> network[1].running_mean
        tensor([0., 0.])
    """

    def __init__(self, policy: Policy = "follow_freezing", *, levels: Iterable[str] | None = None) -> None:
        if policy not in POLICIES:
            raise UserError(f"There is no batch normalisation policy {policy!r}: use one of {', '.join(POLICIES)}.")
        self.policy = policy
        self.levels = None if levels is None else tuple(levels)
        self._layers: list[tuple[_BatchNorm, list[nn.Parameter]]] = []
        self._held: set[nn.Module] = set()
        self._hooks: list[RemovableHandle] = []

    def attach(self, engine: Engine) -> None:
        """Register with a trainer that has a ``network``."""
        engine.add_event_handler(Events.STARTED, self._hook)
        engine.add_event_handler(Events.ITERATION_STARTED, self._decide)
        engine.add_event_handler(Events.COMPLETED, self._unhook)

    def _hook(self, engine: Engine) -> None:
        self._unhook(engine)
        network = bare(engine.network)  # type: ignore[attr-defined]
        self._layers = _layers(network, self.levels)
        if self.policy != "train":
            self._hooks = [layer.register_forward_pre_hook(self._hold) for layer, _ in self._layers]
        self._decide(engine)

    def _decide(self, engine: Engine) -> None:
        if self.policy in ("frozen_statistics", "frozen_affine"):
            self._held = {layer for layer, _ in self._layers}
        elif self.policy == "follow_freezing":
            self._held = {
                layer for layer, level in self._layers if not any(parameter.requires_grad for parameter in level)
            }
        if self.policy == "frozen_affine":
            for layer, _ in self._layers:
                for parameter in layer.parameters():
                    parameter.requires_grad_(False)
                    parameter.grad = None

    def _hold(self, layer: nn.Module, inputs: Any) -> None:
        if layer in self._held:
            layer.training = False

    def _unhook(self, engine: Engine) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _layers(network: nn.Module, levels: Iterable[str] | None) -> list[tuple[_BatchNorm, list[nn.Parameter]]]:
    """Batch normalisation layers of ``levels``, each with all parameters of its level."""
    known = network_levels(network)
    chosen = names_of(network, known if levels is None else levels)
    parameters = dict(network.named_parameters())
    level_of = {name: level for level, names in known.items() for name in names}
    members = {level: [parameters[name] for name in names if name in parameters] for level, names in known.items()}
    found = []
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            tensor = next((f"{name}.{key}" for key in module.state_dict() if f"{name}.{key}" in chosen), None)
            if tensor:
                found.append((module, members[level_of[tensor]]))
    return found
