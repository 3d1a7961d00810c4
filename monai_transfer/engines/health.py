"""The health of a training: no step that would ruin the network is taken, and one that unlearns a class is undone."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.optim import Optimizer

from monai_transfer.adaptation.method import is_target
from monai_transfer.errors import UserError
from monai_transfer.processes import average_figures
from monai_transfer.text import one_line
from monai_transfer.transforms.target import likeliest_class

logger = logging.getLogger(__name__)

_REMEDY = "lower the learning rate, or look for extreme intensities with `monai-transfer check`"

_LEARNT = 0.2
"""Dice on the source's windows from which a class counts as learnt; noise of an untrained network is far below it."""

_FOUND = 0.1
"""Share of its voxels in the source from which a class counts as found in the target, which may have less of it."""

_LOST = 0.01
"""Share of what was usual below which a class of the target is lost; healthy classes vary by a factor of 2 or 3."""

_SOUND = 0.5
"""Share of what was usual above which all known classes of a state worth going back to are."""

_MOMENTA = {"exp_avg", "momentum_buffer"}
"""What torch's optimizers call the direction of the last steps."""


def require_finite_loss(total: Tensor, losses: Mapping[str, Tensor], *, step: int, batch: Mapping[str, Any]) -> None:
    """See that the loss of a step is a number.

    Args:
        total: the sum, a scalar.
        losses: its terms by name.
        step: number of the step, for the sentence.
        batch: domain -> what it was made of.

    Raises:
        UserError: it is not; the sentence names the terms and the cases.
    """
    if not bool(torch.isfinite(total)):
        guilty = ", ".join(name for name, value in losses.items() if not bool(torch.isfinite(value)))
        raise UserError(f"The loss is not finite at step {step} ({guilty or 'sum'}){_of_cases(batch)}: {_REMEDY}.")


def require_finite_gradient(norm: Tensor, *, step: int, batch: Mapping[str, Any]) -> None:
    """See that the gradient of a step is a number: the norm of a gradient with one value that is none is none.

    Args:
        norm: of the network's gradient, a scalar.
        step: number of the step, for the sentence.
        batch: domain -> what it was made of.

    Raises:
        UserError: it is not; the sentence names the cases.
    """
    if not bool(torch.isfinite(norm)):
        raise UserError(f"The gradient is not finite at step {step}{_of_cases(batch)}: {_REMEDY}.")


def names_in(batch: Mapping[str, Any]) -> list[str]:
    """File names of the images of a batch, domain by domain; those of plain tensors are not known.

    Example:
        >>> image = MetaTensor(torch.zeros(1, 1, 4, 4), meta={"filename_or_obj": ["/data/ct_001.nii.gz"]})
        >>> names_in({"source": {"image": image}})
        ['ct_001.nii.gz']
    """
    found: list[str] = []
    for tensors in batch.values():
        image = tensors.get(Keys.IMAGE)
        files = image.meta.get("filename_or_obj", []) if isinstance(image, MetaTensor) else []
        found += [Path(str(file)).name for file in ([files] if isinstance(files, str | Path) else files)]
    return list(dict.fromkeys(found))


def _of_cases(batch: Mapping[str, Any]) -> str:
    names = names_in(batch)
    return f" for {', '.join(names)}" if names else ""


