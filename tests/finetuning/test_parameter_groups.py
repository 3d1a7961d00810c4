import pytest
import torch
from monai.networks.nets import FlexibleUNet
from monai.optimizers import WarmupCosineSchedule

from monai_transfer.errors import UserError
from monai_transfer.finetuning import freeze, parameter_groups
from tests.finetuning.training import small_unet


def test_rates_by_hand():
    network = FlexibleUNet(1, 2, "resnet10", spatial_dims=2)
    groups = parameter_groups(network, learning_rate=1.0, layerwise_decay=0.5, head_factor=3.0)
    assert {group["name"]: group["lr"] for group in groups} == {
        "stem": 1 / 32,
        "level1": 1 / 16,
        "level2": 1 / 8,
        "level3": 1 / 4,
        "level4": 1 / 2,
        "decoder": 1.0,
        "head": 3.0,
    }


@pytest.mark.parametrize("norm_weight_decay", [None, 0.0])
def test_every_parameter_is_in_exactly_one_group(norm_weight_decay):
    network = small_unet()
    freeze(network, ["encoder"])
    groups = parameter_groups(network, learning_rate=0.1, weight_decay=0.01, norm_weight_decay=norm_weight_decay)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    for group in groups:
        separate = group["name"].endswith(".norm")
        assert group["weight_decay"] == (0.0 if separate else 0.01)
        if norm_weight_decay is not None:
            assert all((parameter.ndim > 1) != separate for parameter in group["params"])


def test_warm_up_and_cosine_keep_the_ratio_between_levels():
    network = small_unet()
    optimizer = torch.optim.AdamW(parameter_groups(network, learning_rate=1e-2, layerwise_decay=0.5))
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=5, t_total=20)
    seen = []
    for _ in range(20):
        optimizer.step()
        schedule.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        seen.append(rates[-1])
        assert rates[0] == pytest.approx(rates[-1] / 8, abs=1e-12)
    assert max(seen) == pytest.approx(1e-2) == seen[4]
    assert seen[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"layerwise_decay": 0.0}, {"layerwise_decay": 1.5}])
def test_bad_rates(wrong):
    with pytest.raises(UserError, match="layerwise_decay"):
        parameter_groups(small_unet(), **{"learning_rate": 0.1, **wrong})
