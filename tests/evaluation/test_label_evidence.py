"""What is seen of a label without its truth: on networks and images where every figure is known by hand."""

import math

import pytest
import torch
from torch import Tensor

from monai_transfer.evaluation import SourceSizes
from monai_transfer.evaluation.label_evidence import LabelEvidence, gather_evidence

SIZES = SourceSizes(foreground_ml=(1.0, 2.0), label_ml={1: 0.32, 2: 1.0})


def _bright(image: Tensor) -> Tensor:
    """Class 1 is brighter than 0.5, class 2 darker than -0.5; a steep slope makes it sure."""
    return 20 * torch.cat([torch.full_like(image, 0.0), image - 0.5, -0.5 - image], 1)


def _cube(low: int, high: int, value: float = 1.0, size: int = 16) -> Tensor:
    image = torch.zeros(1, 1, size, size, size)
    image[..., low:high, low:high, low:high] = value
    return image


def test_a_network_of_intensities_alone_agrees_with_itself() -> None:
    evidence = gather_evidence(_bright, [_cube(4, 8), _cube(4, 8)], voxel_ml=0.01, sizes=SIZES)
    cube, absent = evidence[1], evidence[2]
    assert (cube.found, cube.noise, cube.shift, cube.mirror, cube.piece) == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert cube.size == pytest.approx(1.0)  # 64 voxels of 0.01 ml against 0.32
    assert cube.spread == 0.0
    assert cube.confidence == pytest.approx(1 / (1 + math.exp(-10) + math.exp(-30)), abs=1e-6)
    assert absent == LabelEvidence(found=0.0, size=-6.0)


def test_volumes_and_pieces_are_counted() -> None:
    two = _cube(1, 3) + _cube(8, 12)
    evidence = gather_evidence(_bright, [two, _cube(4, 8), _cube(4, 8, -1.0)], voxel_ml=0.01, sizes=SIZES)[1]
    assert evidence.found == pytest.approx(2 / 3)
    assert evidence.piece == pytest.approx((64 / 72 + 1) / 2)
    assert evidence.size == pytest.approx(1.0)
    assert evidence.spread == pytest.approx(math.log2(72 / 64) / 2)


def test_a_network_of_places_disagrees_with_itself_when_the_image_moves() -> None:
    """It labels the first half whatever it is shown: without its first three rows, mirrored, but not with noise."""

    def half(image: Tensor) -> Tensor:
        place = torch.zeros_like(image)
        place[:, :, :8] = 1.0
        return torch.cat([0.5 - place, place - 0.5], 1)

    evidence = gather_evidence(half, [torch.rand(1, 1, 16, 16, 16)], voxel_ml=0.01, sizes=SIZES)[1]
    assert evidence.noise == 1.0
    assert evidence.mirror == 0.0
    assert evidence.shift == pytest.approx(2 * 5 / (5 + 8))  # of 13 rows: 5 are still of the first half, 8 are so again
    assert evidence.spread is None


def test_the_correction_takes_away_what_looks_like_the_surroundings() -> None:
    torch.manual_seed(0)
    image = _cube(6, 14, 4.0, size=20) + 0.1 * torch.randn(1, 1, 20, 20, 20)

    def too_large(seen: Tensor) -> Tensor:
        label = torch.zeros_like(image)
        label[..., 5:15, 5:15, 5:14] = 0.2
        label = label[..., -seen.shape[2] :, -seen.shape[3] :, -seen.shape[4] :]
        return torch.cat([0.1 - label, label - 0.1], 1)

    evidence = gather_evidence(too_large, [image], voxel_ml=0.01, sizes=SIZES)[1]
    assert evidence.correction is not None
    assert evidence.correction < 0.95
    assert gather_evidence(_bright, [image], voxel_ml=0.01, sizes=SIZES)[1].correction == 1.0


def test_painted_images_are_scored_by_their_labels() -> None:
    image = _cube(4, 8)
    right, half = (image > 0)[0].long(), torch.zeros(1, 16, 16, 16, dtype=torch.long)
    half[:, 4:6, 4:8, 4:8] = 1
    painted = [(image, right), (image, half)]
    evidence = gather_evidence(_bright, [image], voxel_ml=0.01, sizes=SIZES, painted=painted)
    assert evidence[1].painted == pytest.approx((1.0 + 2 / 3) / 2)
    assert evidence[2].painted is None  # neither the labels nor the network have it


def test_evidence_survives_its_file() -> None:
    evidence = gather_evidence(_bright, [_cube(4, 8)], voxel_ml=0.01, sizes=SIZES)[1]
    again = LabelEvidence.from_dict({**evidence.as_dict(), "of a later version": 1.0})
    assert again.as_dict() == evidence.as_dict()


def test_there_has_to_be_an_image() -> None:
    with pytest.raises(ValueError, match="no images"):
        gather_evidence(_bright, [], voxel_ml=0.01, sizes=SIZES)
