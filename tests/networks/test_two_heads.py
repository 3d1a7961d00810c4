"""One encoder with a segmentation and a diagnosis head."""

import copy

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import FlexibleUNet, UNet
from torch import nn

from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.two_task_configs import diagnosis_layers
from monai_transfer.errors import UserError
from monai_transfer.networks import TwoHeads


def _pair(norm: str = "unet") -> tuple[UNet | FlexibleUNet, nn.Sequential]:
    definition = network_definition(norm, classes=3, spatial_dims=2)
    layers = diagnosis_layers(definition, labels=3, classes=2)
    built = ConfigParser({"unet": definition, "layers": layers})
    return built.get_parsed_content("unet"), nn.Sequential(*built.get_parsed_content("layers"))


@pytest.mark.parametrize("norm", ["unet", "unet_bn", "resnet10", "resnet10_light", "resnet18_light"])
def test_each_network_answers_as_it_does_alone(norm: str) -> None:
    unet, head = _pair(norm)
    both = TwoHeads(unet, head).eval()
    image = torch.rand(2, 1, 32, 32)
    answer = both(image)
    torch.testing.assert_close(answer[:, :3], unet(image))
    torch.testing.assert_close(answer[:, 3:], head(image)[..., None, None].expand(-1, -1, 32, 32))


def test_the_encoder_is_one_also_in_a_copy() -> None:
    both = copy.deepcopy(TwoHeads(*_pair()))
    alone, two = (sum(p.numel() for p in network.parameters()) for network in (both.segmentation, both))
    own = [*both.diagnosis[0].model[2].parameters(), *both.diagnosis[-1].parameters()]
    assert two - alone == sum(p.numel() for p in own)  # the second head's own weights
    both(torch.rand(1, 1, 32, 32))[:, 3:].sum().backward()
    assert both.segmentation.model[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("norm", ["unet", "resnet10_light"])
def test_what_was_trained_together_loads_apart(norm: str) -> None:
    both = copy.deepcopy(TwoHeads(*_pair(norm)))
    optimizer = torch.optim.SGD(both.parameters(), lr=0.5)
    image = torch.rand(2, 1, 32, 32)
    both(image).square().mean().backward()
    optimizer.step()
    unet, head = _pair(norm)
    unet.load_state_dict(both.segmentation.state_dict())
    head.load_state_dict(both.diagnosis.state_dict())
    answer = both.eval()(image)
    torch.testing.assert_close(unet.eval()(image), answer[:, :3])
    torch.testing.assert_close(head.eval()(image), answer[:, 3:, 0, 0])


@torch.no_grad()
def test_a_class_is_told_by_its_label() -> None:
    """Where the label of a lesion is certain somewhere, the network says so, however great other outputs are."""
    unet, head = _pair()
    both = TwoHeads(unet, head).eval()
    both.diagnosis[0].model[2].conv.bias[3:] = -20.0
    both.diagnosis[-1].weight.zero_()
    both.diagnosis[-1].weight[1, 2] = 1.0
    both.diagnosis[-1].bias.zero_()
    image = torch.rand(1, 1, 32, 32)
    unet.model[2].conv.bias[:] = torch.tensor([50.0, 0.0, 0.0])
    healthy = float(both(image)[0, 4, 0, 0])
    unet.model[2].conv.bias[:] = torch.tensor([50.0, 0.0, 70.0])
    assert healthy < -20 < float(both(image)[0, 4, 0, 0]) <= 0


def test_other_encoders_are_refused() -> None:
    for other in (_pair("resnet10_light")[0], nn.Conv2d(1, 3, 1)):
        with pytest.raises(UserError, match=r"before their last layer|give a U-Net"):
            TwoHeads(other, _pair()[1])
    unet = UNet(2, 1, 3, channels=[8, 16], strides=[2])
    with pytest.raises(UserError, match="before their last layer"):
        TwoHeads(unet, _pair()[1])
