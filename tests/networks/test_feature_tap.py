import pytest
import torch
from monai.networks.nets import UNETR, BasicUNet, DynUNet, FlexibleUNet, SegResNet, UNet
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.networks import feature_channels, feature_layers, tap

NETWORKS = {
    "UNet": lambda d: UNet(d, 1, 2, (4, 8, 16), (2, 2), num_res_units=2),
    "plain UNet": lambda d: UNet(d, 1, 2, (4, 8, 16), (2, 2)),
    "BasicUNet": lambda d: BasicUNet(d, 1, 2, features=(4, 4, 8, 8, 16, 4)),
    "DynUNet": lambda d: DynUNet(d, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16]),
    "SegResNet": lambda d: SegResNet(
        d, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1, 1), blocks_up=(1, 1)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_levels_run_from_fine_to_coarse(name, spatial_dims):
    network = NETWORKS[name](spatial_dims)
    image = torch.randn(1, 1, *(32,) * spatial_dims)
    with tap(network, feature_layers(network)) as features:
        logits = network(image)
    assert logits.shape[2:] == image.shape[2:]
    sizes = [feature.shape[-1] for feature in features]
    assert len(sizes) >= 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] <= 32
    assert all(feature.ndim == spatial_dims + 2 and feature.requires_grad for feature in features)


def test_flexible_unet_gives_its_encoder_list():
    network = FlexibleUNet(1, 2, "resnet18", spatial_dims=2)
    assert feature_layers(network) == ("encoder",)
    network.train()
    network.encoder.eval()
    assert feature_channels(network, torch.zeros(1, 1, 64, 64)) == (64, 64, 128, 256, 512)
    assert network.training
    assert not network.encoder.training


def test_unet_bottom_is_the_bottleneck():
    assert feature_channels(NETWORKS["UNet"](3), torch.zeros(1, 1, 16, 16, 16)) == (4, 8, 16)
    assert feature_layers(NETWORKS["UNet"](3))[-1] == "model.1.submodule.1.submodule"


def test_holds_the_latest_pass_and_leaves_no_hook():
    network = NETWORKS["UNet"](2)
    reference = network.eval()(torch.ones(1, 1, 16, 16))
    with tap(network, "model.0") as features:
        network(torch.zeros(1, 1, 16, 16))
        logits = network(torch.ones(1, 1, 16, 16))
        assert len(features) == 1
    torch.testing.assert_close(logits, reference)
    kept = features[0]
    network(torch.zeros(1, 1, 16, 16))
    assert features[0] is kept
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_hooks_go_after_an_error():
    network = NETWORKS["UNet"](2)
    with pytest.raises(RuntimeError), tap(network, "model.0"):
        network(torch.zeros(1, 3, 16, 16))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_sees_through_a_data_parallel_wrapper():
    network = nn.DataParallel(NETWORKS["UNet"](2))
    with tap(network, feature_layers(network)) as features:
        network(torch.zeros(1, 1, 16, 16))
    assert len(features) == 3


def test_mistakes_are_named():
    network = NETWORKS["UNet"](2)
    with pytest.raises(UserError, match="'encodre'"), tap(network, "encodre"):
        pass
    with pytest.raises(UserError, match="UNETR"):
        feature_layers(UNETR(1, 2, (32, 32), spatial_dims=2, feature_size=4, hidden_size=12, num_heads=2, mlp_dim=8))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_layer_without_tensors():
    class Odd(nn.Module):
        def forward(self, x):
            return "text"

    network = nn.Sequential(Odd())
    with pytest.raises(UserError, match="str"), tap(network, "0"):
        network(torch.zeros(1))
