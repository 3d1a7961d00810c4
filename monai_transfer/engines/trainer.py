"""The trainer that runs each domain forward once, sums named losses and takes one step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.optim import Optimizer

from monai_transfer.adaptation import AdaptationMethod, Outputs
from monai_transfer.engines.health import require_finite_gradient, require_finite_loss
from monai_transfer.errors import UserError
from monai_transfer.machine import keep_memory
from monai_transfer.networks import feature_layers, mixed_precision, tap
from monai_transfer.processes import average_gradients, common_step, rank, require_alike, require_joined

LOSSES = "losses"
"""Key of ``trainer.state.output`` that holds every named loss of the step."""


class AdaptationTrainer(SupervisedTrainer):
    r"""MONAI's ``SupervisedTrainer`` for batches of several domains.

    A batch is ``{domain: {"image", "label"?, "weak"?}}`` (see :class:`monai_transfer.datasets.DomainLoader`). The loss
    is

    .. math:: L = \sum_d \lambda_d L_\text{supervised}(d) + \sum_m L_m + \sum_r \Omega_r

    over the domains that have a weight, the methods and the regularizers. A domain is run forward once, and only when
    it has a weight or some method needs it; a method that rests at strength 0 does not. A target of which nobody makes
    a loss is run without a graph.

    Args:
        device: where to run.
        max_epochs: number of epochs.
        train_data_loader: yields ``{domain: batch}``.
        network: the segmentation network, left as it is.
        optimizer: the one optimizer; the methods' parameters belong to it too.
        loss_function: supervised loss of ``(logits, label)``.
        methods: adaptation methods, combined without further forward passes.
        domain_weights: labelled domain -> weight of its supervised loss.
        regularizers: modules called with the network, each giving a scalar loss (such as ``L2SP``).
        feature_layers: names of the modules to tap; found by the network's type when not given.
        max_grad_norm: clip the norm of the network's gradient to this value; ``None`` leaves it.
        amp: autocast the forward pass (bfloat16 on a CPU, the ``amp_kwargs`` dtype on a GPU).

    Raises:
        UserError: when a batch lacks the label of a domain that has a weight, or when the loss or the gradient is not
            finite and no scaler skips the step; the network is as it was before the step. Also when several processes
            were started that would each train for themselves.

    Example:
        >>> from monai_transfer.adaptation import EntropyMinimization
        >>> network = nn.Conv2d(1, 2, 1)
        >>> image, label = torch.rand(1, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)
        >>> batch = {"source": {"image": image, "label": label}, "target": {"image": image}}
        >>> trainer = AdaptationTrainer(
        ...     "cpu", 1, [batch], network, torch.optim.SGD(network.parameters(), 0.1), nn.CrossEntropyLoss(),
        ...     methods=[EntropyMinimization()],
        ... )
        >>> trainer.run()
        >>> sorted(trainer.state.output[LOSSES])
        ['entropy', 'source/supervised']
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[..., Tensor],
        *,
        methods: Iterable[AdaptationMethod] = (),
        domain_weights: Mapping[str, float] | None = None,
        regularizers: Iterable[nn.Module] = (),
        feature_layers: Sequence[str] | None = None,
        max_grad_norm: float | None = None,
        epoch_length: int | None = None,
        non_blocking: bool = False,
        inferer: Inferer | None = None,
        key_train_metric: dict[str, Metric] | None = None,
        additional_metrics: dict[str, Metric] | None = None,
        train_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            epoch_length=epoch_length,
            non_blocking=non_blocking,
            inferer=inferer,
            key_train_metric=key_train_metric,
            additional_metrics=additional_metrics,
            train_handlers=train_handlers,
            amp=amp and torch.device(device).type == "cuda",  # MONAI then scales the loss, on a GPU alone
            amp_kwargs=amp_kwargs,
            decollate=False,
            optim_set_to_none=True,
        )
        self._mixed = amp
        self.handlers = list(train_handlers or ())
        self.methods = [method.to(self.state.device) for method in methods]
        self.regularizers = [regularizer.to(self.state.device) for regularizer in regularizers]
        self.domain_weights = dict(domain_weights or {"source": 1.0})
        self.max_grad_norm = max_grad_norm
        self._needs_features = any(method.needs_features for method in self.methods)
        self._feature_layers = tuple(feature_layers or self._default_layers())
        for method in self.methods:
            method.prepare(network)
        require_joined()
        self.add_event_handler(Events.STARTED, lambda: require_alike([self.network, *self.methods]))

    def run(self) -> None:
        """Train; several processes that train together draw different random numbers."""
        if rank() > 0:
            torch.manual_seed(torch.initial_seed() + rank())
        keep_memory()
        super().run()

    def _default_layers(self) -> Sequence[str]:
        return feature_layers(self.network) if self._needs_features else ()

    def _iteration(self, engine: Any, batchdata: dict[str, dict[str, Any]]) -> dict[str, Any]:
        batch = self._to_device(batchdata)
        self.network.train()
        for method in self.methods:
            method.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            outputs = self._forward(batch)
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        with common_step(), self._autocast():
            losses = self._losses(outputs, batch)
        # one sum, one backward: adversaries need no second optimizer behind gradient reversal
        total = torch.stack(list(losses.values())).sum()
        # a scaler skips a step that overflowed; without one it would ruin the network
        if self._active_scaler is None:
            require_finite_loss(total, losses, step=self.state.iteration, batch=batchdata)
        self.state.output = {
            Keys.LOSS: total.detach(),
            LOSSES: {name: value.detach() for name, value in losses.items()},
            Keys.PRED: {domain: output.logits.detach() for domain, output in outputs.items()},
        }
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        self._step(total, batchdata)
        for method in self.methods:
            method.after_step(self.network)
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return dict(self.state.output)

    def _forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Outputs]:
        outputs = {}
        looking = [method for method in self.methods if method.needs_target and not method.resting]
        learning = any(method.needs_target_gradient for method in looking)
        for domain, tensors in batch.items():
            supervised = domain in self.domain_weights
            if not (supervised or looking):
                continue
            with ExitStack() as surroundings:
                if not (supervised or learning):
                    # before 2.10 torch keeps weights that were cast without a graph
                    surroundings.callback(torch.clear_autocast_cache)
                    surroundings.enter_context(torch.no_grad())
                for method in self.methods:
                    surroundings.enter_context(method.forward_context(self.network, domain))
                features: Sequence[Tensor] = ()
                if self._feature_layers:
                    features = surroundings.enter_context(tap(self.network, self._feature_layers))
                logits = self.inferer(tensors[Keys.IMAGE], self.network)
            outputs[domain] = Outputs(logits, tuple(features))
        return outputs

    def _losses(self, outputs: Mapping[str, Outputs], batch: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for domain, weight in self.domain_weights.items():
            if domain not in batch or Keys.LABEL not in batch[domain]:
                raise UserError(
                    f"The {domain} domain has a weight in domain_weights but the batch holds no label of it."
                )
            # the classes first: whoever sums over voxels reads them one class after another
            logits = outputs[domain].logits.to(torch.float32, memory_format=torch.contiguous_format)
            loss = self.loss_function(logits, batch[domain][Keys.LABEL])
            losses[f"{domain}/supervised"] = weight * loss.mean()
        for method in self.methods:
            for name, loss in ({} if method.resting else method.losses(outputs, batch)).items():
                losses[_free_name(name, losses)] = loss.float()
        for regularizer in self.regularizers:
            losses[_free_name(type(regularizer).__name__.lower(), losses)] = regularizer(self.network)
        return losses

    @property
    def _active_scaler(self) -> torch.amp.GradScaler | None:
        return self.scaler if self.scaler is not None and self.scaler.is_enabled() else None

    def _step(self, total: Tensor, batchdata: Mapping[str, Any]) -> None:
        scaler = self._active_scaler
        if scaler is None:
            torch.autograd.backward(total)
        else:
            torch.autograd.backward(scaler.scale(total))
        owned = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        average_gradients(owned, self.network.buffers())
        if scaler is not None:
            # before the norm is clipped: clipping scaled gradients would clip by the scale
            scaler.unscale_(self.optimizer)
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        # the network's alone: discriminators learn at their own pace
        parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if self.max_grad_norm is not None and norm > self.max_grad_norm:  # else each gradient is multiplied by 1
            nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        if scaler is None:
            require_finite_gradient(norm, step=self.state.iteration, batch=batchdata)
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _autocast(self) -> Any:
        return mixed_precision(self.state.device, **self.amp_kwargs) if self._mixed else nullcontext()

    def _to_device(self, batch: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
        """Move the tensors of every domain, as plain tensors, and leave names and paths behind."""
        return {
            domain: {
                key: _plain(value).to(self.state.device, non_blocking=self.non_blocking)
                for key, value in tensors.items()
                if isinstance(value, Tensor)
            }
            for domain, tensors in batch.items()
        }


def _plain(value: Tensor) -> Tensor:
    return value.as_tensor() if isinstance(value, MetaTensor) else value


def _free_name(name: str, taken: Mapping[str, Tensor]) -> str:
    """``name``, numbered when two methods of one class are combined."""
    if name not in taken:
        return name
    number = 2
    while f"{name}/{number}" in taken:
        number += 1
    return f"{name}/{number}"


class Attached:
    """Attaches a handler that stands under an id of its own.

    A reference by place (``@train#handlers#0``) means another handler as soon as somebody inserts one, as MONAI Label
    does with its checkpoint loader; and MONAI Label reads every entry of the list as an object with a ``_target_``, so
    the bare reference cannot stand there either.

    Args:
        handler: what is attached.

    Example:
        >>> from ignite.handlers import EMAHandler
        >>> import torch
        >>> average = EMAHandler(torch.nn.Linear(1, 1), momentum=0.02)
        >>> Attached(average).attach(Engine(lambda engine, batch: None))
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        """Attach the handler to ``engine``."""
        self.handler.attach(engine)
