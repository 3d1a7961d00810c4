"""Maps of where a network looked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.networks.nets import DenseNet121, ResNet, UNet
from monai.transforms import Compose, EnsureTyped, Resized
from torch import nn

from monai_transfer.bundle.reading import Decision
from monai_transfer.inference.explanation import (
    _with_shares,
    drawn_masks,
    explaining_layer,
    label_saliency,
    saliency,
    to_native,
)
from monai_transfer.inference.segmenter import Segmenter
from monai_transfer.networks import VGGClassifier
from monai_transfer.workflows.explaining import explain
from tests.inference.conftest import MakeBundle


class Brightness(nn.Module):
    """Class 1 where it is bright: the truth of what a map should show is known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.layer1.weight, 1 / 9)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        score = torch.relu(self.layer1(image)).flatten(1).mean(1)
        return torch.stack([-score, score], dim=1)


def picture() -> torch.Tensor:
    image = torch.zeros(1, 48, 48)
    image[0, 30:38, 8:16] = 5.0
    return image


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "occlusion"])
def test_the_map_lies_on_what_decides(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_transfer.inference.explanation.feature_layers", lambda network: ("layer1",))
    heat = saliency(Brightness().eval(), picture(), 1, method=method)  # type: ignore[arg-type]
    place = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 27 <= place[0] <= 40
    assert 5 <= place[1] <= 18
    assert float(heat.max()) == pytest.approx(1.0)
    assert float(heat[:16, 24:].max()) < 0.2


@pytest.mark.parametrize(
    "network",
    [
        ResNet("basic", [1, 1, 1, 1], [4, 4, 8, 8], 2, 1, conv1_t_stride=2, num_classes=2),
        VGGClassifier("vgg11", num_classes=2),
        DenseNet121(spatial_dims=2, in_channels=1, out_channels=2),
        UNet(spatial_dims=2, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_every_network_can_be_asked(network: nn.Module) -> None:
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    heat = saliency(network, torch.rand(1, 64, 64), 1)
    assert heat.shape == (64, 64)
    assert 0 <= float(heat.min()) <= float(heat.max()) <= 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.training


def a_head_on_shares(seed: int = 0) -> nn.Sequential:
    """A network of two tasks: labels by brightness, of which the third, the brightest, speaks for class 1."""
    torch.manual_seed(seed)
    labels = nn.Conv2d(1, 3, 1)
    with torch.no_grad():
        labels.weight[:, 0, 0, 0] = torch.tensor([0.0, 2.0, 6.0])
        labels.bias[:] = torch.tensor([4.0, 3.0, -9.0])
    mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    head = nn.Sequential(labels, nn.LogSoftmax(1), mean, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        head[-1].weight[:] = torch.tensor([[0.0, 0.5, -1.0], [0.0, -0.5, 1.0]])
    return head.eval()


def test_a_pooled_label_is_shown_where_it_is_surest() -> None:
    """An organ fills most of the image, a lesion a corner: the map of the lesion's class lies on the lesion."""
    image = torch.zeros(1, 40, 40)
    image[0, 4:36, 4:36] = 1.0
    image[0, 28:33, 8:13] = 4.0
    head = a_head_on_shares()
    heat = saliency(head, image, 1)
    place = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 28 <= place[0] < 33
    assert 8 <= place[1] < 13
    assert float(heat[4:20, 20:36].max()) < 0.1
    assert len(head) == 6  # what is explained is a copy
    torch.manual_seed(1)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    other = saliency(head, image, 1)
    assert abs(float(torch.corrcoef(torch.stack([heat.flatten(), other.flatten()]))[0, 1].nan_to_num())) < 0.8


def test_shares_and_their_logarithms_are_one_function() -> None:
    image, head = 4 * torch.rand(1, 1, 32, 32), a_head_on_shares()
    torch.testing.assert_close(_with_shares(head)(image), head(image))


def test_the_layer_is_fine_enough() -> None:
    network = ResNet("basic", [1, 1, 1, 1], [4, 4, 8, 8], 2, 1, conv1_t_stride=2, num_classes=2).eval()
    assert explaining_layer(network, torch.rand(1, 1, 224, 224)) == "layer3"  # 14 cells; layer4 has 7
    assert explaining_layer(network, torch.rand(1, 1, 32, 32)) == "layer1"


def test_other_weights_give_another_map() -> None:
    """The sanity check of Adebayo et al., NeurIPS 2018: a map that survives random weights shows the image alone."""
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = ResNet("basic", [1, 1, 1, 1], [8, 8, 16, 16], 2, 1, conv1_t_stride=2, num_classes=2).eval()
        maps.append(saliency(network, image, 1).flatten())
    assert float(torch.corrcoef(torch.stack(maps))[0, 1].nan_to_num()) < 0.8


def test_a_map_comes_back_to_the_grid_of_the_file() -> None:
    image = MetaTensor(torch.rand(1, 40, 20), affine=torch.eye(4))
    transforms = Compose([EnsureTyped("image"), Resized("image", (80, 40))])
    working = transforms({"image": image})["image"]
    heat = torch.zeros(80, 40)
    heat[60:70, 10:20] = 1
    native = to_native(heat, working, transforms, key="image")
    assert native.shape == (40, 20)
    place = np.unravel_index(int(native.argmax()), native.shape)
    assert 29 <= place[0] <= 35
    assert 4 <= place[1] <= 10


def a_unet(seed: int) -> UNet:
    torch.manual_seed(seed)
    return UNet(2, 1, 3, channels=[8, 16, 16], strides=[2, 2]).eval()


def test_a_label_is_explained_within_the_window_around_it() -> None:
    image = torch.rand(1, 48, 40, generator=torch.Generator().manual_seed(0))
    network = a_unet(0)
    label = int(network(image[None]).argmax(1).flatten().mode().values)
    masks = drawn_masks(network, image, window=[32, 32])
    heat = label_saliency(network, image, masks, label, window=[32, 32])
    assert heat is not None
    assert heat.shape == (48, 40)
    assert 0 < int((heat > 0).any(1).sum()) <= 32
    part = image[:, :20, :20]
    whole = label_saliency(network, part, drawn_masks(network, part, window=[32, -1]), label, window=[32, -1])
    assert whole is not None
    assert whole.shape == (20, 20)


def test_random_weights_explain_a_label_by_another_map() -> None:
    """Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018."""
    image = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1))
    maps = []
    for seed in range(2):
        network = a_unet(seed)
        label = int(network(image[None]).argmax(1).flatten().mode().values)
        masks = drawn_masks(network, image, window=[32, 32])
        heat = label_saliency(network, image, masks, label, window=[32, 32])
        assert heat is not None
        maps.append(heat.flatten())
    assert abs(float(torch.corrcoef(torch.stack(maps))[0, 1])) < 0.7


def test_a_label_that_is_not_found_has_no_map() -> None:
    class Background(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.ones_like(image), torch.zeros_like(image)], dim=1)

    network, image = Background(), torch.rand(1, 16, 16)
    masks = drawn_masks(network, image, window=[16, 16])
    assert label_saliency(network, image, masks, 1, window=[16, 16]) is None


def test_overlapping_labels_are_explained_wherever_each_is_drawn() -> None:
    class Overlapping(nn.Module):
        """Label 0 where it is bright, label 1 in all of its upper half, less surely."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            upper = torch.zeros_like(image)
            upper[:, :, :8] = 0.5
            return torch.cat([image - 1, upper - 0.25], dim=1)

    image = torch.zeros(1, 16, 16)
    image[0, 4:6, 4:6] = 3
    decision = Decision("sigmoid", threshold=0.5)
    masks = drawn_masks(Overlapping(), image, window=[16, 16], decision=decision)
    assert masks[0].nonzero().min(0).values.tolist() == [4, 4]
    assert int(masks[0].sum()) == 4
    assert int(masks[1].sum()) == 8 * 16  # those of label 0 among them
    surer = drawn_masks(Overlapping(), image, window=[16, 16], decision=Decision("sigmoid", threshold=0.6))
    assert [int(mask.sum()) for mask in surer] == [4, 0]  # sigmoid(0.25) = 0.562
    exclusive = drawn_masks(Overlapping(), image, window=[16, 16])
    assert [int(mask.sum()) for mask in exclusive] == [4, 16 * 16 - 4]


def test_the_first_of_overlapping_labels_is_no_background(make_bundle: MakeBundle, ct: Path, tmp_path: Path) -> None:
    names = {"0": "fat", "1": "muscle", "2": "bone", "3": "air"}
    root = make_bundle(smooth=False, sigmoid=True, channels=names)
    drawn = {name for name, size in Segmenter.from_bundle(root, device="cpu").segment(ct).volumes_ml.items() if size}
    assert "fat" in drawn
    (entry,) = explain([ct], root, tmp_path / "why", device="cpu")["volumes"]
    assert {found["label"] for found in entry["maps"]} == drawn
