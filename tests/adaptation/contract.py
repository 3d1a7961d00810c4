"""What every adaptation method promises. A method's test is a subclass that says how to make the method."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.adaptation import AdaptationMethod, Batch, Outputs, SourceOnly
from monai_transfer.networks import feature_layers, tap

CLASSES = 3
CHANNELS = (4, 8)


def make_network(spatial_dims: int, norm: str = "BATCH") -> UNet:
    torch.manual_seed(0)
    return UNet(spatial_dims, 1, CLASSES, CHANNELS, strides=(2,), num_res_units=1, norm=norm)


def make_batch(spatial_dims: int, domains: tuple[str, ...] = ("source", "target")) -> Batch:
    generator = torch.Generator().manual_seed(1)
    shape = (2, 1, *(12,) * spatial_dims)
    batch = {}
    for number, name in enumerate(domains):
        image = torch.randn(shape, generator=generator) + number
        batch[name] = {"image": image, "weak": image + 0.1}
        if not name.startswith("target"):
            batch[name]["label"] = torch.randint(0, CLASSES, shape, generator=generator)
    for name in (name for name in domains if name.startswith("target")):
        batch[name]["pseudo_label"] = torch.randint(0, CLASSES, shape, generator=generator).to(torch.uint8)
    return batch


def forward(
    network: nn.Module, method: AdaptationMethod, batch: Batch, *others: AdaptationMethod
) -> dict[str, Outputs]:
    outputs = {}
    for name, tensors in batch.items():
        with ExitStack() as stack:
            for each in (method, *others):
                stack.enter_context(each.forward_context(network, name))
            features = stack.enter_context(tap(network, feature_layers(network)))
            logits = network(tensors["image"])
            outputs[name] = Outputs(logits, tuple(features) if method.needs_features else ())
    return outputs


def supervised(outputs: dict[str, Outputs], batch: Batch) -> Tensor:
    terms = [
        nn.functional.cross_entropy(outputs[name].logits, tensors["label"][:, 0])
        for name, tensors in batch.items()
        if "label" in tensors
    ]
    return torch.stack(terms).sum()


def gradients(network: nn.Module, method: AdaptationMethod, batch: Batch) -> dict[str, Tensor]:
    network.zero_grad()
    outputs = forward(network, method, batch)
    loss = supervised(outputs, batch) + sum(method.losses(outputs, batch).values())
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@contextmanager
def counted(network: nn.Module) -> Iterator[list[int]]:
    calls: list[int] = []
    hook = network.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


class MethodContract:
    """Inherit, and define ``make``; set ``has_gradient`` to False for a method without losses."""

    has_gradient = True
    domains: tuple[str, ...] = ("source", "target")

    def make(self, spatial_dims: int, network: nn.Module) -> AdaptationMethod:
        raise NotImplementedError

    def ready(self, spatial_dims: int, norm: str = "BATCH") -> tuple[nn.Module, AdaptationMethod, Batch]:
        network = make_network(spatial_dims, norm)
        torch.manual_seed(2)
        method = self.make(spatial_dims, network)
        method.prepare(network)
        return network, method, make_batch(spatial_dims, self.domains)

    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_losses_are_finite_scalars_and_reach_the_network(self, spatial_dims):
        network, method, batch = self.ready(spatial_dims)
        losses = method.losses(forward(network, method, batch), batch)
        for name, loss in losses.items():
            assert loss.shape == (), name
            assert torch.isfinite(loss), name
        if not self.has_gradient:
            return
        sum(losses.values()).backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)

    def test_without_a_gradient_of_the_target_there_are_no_losses(self):
        network, method, batch = self.ready(3)
        if not method.needs_target_gradient:
            assert method.losses(forward(network, method, batch), batch) == {}

    def test_every_trainable_parameter_of_the_method_gets_a_gradient(self):
        network, method, batch = self.ready(3)
        outputs = forward(network, method, batch)
        (supervised(outputs, batch) + sum(method.losses(outputs, batch).values())).backward()
        missing = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == []

    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_strength_zero_gives_the_gradients_of_source_only(self, spatial_dims):
        network, method, batch = self.ready(spatial_dims)
        method.set_strength(0.0)
        mine = gradients(network, method, batch)
        reference = gradients(network, SourceOnly(), {"source": batch["source"]})
        assert mine.keys() == reference.keys()
        for name, gradient in reference.items():
            assert torch.equal(mine[name], gradient), name

    def test_what_rests_at_zero_has_nothing_to_do_there(self):
        network, method, batch = self.ready(3)
        method.set_strength(0.0)
        assert method.resting == method.rests_at_zero
        if not method.resting:
            return
        before = {name: value.clone() for name, value in method.state_dict().items()}
        assert all(loss == 0 for loss in method.losses(forward(network, method, batch), batch).values())
        for name, value in method.state_dict().items():
            torch.testing.assert_close(value, before[name], equal_nan=True, rtol=0, atol=0)

    def test_state_survives_a_checkpoint(self):
        network, method, batch = self.ready(3)
        method.losses(forward(network, method, batch), batch)
        method.after_step(network)
        file = io.BytesIO()
        torch.save(method.state_dict(), file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        fresh_network = make_network(3)
        fresh = self.make(3, fresh_network)
        fresh.prepare(fresh_network)
        fresh.load_state_dict(state)
        for name, value in method.state_dict().items():
            torch.testing.assert_close(fresh.state_dict()[name], value, equal_nan=True, rtol=0, atol=0)

    def test_network_runs_no_further_time_and_stays_itself(self):
        network, method, batch = self.ready(3)
        keys = list(network.state_dict())
        outputs = forward(network, method, batch)
        with counted(network) as calls:
            method.losses(outputs, batch)
            method.after_step(network)
        assert calls == []
        assert list(network.state_dict()) == keys
        make_network(3).load_state_dict(network.state_dict())

    def test_combines_with_itself(self):
        network, method, batch = self.ready(3)
        other = self.make(3, network)
        other.prepare(network)
        outputs = forward(network, method, batch, other)
        total = supervised(outputs, batch)
        for each in (method, other):
            total = total + sum(each.losses(outputs, batch).values())
        total.backward()
        assert torch.isfinite(total)

    def test_losses_are_float32_under_autocast(self):
        network, method, batch = self.ready(3)
        with torch.autocast("cpu", torch.bfloat16):
            losses = method.losses(forward(network, method, batch), batch)
        for name, loss in losses.items():
            assert loss.dtype == torch.float32, name
            assert torch.isfinite(loss), name
        if self.has_gradient:
            sum(losses.values()).backward()

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_runs_on_a_gpu_under_autocast(self, dtype):
        network, method, batch = self.ready(3)
        network, method = network.cuda(), method.cuda()
        batch = {name: {key: tensor.cuda() for key, tensor in tensors.items()} for name, tensors in batch.items()}
        with torch.autocast("cuda", dtype):
            outputs = forward(network, method, batch)
            losses = method.losses(outputs, batch)
        for name, loss in losses.items():
            assert loss.dtype == torch.float32, name
            assert loss.is_cuda, name
            assert torch.isfinite(loss), name
        total = sum(losses.values())
        if self.has_gradient:
            total.backward()
        method.after_step(network)
