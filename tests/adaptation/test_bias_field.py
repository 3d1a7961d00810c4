"""The field of a coil, told from how labelled classes vary within a volume."""

import pytest
import torch
from torch import Tensor

from monai_transfer.adaptation import LabelAtlas, without_bias
from monai_transfer.inference.correction import corrected, corrected_slices
from monai_transfer.transforms.target import likeliest_class

SHAPE = (30, 28, 26)
INTENSITIES = torch.tensor([20.0, 60.0, 90.0, 75.0])


def layout(by: int = 0) -> Tensor:
    """Three classes in a background, class numbers ``SHAPE``; there is air around a body."""
    label = torch.zeros(SHAPE, dtype=torch.long)
    label[5 + by : 13 + by, 6:16, 5:13], label[18 + by : 26 + by, 8:18, 6:14] = 1, 2
    label[6 + by : 16 + by, 8:18, 15:23] = 3
    return label


def sure(label: Tensor, classes: int = 4) -> Tensor:
    """Probabilities of a network that is 0.97 sure of these labels."""
    one_hot = torch.nn.functional.one_hot(label, classes).movedim(-1, 0).float()
    return 0.01 + 0.96 * one_hot


def coil(strength: float = 1.0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """What a surface coil below the body sees, 1 to ``1 / (1 + strength)`` and less."""
    places = torch.meshgrid(*[torch.arange(size).float() for size in shape], indexing="ij")
    squares = sum((place - middle).square() for place, middle in zip(places, (0.0, shape[1] / 2, 10.0), strict=False))
    return 1 / (1 + strength * torch.as_tensor(squares) / 100)


def body(label: Tensor, noise: float = 1.0) -> Tensor:
    """The classes' intensities with noise, air outside; ``(1, *spatial)``."""
    values = INTENSITIES[label] + noise * torch.randn(label.shape, generator=torch.Generator().manual_seed(0))
    values[:, :3], values[:, -3:] = 0.0, 0.0
    return values[None]


def spread(image: Tensor, label: Tensor, number: int) -> float:
    """Standard deviation of a class's intensities relative to their mean."""
    values = image[0][label == number]
    return float(values.std() / values.mean())


def test_classes_become_flat() -> None:
    label = layout()
    seen = body(label) * coil()

    flat = without_bias(seen, sure(label))

    for number in (1, 2, 3):
        assert spread(flat, label, number) < 0.04 < 0.15 < spread(seen, label, number)
    assert float(flat[0][label > 0].median()) == pytest.approx(float(seen[0][label > 0].median()), rel=0.1)


def test_ratios_of_the_classes_come_near_those_without_the_coil() -> None:
    label = layout()
    seen = body(label) * coil()

    def error(image: Tensor) -> float:
        means = torch.stack([image[0][label == number].mean() for number in (1, 2, 3)])
        return float((means / means[0] / (INTENSITIES[1:] / INTENSITIES[1])).log().abs().max())

    assert error(without_bias(seen, sure(label))) < 0.15 < 0.5 < error(seen)


def test_without_a_field_nothing_changes() -> None:
    image = body(layout(), noise=6.0)

    assert torch.equal(without_bias(image, sure(layout())), image)


def test_wrong_labels_are_no_field() -> None:
    """The network calls a neighbour of another intensity by the name of each organ."""
    right = layout()
    wrong = right.clone()
    wrong[3:5, 6:16, 5:13], wrong[26:28, 8:18, 6:14], wrong[6:16, 5:8, 15:23] = 1, 2, 3
    image = body(right)

    assert torch.equal(without_bias(image, sure(wrong)), image)


def test_one_label_alone_does_not_tell_a_field_from_a_neighbour() -> None:
    """A network that goes on into the tissue behind an organ: what it draws becomes brighter from end to end."""
    label = torch.zeros(SHAPE, dtype=torch.long)
    label[6:14, 6:16, 5:13] = 1
    image = body(torch.where(torch.arange(SHAPE[0])[:, None, None] < 10, label, 2 * label))

    assert not torch.equal(without_bias(image, sure(label, 3)), image)
    assert torch.equal(without_bias(image, sure(label, 2)), image)


def test_some_wrong_labels_do_not_hide_the_field() -> None:
    right = layout()
    wrong = right.clone()
    wrong[3:5, 6:16, 5:13] = 1

    flat = without_bias(body(right) * coil(), sure(wrong))

    assert max(spread(flat, right, number) for number in (1, 2, 3)) < 0.1


def test_air_stays_air_and_no_corner_explodes() -> None:
    label = layout()
    seen = body(label) * coil()

    flat = without_bias(seen, sure(label))

    assert torch.allclose(flat[seen == 0], torch.zeros(()), atol=0.05)
    inside = (label > 0) & (seen[0] > 5)
    change, everywhere = (flat / seen)[0][inside], (flat / seen)[0][seen[0] > 5]
    assert float(everywhere.max()) <= 1.02 * float(change.max())
    assert float(everywhere.min()) >= 0.98 * float(change.min())


def test_every_channel_has_a_field_of_its_own() -> None:
    label = layout()
    plain = body(label, noise=6.0)
    both = torch.cat([plain, body(label) * coil()])

    flat = without_bias(both, sure(label))

    assert torch.equal(flat[0], plain[0])
    assert spread(flat[1:], label, 2) < 0.06


def test_planes() -> None:
    label = torch.zeros(40, 40, dtype=torch.long)
    label[5:18, 6:34], label[22:36, 6:34] = 1, 2
    seen = body(label) * coil(shape=(40, 40))

    flat = without_bias(seen, sure(label, 3))

    assert max(spread(flat, label, number) for number in (1, 2)) < 0.1 < spread(seen, label, 1)


@pytest.mark.parametrize("voxels", [0, 3])
def test_next_to_no_labels_tell_nothing(voxels: int) -> None:
    label = torch.zeros(SHAPE, dtype=torch.long)
    label[:voxels, 0, 0] = 1
    image = body(layout()) * coil()

    assert torch.equal(without_bias(image, sure(label)), image)


def test_constant_image() -> None:
    image = torch.full((1, *SHAPE), 3.0)

    assert torch.equal(without_bias(image, sure(layout())), image)


def test_labels_beside_a_coil_are_corrected_by_flat_intensities() -> None:
    """A network that draws every organ too large is corrected beside a coil too."""
    right = layout(1)
    atlas = LabelAtlas([layout(by)[None] for by in (-1, 0, 1, 2)], classes=4)
    larger = torch.nn.functional.max_pool3d(right[None].float(), 3, 1, 1)[0].long()
    drawn = sure(larger).pow(0.3)
    drawn = drawn / drawn.sum(0)

    def dice(image: Tensor) -> float:
        label = likeliest_class(corrected(image, drawn, atlas, look=lambda even: drawn))
        return float(2 * ((label == right) & (right > 0)).sum() / ((label > 0).sum() + (right > 0).sum()))

    assert dice(body(right)) > 0.98
    assert dice(body(right) * coil()) > 0.93  # 0.62 by intensities that are not flat


def test_slices_of_a_picture_are_seen_and_corrected_as_the_picture() -> None:
    label = torch.zeros(40, 40, dtype=torch.long)
    label[5:18, 6:34], label[22:36, 6:34] = 1, 2
    image, drawn = body(label) * coil(3.0, shape=(40, 40)), sure(label, 3)
    atlas = LabelAtlas([label.roll(by, 0)[None] for by in (-1, 0, 1, 2)], classes=3)
    slices, seen = drawn[..., None].transpose(0, 1), []

    def look(even: Tensor) -> Tensor:
        seen.append(tuple(even.shape))
        return slices

    found = corrected_slices(slices, image, atlas, order=(0, 1, 2), look=look)

    assert seen == [(1, 40, 40)]
    assert torch.equal(found.transpose(0, 1)[..., 0], corrected(image, drawn, atlas, look=lambda even: drawn))
