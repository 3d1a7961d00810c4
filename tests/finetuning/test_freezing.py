import pytest
import torch
from monai.networks.nets import FlexibleUNet

from monai_transfer.errors import UserError
from monai_transfer.finetuning import BatchNormPolicy, freeze, parameter_groups, trainable_levels, unfreeze
from monai_transfer.networks import names_of
from tests.finetuning.training import changed, small_unet, snapshot, trainer

OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, weight_decay=0.5),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("levels", [["encoder"], ["stem"], ["stem", "level1"], ["decoder", "head"]])
def test_frozen_tensors_stay_bitwise(optimizer, levels):
    """Weight decay, momentum and batch statistics included; all else moves."""
    network = small_unet()
    freeze(network, levels)
    before = snapshot(network)
    groups = parameter_groups(network, learning_rate=0.1)
    trainer(network, OPTIMIZERS[optimizer](groups), [BatchNormPolicy("follow_freezing")]).run()
    frozen = names_of(network, levels)
    moved = changed(network, before)
    assert moved.isdisjoint(frozen)
    assert moved == set(before) - frozen


def test_freezing_after_training_drops_momentum():
    """Gradients and momentum of earlier steps do not move what is frozen later."""
    network = small_unet()
    optimizer = OPTIMIZERS["sgd"](parameter_groups(network, learning_rate=0.1))
    handlers = [BatchNormPolicy("follow_freezing")]
    trainer(network, optimizer, handlers, epochs=1).run()
    freeze(network, ["encoder"])
    before = snapshot(network)
    trainer(network, optimizer, handlers, epochs=1).run()
    assert changed(network, before).isdisjoint(names_of(network, ["encoder"]))


def test_unfreeze_and_levels():
    network = FlexibleUNet(1, 2, "resnet10", spatial_dims=2)
    freeze(network, ["encoder"])
    assert trainable_levels(network) == {
        **dict.fromkeys(["stem", "level1", "level2", "level3", "level4"], False),
        "decoder": True,
        "head": True,
    }
    names = unfreeze(network, ["level4"])
    assert names
    assert all(name.startswith("encoder.layer4.") for name in names)
    assert trainable_levels(network)["level4"]


def test_unknown_level_is_named():
    with pytest.raises(
        UserError, match=r"UNet has no level 'level7': use encoder, stem, level1, level2, decoder, head"
    ):
        freeze(small_unet(), ["level7"])
