import pytest
import torch
from ignite.handlers import EMAHandler

from monai_transfer.errors import UserError
from monai_transfer.finetuning import BatchNormPolicy, ExactFrozenAverage, GradualUnfreezing, freeze, parameter_groups
from monai_transfer.networks import names_of
from tests.finetuning.training import batches, changed, small_unet, snapshot, trainer


def run(policy, *, levels=None, frozen=(), extra=()):
    network = small_unet()
    freeze(network, frozen)
    before = snapshot(network)
    optimizer = torch.optim.SGD(parameter_groups(network, learning_rate=0.1), weight_decay=0.1)
    trainer(network, optimizer, [BatchNormPolicy(policy, levels=levels), *extra]).run()
    return network, changed(network, before)


def statistics(names):
    return {name for name in names if "running" in name or "tracked" in name}


def affine(names):
    return {name for name in names if ".N." in name and name.endswith(("weight", "bias"))}


def test_train_updates_statistics_everywhere_even_where_frozen():
    network, moved = run("train", frozen=["encoder"])
    assert statistics(moved) == statistics(network.state_dict())


def test_frozen_statistics_survive_network_train():
    network, moved = run("frozen_statistics")
    assert not statistics(moved)
    assert affine(moved) == affine(network.state_dict())


def test_frozen_affine():
    _, moved = run("frozen_affine")
    assert not statistics(moved)
    assert not affine(moved)
    assert moved


def test_frozen_affine_withstands_unfreezing():
    network, moved = run("frozen_affine", extra=[GradualUnfreezing(epochs=1)])
    assert not affine(moved)
    assert "model.0.conv.weight" not in moved  # the stem is freed in a fourth epoch, which does not come
    assert "model.1.submodule.0.conv.weight" in moved
    assert network.training


def test_levels_limit_the_policy():
    _, moved = run("frozen_statistics", levels=["stem"])
    assert statistics(moved)
    assert not any(name.startswith("model.0.") for name in statistics(moved))


def test_frozen_statistics_are_what_normalises():
    """In training mode, a held layer gives what evaluation gives."""
    network = small_unet()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.fill_(0.3)
            module.running_var.fill_(2.0)
    image = batches(1)[0]["image"]
    expected = network.eval()(image)
    engine = trainer(network, torch.optim.SGD(network.parameters(), lr=0.0), [])
    policy = BatchNormPolicy("frozen_statistics")
    policy._hook(engine)
    network.train()
    assert torch.equal(network(image), expected)
    policy._unhook(engine)
    network.train()
    assert not torch.equal(network(image), expected)


def test_hooks_are_gone_after_the_run():
    network, _ = run("frozen_statistics")
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_bad_policy_and_level():
    with pytest.raises(UserError, match="use one of train, follow_freezing"):
        BatchNormPolicy("freeze")
    with pytest.raises(UserError, match="no level 'bottom'"):
        run("frozen_statistics", levels=["bottom"])


def test_frozen_parameters_are_exact_in_the_average():
    network = small_unet()
    freeze(network, ["encoder"])
    average = EMAHandler(network, momentum=0.02)
    optimizer = torch.optim.SGD(parameter_groups(network, learning_rate=0.1))
    before = snapshot(network)
    handlers = [average, BatchNormPolicy("follow_freezing"), ExactFrozenAverage(average.ema_model)]
    trainer(network, optimizer, handlers, epochs=4).run()
    encoder = names_of(network, ["encoder"])
    assert changed(average.ema_model, before).isdisjoint(encoder)
    assert changed(average.ema_model, before)
