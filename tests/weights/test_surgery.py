import itertools

import pytest
import torch
from monai.networks.nets import FlexibleUNet
from torch import nn

from monai_transfer.weights import adapt_input_channels, copy_classes, inflate, load_pretrained


def test_inflate_mean_by_hand():
    weight = torch.tensor([[[[6.0, 3.0]]]])
    assert inflate(weight, 3).tolist() == [[[[[2.0, 2.0, 2.0], [1.0, 1.0, 1.0]]]]]
    assert inflate(weight, 3, rule="center").tolist() == [[[[[0.0, 6.0, 0.0], [0.0, 3.0, 0.0]]]]]
    assert inflate(weight, 2, axis=0).shape == (1, 1, 2, 1, 2)


@pytest.mark.parametrize(("old", "new"), list(itertools.product([1, 3], [1, 2, 3, 4])))
def test_sum_keeps_the_answer_to_repeated_images(old, new):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, old, 3, 3, generator=generator)
    image = torch.randn(1, 1, 8, 8, generator=generator)
    before = nn.functional.conv2d(image.expand(-1, old, -1, -1), weight)
    adapted = adapt_input_channels(weight, new)
    after = nn.functional.conv2d(image.expand(-1, new, -1, -1), adapted)
    assert torch.allclose(before, after, atol=1e-5)


def test_mean_and_replicate_by_hand():
    weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert adapt_input_channels(weight, 2, rule="mean").flatten().tolist() == [3.0, 3.0]
    assert adapt_input_channels(weight, 4, rule="replicate").flatten().tolist() == [1.0, 2.0, 6.0, 1.0]
    assert adapt_input_channels(weight, 1, rule="sum").flatten().tolist() == [9.0]


def test_copy_classes_by_hand():
    old = torch.tensor([[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]])
    fresh = torch.zeros(4, 2)
    result, copied = copy_classes(
        fresh,
        old,
        fresh_names={0: "background", 1: "spleen", 2: "liver", 3: "aorta"},
        names={0: "background", 1: "liver", 2: "kidney"},
        dimensions=(0,),
    )
    assert result.tolist() == [[10.0, 11.0], [0.0, 0.0], [20.0, 21.0], [0.0, 0.0]]
    assert copied == ["background", "liver"]


def _pair(backbone: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    flat = FlexibleUNet(1, 2, backbone, spatial_dims=2, decoder_channels=(8, 8, 8, 8, 8)).eval()
    solid = FlexibleUNet(1, 2, backbone, spatial_dims=3, decoder_channels=(8, 8, 8, 8, 8)).eval()
    for module in flat.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    return flat, solid


@pytest.mark.parametrize("backbone", ["resnet18", "vgg11_bn", "densenet121"])
@pytest.mark.parametrize("inflation", ["mean", "center"])
def test_inflated_network_equals_the_2d_network_on_a_constant_axis(backbone, inflation, tmp_path):
    """The whole U-Net. 'mean' needs borders that repeat; 'center' holds with the usual zero padding too."""
    flat, solid = _pair(backbone)
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    report = load_pretrained(solid, tmp_path / "flat.pt", inflation=inflation, minimum=1.0)
    assert report.encoder_share == 1.0
    assert report.share(report.levels) == 1.0
    if inflation == "mean":
        for module in (*flat.modules(), *solid.modules()):
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.padding_mode = "replicate"
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = flat(image)
        found = solid(image.unsqueeze(-1).expand(-1, -1, -1, -1, 32))
    for plane in (0, 15, 31):
        assert torch.allclose(found[..., plane], expected, atol=1e-4), plane
