"""How a fine-tuning goes: what is frozen, when it is freed, and what holds the weights back."""

from dataclasses import asdict, replace
from typing import Annotated, Any, Self

from pydantic import Field

from monai_transfer.errors import UserError
from monai_transfer.options import Policy, Share, validated

PLATEAU = "plateau"

L2SP_OF_KNOWN_LABELS = 0.01
"""Strength of L2-SP for weights that segment every label of the data already, as a source-only or an adapted network
does: with one labelled case they would forget more than they learn. Of 0, 0.01, 0.03 and 0.1 on four sets this lost
nowhere more than 0.012 Dice; the stronger ones hold back what has far to go (docs/finetuning.md)."""

Epochs = Annotated[int, Field(title="--unfreeze", ge=1, le=1_000_000)]
Patience = Annotated[int, Field(title="--early-stop", ge=1, le=1_000_000)]
# a penalty so strong that one step of gradient descent overshoots the value it pulls to
Penalty = Annotated[float, Field(ge=0, le=1e6)]


@validated
class Strategy:
    """Values of ``configs/finetune.json``.

    Attributes:
        frozen: levels that never train: ``encoder``, ``stem``, ``level1``, ….
        unfreeze_epochs: free a level every so many epochs, or at the start of these epochs.
        unfreeze_patience: free a level after so many validations without a gain.
        batch_norm: policy of batch normalisation.
        restore_lengths: whether pretrained kernels are brought to the length of fresh ones, so that they learn as fast.
        layerwise_decay: factor of the learning rate from level to level towards the input.
        head_factor: how much faster the head trains than the decoder.
        weight_decay: L2 towards zero (decoupled, AdamW).
        l2sp: strength of L2-SP towards the pretrained values; ``None`` is 0.01 for weights that segment every
            label already, and 0 for others.
        l2sp_others: its strength towards zero for what was not pretrained.
        dropout: share of decoder features dropped in training.
        early_stop_patience: validations without a gain after which training stops.
        minimum_share: share of the encoder that the weights must cover.
    """

    frozen: tuple[Annotated[str, Field(title="--freeze")], ...] = ()
    unfreeze_epochs: Epochs | tuple[Epochs, ...] | None = None
    unfreeze_patience: Epochs | None = None
    batch_norm: Policy = "follow_freezing"
    restore_lengths: bool = True
    layerwise_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    head_factor: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    weight_decay: Penalty = 1e-4
    l2sp: Penalty | None = None
    l2sp_others: Penalty = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stop_patience: Patience | None = None
    minimum_share: Share = 0.9

    @property
    def watches_validation(self) -> bool:
        """Whether the validation score decides anything, so that its cases must not be the test's."""
        return self.unfreeze_patience is not None or self.early_stop_patience is not None

    def unfreezing(self, text: str | None) -> Self:
        """The strategy with what ``--unfreeze`` says: ``3`` (every), ``2,4,8`` (at), ``plateau:2``, or both by comma.

        Raises:
            UserError: the text says none of these.
        """
        if not text:
            return self
        parts = [part.strip() for part in text.split(",") if part.strip()]
        patience = [part.partition(":")[2] or "1" for part in parts if part.startswith(PLATEAU)]
        epochs = [part for part in parts if not part.startswith(PLATEAU)]
        if len(patience) > 1 or not all(number.isdigit() and int(number) > 0 for number in (*patience, *epochs)):
            raise UserError(
                f"--unfreeze {text} is not possible: give epochs between levels (3), epochs (2,4,8) or plateau:2."
            )
        numbers = tuple(int(number) for number in epochs)
        return replace(
            self,
            unfreeze_epochs=numbers[0] if len(numbers) == 1 else numbers or None,
            unfreeze_patience=int(patience[0]) if patience else None,
        )

    def holding(self, *, known: bool) -> Self:
        """The strategy with its strength of L2-SP.

        Args:
            known: whether the weights segment every label of the data already.

        Example:
            >>> Strategy().holding(known=True).l2sp, Strategy(l2sp=0.1).holding(known=False).l2sp
            (0.01, 0.1)
        """
        usual = L2SP_OF_KNOWN_LABELS if known else 0.0
        return self if self.l2sp is not None else replace(self, l2sp=usual)

    def as_config(self) -> dict[str, Any]:
        """Ids and values for ``configs/finetune.json``; dropout is part of the network's definition."""
        content = asdict(self)
        content["l2sp"] = self.l2sp or 0.0
        content.pop("dropout")
        content["frozen"] = list(self.frozen)
        if isinstance(self.unfreeze_epochs, tuple):
            content["unfreeze_epochs"] = list(self.unfreeze_epochs)
        if self.early_stop_patience is None:
            content.pop("early_stop_patience")
        return content

    def describe(self) -> str:
        """The strategy in words."""
        words = [f"frozen: {', '.join(self.frozen)}"] if self.frozen else []
        if self.unfreeze_epochs is not None:
            when = self.unfreeze_epochs
            words.append(f"a level freed every {when} epochs" if isinstance(when, int) else f"freed at epochs {when}")
        if self.unfreeze_patience is not None:
            words.append(f"a level freed after {self.unfreeze_patience} validations without a gain")
        words.append(f"batch normalisation: {self.batch_norm.replace('_', ' ')}")
        if not self.restore_lengths:
            words.append("kernels as long as the file's")
        numbers = {
            "layer-wise decay": (self.layerwise_decay, 1.0),
            "head factor": (self.head_factor, 1.0),
            "L2-SP": (self.l2sp or 0.0, 0.0),
            "dropout": (self.dropout, 0.0),
            "weight decay": (self.weight_decay, None),
        }
        words += [f"{name} {value:g}" for name, (value, default) in numbers.items() if value != default]
        if self.early_stop_patience is not None:
            words.append(f"stops after {self.early_stop_patience} validations without a gain")
        return "; ".join(words)