class CollapseGuard:
    """Watches which classes the network finds in the target, and takes an adaptation back that unlearns one.

    A class is known once it was learnt in the source and found in the target through ``patience`` epochs. It is lost
    when through as many epochs the target has hardly a voxel of it. Where all known classes but one are being lost, one
    class is everywhere. The weights of the last epoch with enough of every class then come back (network, optimizer,
    loss, methods and ``parts``), every method's weight is halved, and the remaining steps go on from there; this once.
    Another collapse is told and left: a second step back would only hide that the method does not suit the data.

    What is predicted is seen in the steps themselves, so that nothing is run for it, and only while some method runs
    the target: without one there is nothing to take back. The state to go back to is held in main memory.

    Args:
        parts: further objects with ``state_dict`` and ``load_state_dict`` by name, such as the averaged network.
        labels: names of the classes, by number or its text.
        patience: epochs after which a class is known, and after which it is lost.

    Attributes:
        halved: whether the adaptation was taken back.

    Example:
        >>> from monai_transfer.engines import AdaptationTrainer
        >>> network = nn.Conv2d(1, 2, 1)
        >>> guard = CollapseGuard(labels={"0": "background", "1": "liver"})
        >>> batch = {"source": {"image": torch.ones(1, 1, 4, 4), "label": torch.zeros(1, 4, 4, dtype=torch.long)}}
        >>> AdaptationTrainer(
        ...     "cpu", 1, [batch], network, torch.optim.SGD(network.parameters(), 0.1), nn.CrossEntropyLoss(),
        ...     train_handlers=[guard],
        ... ).run()
        >>> guard.halved
        False
    """

    def __init__(
        self, *, parts: Mapping[str, Any] | None = None, labels: Mapping[Any, str] | None = None, patience: int = 4
    ) -> None:
        self.parts = {name: part for name, part in (parts or {}).items() if part is not None}
        self.labels = {int(number): name for number, name in (labels or {}).items()}
        self.patience = patience
        self.halved = False
        self._methods: list[Any] = []
        self._counts: dict[str, Tensor] = {}
        self._is_sound = True
        # per class: epochs for which it was found, its usual share in the target, epochs for which it is lost
        self._found = self._usual = self._lost = torch.zeros(0)
        self._sound: dict[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Count at each step of the trainer ``engine``, and decide at the end of each epoch."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._decide)

    def state_dict(self) -> dict[str, Any]:
        """What is known and lost; the state to go back to only where it is not the present one."""
        sound = None if self._is_sound else self._sound
        known = {"found": self._found, "usual": self._usual, "lost": self._lost}
        return {"halved": self.halved, "sound": sound, **{name: tensor.clone() for name, tensor in known.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`, in a training whose methods have their full weights."""
        self._found, self._usual, self._lost = (state[name].clone() for name in ("found", "usual", "lost"))
        self._sound = state["sound"]
        self.halved = bool(state["halved"])

    def _start(self, engine: Any) -> None:
        self._methods = list(engine.methods)
        if self.halved:
            self._halve()
        # a training that goes on has its weights by now
        if self._sound is None and self._known.any():
            self._sound = self._states(engine)

    def _count(self, engine: Any) -> None:
        predicted = engine.state.output[Keys.PRED]
        if not any(is_target(domain) for domain in predicted):
            return
        for domain, logits in predicted.items():
            classes = likeliest_class(_thinned(logits), 1).flatten()
            if is_target(domain):
                self._add("target", classes, logits.shape[1])
            elif Keys.LABEL in engine.state.batch[domain]:
                label = _thinned(engine.state.batch[domain][Keys.LABEL].as_subclass(Tensor)).to(classes).flatten()
                self._add("source", classes, logits.shape[1])
                self._add("labelled", label[(label >= 0) & (label < logits.shape[1])], logits.shape[1])
                self._add("right", classes[classes == label], logits.shape[1])

    def _add(self, kind: str, classes: Tensor, number: int) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + torch.bincount(classes, minlength=number).cpu().double()

    def _decide(self, engine: Any) -> None:
        if not {"source", "target"} <= set(self._counts):
            return
        counts, self._counts = average_figures(self._counts), {}
        dice = 2 * counts["right"] / (counts["source"] + counts["labelled"]).clamp_min(1)
        shares = [counts[domain] / counts[domain].sum() for domain in ("source", "target")]
        self._note(dice >= _LEARNT, *shares)
        gone = self._lost >= self.patience
        if gone.any():
            self._react(engine, gone)
        elif self._sound is None or self._is_sound:
            self._sound = self._states(engine) if self._known.any() else None

    @property
    def _known(self) -> Tensor:
        return self._found >= self.patience

    def _note(self, learnt: Tensor, source: Tensor, target: Tensor) -> None:
        """Take what an epoch showed of each class: whether it is learnt, and its share of the voxels by domain."""
        if not len(self._found):
            self._found, self._lost, self._usual = (torch.zeros_like(target) for _ in range(3))
        lost = self._known & (target < _LOST * self._usual)
        self._lost = torch.where(lost, self._lost + 1, 0.0)
        self._is_sound = not bool((self._known & (target < _SOUND * self._usual)).any())
        found = learnt & (target > 0) & (target >= _FOUND * source)
        self._found = torch.where(found, self._found + 1, torch.where(self._known, self._found, 0.0))
        # a running mean; of a class that is lost it stays what it was
        mean = self._usual + (target - self._usual) / self._found.clamp_min(1)
        self._usual = torch.where(found & ~lost, mean, self._usual)

    def _react(self, engine: Any, gone: Tensor) -> None:
        told = self._sentence(gone, engine.state.iteration)
        self._lost = torch.zeros_like(self._lost)
        if self.halved or self._sound is None:
            # it is told once more only if it comes back first
            self._found[gone] = 0
            logger.warning("%s The training goes on as it is; try another --method.", told)
            return
        self._go_back(engine)
        self._halve()
        self.halved = True
        logger.warning("%s The last weights that had all classes are taken, and the methods' weights halved.", told)

    def _sentence(self, gone: Tensor, step: int) -> str:
        names = [one_line(self.labels.get(number, f"class {number}")) for number in gone.nonzero().flatten().tolist()]
        if int((self._lost > 0).sum()) >= int(self._known.sum()) - 1 > 0:
            return f"The adaptation collapsed by step {step}: one class is everywhere in the target."
        return f"The adaptation lost {', '.join(names)} in the target by step {step}."

    def _halve(self) -> None:
        for method in self._methods:
            method.weight *= 0.5

    def _objects(self, engine: Any) -> dict[str, Any]:
        found = {name: getattr(engine, name, None) for name in ("network", "optimizer", "loss_function", "scaler")}
        found |= {f"methods/{number}": method for number, method in enumerate(self._methods)} | self.parts
        return {name: part for name, part in found.items() if hasattr(part, "state_dict")}

    def _states(self, engine: Any) -> dict[str, Any]:
        # other parts, such as the target's labels, replace their tensors and never change them
        return {
            name: _copied(part.state_dict()) if isinstance(part, nn.Module | Optimizer) else part.state_dict()
            for name, part in self._objects(engine).items()
        }

    def _go_back(self, engine: Any) -> None:
        rates = [group["lr"] for group in engine.optimizer.param_groups]
        for name, part in self._objects(engine).items():
            part.load_state_dict((self._sound or {})[name])
        # the way into the collapse had begun by then: what the optimizer remembers of it would be gone again
        for memory in engine.optimizer.state.values():
            for name in _MOMENTA & memory.keys():
                memory[name].zero_()
        # the schedule goes on: its rate belongs to the step and not to the weights
        for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def _thinned(tensor: Tensor) -> Tensor:
    """Every other voxel along each axis: shares are as good, and a step on a CPU is not a tenth longer."""
    return tensor[(slice(None), slice(None), *[slice(None, None, 2)] * (tensor.ndim - 2))]


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {name: _copied(part) for name, part in state.items()}
    return [_copied(part) for part in state] if isinstance(state, list | tuple) else state
