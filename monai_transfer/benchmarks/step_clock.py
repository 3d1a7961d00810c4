"""Times the steps of a trainer beside the passes of the networks that they need."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import Any, Literal

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from monai_transfer.networks import feature_layers, mixed_precision, tap

WARM_UP = 2
"""Steps that are not measured."""


class StepClock:
    """Times each step of a trainer and, right after it, the same passes on copies of the network and discriminators.

    Args:
        trained: the network.
        batch: the batch of every step.
        loss: the supervised loss.
        device: where.
        discriminators: networks that are trained beside it.
        amp: run the passes in mixed precision, as the trainer does.
    """

    def __init__(
        self,
        trained: nn.Module,
        batch: Any,
        loss: nn.Module,
        *,
        device: torch.device,
        discriminators: Sequence[nn.Module] = (),
        amp: bool = False,
    ) -> None:
        network = copy.deepcopy(trained)
        self.device = device
        self._precision: Callable[[], AbstractContextManager[None]]
        self._precision = partial(mixed_precision, device) if amp else nullcontext
        self.network, self.batch, self.loss = network, batch, loss
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        self.needs: list[_Pass] = []
        self.verdicts: list[_Verdict] = []
        self._features = feature_layers(network)
        self.times: list[tuple[float, float, float]] = []
        self._begun = 0.0
        self._counting = _observed(trained)
        self._judging = _judged(discriminators)

    def attach(self, trainer: Engine) -> None:
        """After all other handlers, so that their work counts as the step's."""
        trainer.add_event_handler(Events.ITERATION_STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stop)

    def result(self) -> dict[str, Any]:
        """Medians over the measured steps."""
        steps, bare, loop = (median(column) for column in zip(*self.times, strict=True))
        return {
            "overhead": median(step / passes for step, passes, _ in self.times),
            "overhead_of_loop": median(step / plain for step, _, plain in self.times),
            "seconds": {"step": steps, "bare": bare, "loop": loop},
            "passes": [need.backward for need in self.needs],
            "discriminator_passes": len(self.verdicts),
        }

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == WARM_UP:  # the strength is at its full height now
            self.needs, self.verdicts = self._counting.__enter__(), self._judging.__enter__()
        self._begun = self._now()

    def _stop(self, engine: Engine) -> None:
        step = self._now() - self._begun
        if engine.state.iteration == WARM_UP:
            self._counting.__exit__(None, None, None)
            self._judging.__exit__(None, None, None)
        if engine.state.iteration >= WARM_UP:
            times = (step, self._passes(plain=False), self._passes(plain=True))
            if engine.state.iteration > WARM_UP:
                self.times.append(times)

    def _passes(self, *, plain: bool) -> float:
        """Seconds of the passes: alone, or as a plain training loop with supervised loss and optimizer."""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        for verdict in self.verdicts:
            verdict.forget()
        begun = self._now()
        sums = [total for number, need in enumerate(self.needs) for total in self._forward(number, need, plain=plain)]
        sums += [verdict.discriminator(verdict.seen).sum() for verdict in self.verdicts]
        torch.autograd.backward(torch.stack(sums).sum())
        if plain:
            self.optimizer.step()
        return self._now() - begun

    def _forward(self, number: int, need: "_Pass", *, plain: bool) -> list[Tensor]:
        """One forward pass; what its backward pass starts from."""
        domain = self.batch["source" if number == 0 else "target"]
        with torch.set_grad_enabled(need.recorded), tap(self.network, self._features) as features, self._precision():
            logits = self.network(domain["image"])
        if plain and number == 0:
            return [self.loss(logits.float(), domain["label"])]
        if need.backward == "features":
            return [feature.sum() for feature in features]
        return [logits.sum()] if need.backward == "logits" else []

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        # of a CPU the processor's time, of all threads: other work on a shared machine is not the step's
        return process_time() if self.device.type == "cpu" else perf_counter()


@dataclass
class _Pass:
    """One forward pass of a step, and where its backward pass starts.

    Attributes:
        recorded: whether gradients were recorded.
        backward: ``"logits"``; ``"features"`` where only the encoder gets a gradient; ``"none"``.
    """

    recorded: bool
    backward: Literal["logits", "features", "none"] = "none"

    def reached(self, start: Literal["logits", "features"]) -> None:
        """A gradient came to ``start``."""
        if self.backward != "logits":
            self.backward = start


@dataclass
class _Verdict:
    """One forward pass of a discriminator, whose backward pass starts at its logits.

    Attributes:
        discriminator: a copy of it.
        seen: something of the same shape as its input, with a gradient if that had one.
    """

    discriminator: nn.Module
    seen: Tensor

    def forget(self) -> None:
        """Forgets the gradients of an earlier pass."""
        self.discriminator.zero_grad(set_to_none=True)
        self.seen.grad = None


@contextmanager
def _judged(discriminators: Sequence[nn.Module]) -> Iterator[list[_Verdict]]:
    """Collects the passes of the discriminators."""
    copies = {discriminator: copy.deepcopy(discriminator) for discriminator in discriminators}
    verdicts: list[_Verdict] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _output: Any) -> None:
        seen = torch.randn_like(inputs[0]).requires_grad_(inputs[0].requires_grad)
        verdicts.append(_Verdict(copies[module], seen))

    handles = [discriminator.register_forward_hook(note) for discriminator in copies]
    try:
        yield verdicts
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _observed(network: nn.Module) -> Iterator[list[_Pass]]:
    """Collects the passes of ``network`` and of its copies (a teacher), and how far back their gradients start."""
    passes: list[_Pass] = []
    encoder = {network.get_submodule(layer) for layer in feature_layers(network)}
    waiting: list[Tensor] = []

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if module in encoder:
            waiting.extend(t for t in (output if isinstance(output, list | tuple) else [output]) if t.requires_grad)
        if type(module) is not type(network):
            return
        entry = _Pass(torch.is_grad_enabled())
        passes.append(entry)
        if output.requires_grad:
            output.register_hook(lambda _gradient: entry.reached("logits"))  # type: ignore[no-untyped-call]
            for feature in waiting:
                feature.register_hook(lambda _gradient: entry.reached("features"))  # type: ignore[no-untyped-call]
        waiting.clear()

    handle = register_module_forward_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
