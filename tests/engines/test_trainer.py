"""The trainer: one forward per domain, named losses, one step."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.adaptation import DANN, AdaptationMethod, Outputs, SourceOnly
from monai_transfer.engines import AdaptationTrainer, History, StrengthSchedule, read_history
from monai_transfer.engines.trainer import LOSSES
from monai_transfer.errors import UserError
from monai_transfer.losses import ClassBalancedDiceCELoss


class Counting(nn.Module):
    """A network that counts how often it is run."""

    def __init__(self, spatial_dims: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1) if spatial_dims == 2 else nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Conv2d(4, 2, 1) if spatial_dims == 2 else nn.Conv3d(4, 2, 1)
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.inner(image))


class Constant(AdaptationMethod):
    """Adds a constant that depends on the target's logits."""

    def losses(self, outputs: Mapping[str, Outputs], batch: object) -> dict[str, Tensor]:
        return {"constant": self.weight * self.strength * outputs["target"].logits.mean()}


def batches(steps: int = 2, *, shape: tuple[int, ...] = (8, 8)) -> Iterator[dict[str, dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        image = torch.randn(2, 1, *shape, generator=generator)
        target = torch.randn(1, 1, *shape, generator=generator)
        yield {"source": {"image": image, "label": (image > 0).long()}, "target": {"image": target}}


def make(network: nn.Module, methods: list[AdaptationMethod], **options: object) -> AdaptationTrainer:
    return AdaptationTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=list(batches()),
        network=network,
        optimizer=torch.optim.SGD([*network.parameters(), *nn.ModuleList(methods).parameters()], 0.1),
        loss_function=ClassBalancedDiceCELoss(2),
        methods=methods,
        **options,  # type: ignore[arg-type]
    )


def test_without_a_method_that_needs_it_the_target_is_not_run() -> None:
    network = Counting()
    make(network, [SourceOnly()]).run()
    assert network.calls == 2


class Resting(Constant):
    """The same, at rest until its strength rises."""

    rests_at_zero = True


def test_the_target_is_run_once_a_resting_method_wakes() -> None:
    network = Counting()
    method = Resting()
    trainer = make(network, [method])
    schedule = StrengthSchedule([method], warm_up=1)
    schedule.attach(trainer)
    calls = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: calls.append((network.calls, "constant" in losses())))

    def losses() -> dict[str, Tensor]:
        return trainer.state.output[LOSSES]  # type: ignore[index, return-value]

    trainer.run()
    assert calls == [(1, False), (3, True)]


class Looking(AdaptationMethod):
    """Watches the target's outputs and makes no loss of them."""

    needs_target_gradient = False

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[bool] = []

    def losses(self, outputs: Mapping[str, Outputs], batch: object) -> dict[str, Tensor]:
        self.recorded.append(outputs["target"].logits.requires_grad)
        return {}


def test_a_target_of_which_nobody_makes_a_loss_is_run_without_a_graph() -> None:
    alone, together = Looking(), Looking()
    make(Counting(), [alone]).run()
    make(Counting(), [together, Constant()]).run()
    assert alone.recorded == [False, False]
    assert together.recorded == [True, True]


@pytest.mark.parametrize("amp", [False, True])
def test_a_target_without_a_graph_that_comes_first_leaves_the_source_its_gradient(amp: bool) -> None:
    gradients = []
    for methods in ([], [Looking()]):
        network = Counting()
        trainer = make(network, methods, amp=amp)
        trainer.data_loader = [dict(reversed(batch.items())) for batch in batches()]
        trainer.run()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, looked_on in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, looked_on, rtol=0, atol=0)


def test_each_domain_is_run_once_whatever_the_number_of_methods() -> None:
    network = Counting()
    trainer = make(network, [Constant(), Constant(), DANN(4)], feature_layers=["inner"])
    trainer.run()
    assert network.calls == 4
    assert list(trainer.state.output[LOSSES]) == ["source/supervised", "constant", "constant/2", "domain"]


def test_the_loss_is_the_sum_of_its_named_parts() -> None:
    trainer = make(Counting(), [Constant(weight=3.0)], domain_weights={"source": 0.5})
    trainer.run()
    output = trainer.state.output
    assert float(output["loss"]) == pytest.approx(sum(float(value) for value in output[LOSSES].values()), rel=1e-6)


