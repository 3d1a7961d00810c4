"""What the package must know of networks that name a class: their levels, features and published weights."""

import pytest
import torch
from monai.networks.nets import DenseNet121, ResNet
from torch import nn

from monai_transfer.networks import VGGClassifier, feature_layers, network_levels, tap

MAKERS = {
    "resnet": lambda: ResNet("basic", [1, 1, 1, 1], [4, 8, 8, 8], 2, 1, conv1_t_stride=2, num_classes=3),
    "densenet": lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=3),
    "vgg": lambda: VGGClassifier("vgg11", num_classes=3),
}


@pytest.fixture(params=sorted(MAKERS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    made: nn.Module = MAKERS[request.param]().eval()
    return made


def test_every_tensor_has_a_level(network: nn.Module) -> None:
    levels = network_levels(network)
    assert list(levels) == ["stem", "level1", "level2", "level3", "level4", "head"]
    assert sum(map(len, levels.values())) == len(network.state_dict())
    assert all(name.startswith(("fc.", "class_layers.", "head.")) for name in levels["head"])


def test_features_of_every_level(network: nn.Module) -> None:
    with torch.no_grad(), tap(network, feature_layers(network)) as features:
        logits = network(torch.rand(1, 1, 64, 64))
    assert logits.shape == (1, 3)
    sizes = [feature.shape[-1] for feature in features]
    assert sizes == sorted(sizes, reverse=True)
    assert len(features) >= 4
