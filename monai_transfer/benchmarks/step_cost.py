"""What a training step costs beside the bare forward and backward passes that it needs."""

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, cast

import torch
from ignite.handlers import EMAHandler
from monai.bundle import ConfigParser
from pydantic import Field, WithJsonSchema
from torch import Tensor, nn

from monai_transfer.adaptation import AdaptationMethod
from monai_transfer.adaptation.adversary import Adversary
from monai_transfer.benchmarks.step_clock import WARM_UP, StepClock
from monai_transfer.bundle.methods import known_methods, method_definitions
from monai_transfer.bundle.networks import network_definition, require_network
from monai_transfer.engines import AdaptationTrainer, StrengthSchedule
from monai_transfer.errors import UserError
from monai_transfer.losses import ClassBalancedDiceCELoss
from monai_transfer.machine import hardware, has_bfloat16, require_memory, versions
from monai_transfer.networks import feature_channels
from monai_transfer.options import BatchSize, Classes, Seed, validated
from monai_transfer.transforms.target import PSEUDO_LABEL
from monai_transfer.workflows.adaptation import Say

_NEEDS_BATCH_NORM = ("AdaBN", "DomainSpecificBatchNorm")


@validated
class StepSettings:
    """What is measured.

    Attributes:
        networks: names of ``--network``.
        methods: method names; joined by ``+`` they run together.
        roi: voxels of a window along each axis.
        batch_size: cases per domain.
        classes: with the background.
        steps: measured steps of each pair.
        device: where.
        seed: of weights and images.
    """

    networks: tuple[str, ...] = ("unet", "resnet18")
    methods: tuple[str, ...] = ("SourceOnly", "DANN", "MeanTeacher")
    roi: Annotated[int, Field(ge=32, le=1024)] = 64
    batch_size: BatchSize = 2
    classes: Classes = 6
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    device: Annotated[torch.device, WithJsonSchema({"type": "string"})] = field(
        default_factory=lambda: torch.device("cpu")
    )
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse an unknown network or method, and windows that do not fit into memory."""
        for network in self.networks:
            require_network(network)
        for name in self.methods:
            method_definitions(name.split("+"))
        logits = self.batch_size * self.roi**3 * self.classes * 4
        require_memory(logits, "--batch-size with these --roi and --classes", "lower one of them", device=self.device)


def step_costs(settings: StepSettings, *, say: Say = lambda message: None) -> dict[str, Any]:
    """Measure every method with every network: the trainer's step against its bare passes, in turn in one run.

    The bare passes are the forward and backward passes of the network and of the discriminator that the method needs:
    those of a teacher have no backward, that of a method of features starts at the encoder; no loss, no optimizer, no
    moving average. ``overhead`` is the median over the steps of the ratio of both times. ``overhead_of_loop`` compares
    with a plain loop: the same passes with the supervised loss and the optimizer's step. ``bfloat16`` is the time of a
    step in mixed precision beside that of one in float32, where the processor multiplies in bfloat16.

    Returns:
        ``{"overhead": the greatest, "networks": {network: {method: {…}}}, …}``.

    """
    definitions = {name: method_definitions(name.split("+")) or [] for name in settings.methods}
    found: dict[str, dict[str, Any]] = {network: {} for network in settings.networks}
    mixed = has_bfloat16()
    for network in settings.networks:
        for name, definition in definitions.items():
            say(f"{network}, {name}")
            try:
                found[network][name] = _measure(settings, network, definition)
                if mixed:
                    low = _measure(settings, network, definition, amp=True)["seconds"]["step"]
                    found[network][name]["bfloat16"] = low / found[network][name]["seconds"]["step"]
            except UserError as error:
                found[network][name] = {"overhead": None, "error": str(error)}
    measured = [entry["overhead"] for entries in found.values() for entry in entries.values() if entry["overhead"]]
    return {
        "overhead": max(measured, default=None),
        "networks": found,
        "roi": [settings.roi] * 3,
        "batch_size": settings.batch_size,
        "steps": settings.steps,
        "device": str(settings.device),
        "threads": torch.get_num_threads(),
        "hardware": hardware(),
        "versions": versions(),
    }


def default_methods() -> tuple[str, ...]:
    """Every method that the small network can train: it has no batch normalisation."""
    return tuple(name for name in known_methods() if name not in _NEEDS_BATCH_NORM)


def _measure(
    settings: StepSettings, network_name: str, definition: Sequence[dict[str, Any]], *, amp: bool = False
) -> dict[str, Any]:
    torch.manual_seed(settings.seed)
    network, methods = _build(settings, network_name, definition)
    batch = _batch(settings)
    groups = [{"params": list(module.parameters())} for module in (network, nn.ModuleList(methods))]
    loss = ClassBalancedDiceCELoss(settings.classes)
    trainer = AdaptationTrainer(
        settings.device,
        1,
        [batch] * (settings.steps + WARM_UP),
        network,
        torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-4, fused=True),
        loss,
        methods=methods,
        max_grad_norm=5.0,
        train_handlers=[EMAHandler(network, momentum=0.02), StrengthSchedule(methods, warm_up=0, ramp=1)],
        amp=amp,
        amp_kwargs={"dtype": torch.bfloat16} if amp else None,
    )
    adversaries = [part for method in methods for part in method.modules() if isinstance(part, Adversary)]
    discriminators = [adversary.discriminator for adversary in adversaries]
    clock = StepClock(network, batch, loss, device=settings.device, discriminators=discriminators, amp=amp)
    clock.attach(trainer)
    trainer.run()
    return clock.result()


def _build(
    settings: StepSettings, name: str, definition: Sequence[dict[str, Any]]
) -> tuple[nn.Module, list[AdaptationMethod]]:
    """The network and the methods as a bundle's configuration makes them."""
    size = [settings.roi] * 3
    parser = ConfigParser({"network": network_definition(name, classes=settings.classes)})
    network: nn.Module = parser.get_parsed_content("network").to(settings.device)
    with torch.no_grad():
        channels = feature_channels(network, torch.zeros(1, 1, *size, device=settings.device))[-1]
    parser = ConfigParser({"labels": list(range(settings.classes)), "roi_size": size, "feature_channels": channels})
    parser["methods"] = {"_target_": "torch.nn.ModuleList", "modules": list(definition)}
    parser["network"] = network
    parser["domain_weights"] = {"source": 1.0}
    methods: nn.ModuleList = parser.get_parsed_content("methods")
    return network, [cast(AdaptationMethod, method) for method in methods.to(settings.device)]


def _batch(settings: StepSettings) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.batch_size, 1, *[settings.roi] * 3)
    images = {domain: torch.randn(shape, generator=generator) for domain in ("source", "target")}
    label = torch.randint(0, settings.classes, shape, generator=generator, dtype=torch.uint8)
    batch = {
        "source": {"image": images["source"], "label": label},
        "target": {"image": images["target"], "weak": images["target"].clone(), PSEUDO_LABEL: label},
    }
    return {d: {key: value.to(settings.device) for key, value in part.items()} for d, part in batch.items()}