def test_strength_zero_gives_the_gradients_of_source_only() -> None:
    gradients = []
    for methods in ([], [DANN(4), Constant()]):
        network = Counting()
        for method in methods:
            method.set_strength(0.0)
        trainer = make(network, methods, feature_layers=["inner"])
        trainer.optimizer = torch.optim.SGD(network.parameters(), 0.0)
        trainer.run()
        gradients.append([parameter.grad for parameter in network.inner.parameters()])
    for plain, adapted in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, adapted, rtol=0, atol=0)


def test_gradients_are_clipped() -> None:
    network = Counting()
    make(network, [], max_grad_norm=1e-3).run()
    norms = torch.stack([parameter.grad.norm() for parameter in network.parameters() if parameter.grad is not None])
    assert float(norms.norm()) <= 1.001e-3


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    network = Counting()
    before = [parameter.clone() for parameter in network.parameters()]
    with pytest.raises(UserError, match=r"not finite at step 1 \(constant\)"):
        make(network, [Constant(weight=float("inf"))]).run()
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(old, new.detach(), rtol=0, atol=0)


class Exploding(AdaptationMethod):
    """A loss of 0 whose gradient is infinite: the root's at 0."""

    def losses(self, outputs: Any, batch: Any) -> dict[str, Tensor]:
        return {"root": (0 * outputs["target"].logits.square()).sum().sqrt() + 0 * outputs["target"].logits.sum()}


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_before_the_step_and_names_the_cases(max_grad_norm: float | None) -> None:
    network = Counting()
    before = [parameter.clone() for parameter in network.parameters()]
    trainer = make(network, [Exploding()], max_grad_norm=max_grad_norm)
    for batch in trainer.data_loader:
        for domain, tensors in batch.items():
            name = f"/data/{domain}_007.nii.gz"
            tensors["image"] = MetaTensor(tensors["image"], meta={"filename_or_obj": [name]})
    with pytest.raises(UserError, match=r"gradient is not finite at step 1 for source_007.nii.gz, target_007.nii.gz:"):
        trainer.run()
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(old, new.detach(), rtol=0, atol=0)


def test_a_weighted_domain_needs_labels() -> None:
    with pytest.raises(UserError, match="target domain has a weight"):
        make(Counting(), [], domain_weights={"source": 1.0, "target": 1.0}).run()


def test_two_labelled_domains_are_weighted() -> None:
    def both() -> list[dict[str, dict[str, Tensor]]]:
        return [{"source": batch["source"], "target": batch["source"]} for batch in batches(1)]

    losses = {}
    for weight in (1.0, 0.25):
        trainer = make(Counting(), [], domain_weights={"source": 1.0, "target": weight})
        trainer.data_loader = both()
        trainer.state.epoch_length = 1
        trainer.run()
        losses[weight] = trainer.state.output[LOSSES]["target/supervised"]
    assert float(losses[0.25]) == pytest.approx(0.25 * float(losses[1.0]))


def test_autocast_trains_on_a_cpu() -> None:
    network, seen = UNet(2, 1, 2, (4, 8), (2,)), set()
    trainer = make(network, [DANN(8)], amp=True)
    network.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trainer.run()
    assert seen == {torch.bfloat16}
    assert trainer.scaler is None
    assert trainer.state.output[LOSSES]["domain"].dtype == torch.float32
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_three_dimensions() -> None:
    network = UNet(3, 1, 2, (4, 8), (2,))
    trainer = make(network, [DANN(8)])
    trainer.data_loader = list(batches(1, shape=(8, 8, 8)))
    trainer.state.epoch_length = 1
    trainer.run()
    assert float(trainer.state.output["loss"]) > 0


def test_the_history_holds_every_named_loss(tmp_path: Path) -> None:
    trainer = make(Counting(), [Constant()], train_handlers=[History(tmp_path / "history.jsonl")])
    trainer.run()
    (line,) = read_history(tmp_path / "history.jsonl")
    assert line["step"] == 2
    assert set(line["losses"]) == {"source/supervised", "constant"}
