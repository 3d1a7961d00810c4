"""What an adaptation method is: the losses of one training step, by name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from monai_transfer.errors import UserError

SOURCE = 0
"""Domain label of the source, which is labelled."""

TARGET = 1
"""Domain label of the target, which is to be adapted to."""


Batch = Mapping[str, Mapping[str, Tensor]]
"""Domain name -> ``{"image", "label", "weak"}``; ``label`` only where the domain is labelled, ``weak`` (the same
view of the image before strong intensity augmentation) only where the transforms keep it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Outputs:
    """What the network gave for one domain in one step.

    Attributes:
        logits: ``(batch, classes, *spatial)``, before any activation.
        features: the tapped tensors, each ``(batch, channels, *spatial)``, from fine to coarse;
            empty unless some method has ``needs_features``.

    Example:
        >>> import torch
        >>> outputs = Outputs(torch.zeros(2, 3, 8, 8))
        >>> outputs.logits.shape, outputs.features
        (torch.Size([2, 3, 8, 8]), ())
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()


class AdaptationMethod(nn.Module, ABC):
    """Turns the outputs of one training step into named losses, already weighted.

    The trainer runs each domain forward once, adds the supervised loss of every labelled domain, calls
    :meth:`losses`, and takes the one optimizer step. A method is a module, so its discriminators and teachers
    follow device and checkpoint; it has no schedule of its own (see :class:`monai_transfer.engines.StrengthSchedule`).

    Example:
        >>> import torch
        >>> class Shrink(AdaptationMethod):
        ...     def losses(self, outputs, batch):
        ...         return {"shrink": self.scaled(outputs["target"].logits.square().mean())}
        >>> method = Shrink(weight=0.5)
        >>> method.set_strength(0.5)
        >>> method.losses({"target": Outputs(torch.ones(1, 2, 4, 4))}, {})
        {'shrink': tensor(0.2500)}
    """

    usual_weight: float = 1.0
    """Weight of the losses at full strength, where none is given."""

    needs_target: bool = True
    """Whether the target domain has to be run forward."""

    needs_target_gradient: bool = True
    """Whether a loss may be made of the target's outputs; not so where its forward pass is all that matters."""

    needs_features: bool = False
    """Whether the encoder's features have to be tapped."""

    rests_at_zero: bool = False
    """Whether a step at strength 0 can do without this method, so that the target is not run for its sake.
    Not so where something is learnt before the network is touched (a discriminator, running statistics)."""

    def __init__(self, weight: float | None = None, waits_for: Sized | None = None) -> None:
        """Weight of this method's losses at full strength, by default its usual one, and what it rests without."""
        super().__init__()
        self.waits_for = waits_for
        self.weight = self.usual_weight if weight is None else weight
        self.strength = 1.0

    def set_strength(self, value: float) -> None:
        """Set the share of the full strength, in ``[0, 1]``, that applies from now on."""
        self.strength = value

    @property
    def waiting(self) -> bool:
        """Whether what this method waits for has not come yet."""
        return self.waits_for is not None and not len(self.waits_for)

    @property
    def resting(self) -> bool:
        """Whether the present step can do without this method."""
        return self.waiting or (self.rests_at_zero and self.strength == 0)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times ``weight`` and ``strength``; a constant 0 where that is 0, so that no gradient is touched."""
        factor = self.weight * self.strength
        return loss.new_zeros(()) if factor == 0 else factor * loss

    def prepare(self, network: nn.Module) -> None:
        """Look at the network once before training starts (a teacher copies it)."""

    def forward_context(self, network: nn.Module, domain: str) -> AbstractContextManager[None]:
        """What surrounds one domain's forward pass (normalisation that differs by domain); nothing by default."""
        return nullcontext()

    @abstractmethod
    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name, each already times ``weight`` and ``strength``.

        Args:
            outputs: domain name -> what the network gave for it.
            batch: domain name -> the tensors that went in.
        """

    def after_step(self, network: nn.Module) -> None:
        """React to the optimizer's step (a moving average of the weights)."""


def is_target(name: str) -> bool:
    """Whether a domain's name marks it as the target: ``"target"``, ``"target_labelled"``, …."""
    return name.startswith("target")


def of_sources(domains: Mapping[str, T]) -> list[T]:
    """What belongs to the sources, in order.

    Raises:
        UserError: there is none.
    """
    found = [value for name, value in domains.items() if not is_target(name)]
    if not found:
        raise UserError("this adaptation method compares source and target: give it a source domain too")
    return found


def of_target(domains: Mapping[str, T]) -> list[T]:
    """What belongs to the target, in order.

    Raises:
        UserError: there is none.
    """
    found = [value for name, value in domains.items() if is_target(name)]
    if not found:
        raise UserError('this adaptation method needs the target: give the trainer a domain named "target"')
    return found
