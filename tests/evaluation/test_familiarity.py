"""Whether an image is of a known kind, on drawn bodies: a bright trunk with an organ on its right."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_transfer.evaluation.description import ImageKind, describe
from monai_transfer.evaluation.familiarity import Familiarity
from monai_transfer.evaluation.label_evidence import LabelEvidence


def _body(seed: int, *, contrast: float = 1.0, size: float = 5.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    x, y, z = torch.meshgrid(*(torch.arange(32.0),) * 3, indexing="ij")
    moved = [float(m) for m in rng.normal(0, 0.5, 3)]
    trunk = ((x - 16 - moved[0]) / 13) ** 2 + ((y - 16 - moved[1]) / 9) ** 2 < 1
    spine = (x - 16 - moved[0]) ** 2 + (y - 10 - moved[1]) ** 2 < 9
    head = trunk & (z > 26)
    organ = (x - 22 - moved[0]) ** 2 + (y - 18 - moved[1]) ** 2 + (z - 12 - moved[2]) ** 2 < size**2
    image = 1.0 * trunk + contrast * (1.5 * organ + 2.0 * spine + 1.0 * head)
    noise = torch.from_numpy(rng.normal(0, 0.05, image.shape)).float()
    return (image + noise)[None], organ.long()


def _described(image: Tensor, label: Tensor) -> dict[str, np.ndarray]:
    return describe(image, label, classes=2, voxel_ml=1.0)


@pytest.fixture(scope="module")
def usual() -> Familiarity:
    return Familiarity.learn([_described(*_body(seed)) for seed in range(8)])


def test_images_of_the_same_kind_are_not_flagged(usual: Familiarity) -> None:
    assert [usual.unlike(_described(*_body(seed))) for seed in range(100, 120)] == [[]] * 20


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_image_is_laid_out_otherwise(usual: Familiarity, axis: int) -> None:
    image, label = _body(100)
    flipped = usual.unlike(_described(image.flip(axis + 1), label.flip(axis)))
    assert any("flipped" in reason for reason in flipped)


def test_another_contrast_half_a_body_and_a_huge_organ_are_told(usual: Familiarity) -> None:
    assert any("intensities" in reason for reason in usual.unlike(_described(*_body(100, contrast=-0.6))))
    image, label = _body(100)
    assert usual.unlike(_described(image[..., :16], label[..., :16]))
    assert any("large" in reason for reason in usual.unlike(_described(*_body(100, size=9.0))))


def test_small_oddities_in_everything_are_told_together() -> None:
    rng = np.random.default_rng(3)
    kinds = ("intensities", "label sizes", "label intensities", "label agreement")
    usual = Familiarity.learn([{kind: rng.normal(size=20) for kind in kinds} for _ in range(12)])
    odd = {kind: rng.normal(size=20) for kind in kinds}
    assert usual.unlike(odd) == []
    everywhere = {kind: 1.6 * values for kind, values in odd.items()}
    assert max(usual.distances(everywhere)[kind] for kind in kinds) < 1
    assert ["a little unlike" in reason for reason in usual.unlike(everywhere)] == [True]
    assert usual.unlike({**odd, "label sizes": 1.6 * odd["label sizes"]}) == []


def test_labels_of_another_brightness_are_told(usual: Familiarity) -> None:
    image, label = _body(100)
    dark = torch.where(label[None] > 0, image - 1.5, image)
    assert any("surrounds them" in reason for reason in usual.unlike(_described(dark, label)))


def test_a_network_that_is_less_sure_than_usual_is_told() -> None:
    rng = np.random.default_rng(0)

    def described(seed: int, shift: float) -> dict[str, np.ndarray]:
        image, label = _body(seed)
        steady = shift + rng.normal(0, 0.02)
        sight = LabelEvidence(1.0, shift=steady, correction=0.9, confidence=0.9, expected=0.9, piece=1.0)
        return describe(image, label, classes=2, voxel_ml=1.0, evidence={1: sight})

    usual = Familiarity.learn([described(seed, 0.9) for seed in range(8)])
    assert usual.unlike(described(100, 0.9)) == []
    assert any("less sure" in reason for reason in usual.unlike(described(100, 0.3)))


def test_a_label_that_is_not_found_is_told_and_its_place_does_not_count(usual: Familiarity) -> None:
    image, label = _body(100)
    reasons = usual.unlike(_described(image, torch.zeros_like(label)))
    assert len(reasons) == 1
    assert "large" in reasons[0]


def test_an_organ_that_is_cut_ends_at_the_border(usual: Familiarity) -> None:
    image, label = _body(100)
    assert _described(image, label)["label borders"].tolist() == [0.0]
    cut, rest = image[:, :23], label[:23]  # through the middle of the organ
    section, volume = int(rest[-1].sum()), int(rest.sum())
    borders = _described(cut, rest)["label borders"]
    assert borders == pytest.approx([section / volume ** (2 / 3)])
    assert any("is it cut" in reason for reason in usual.unlike(_described(cut, rest)))
    assert np.isnan(_described(image, torch.zeros_like(label))["label borders"]).all()


def _pair(seed: int, *, exchanged: bool = False) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """An image and its mirror image, in which the labels of people who differ lie a little off, and are a little less
    sure."""
    rng = np.random.default_rng(seed)
    person = rng.normal(0, 0.1, 48), rng.normal(0, 0.1, 40)
    own, mirrored = (
        {"label places": 0.5 + person[0] + 0.2 * part, "label agreement": 0.8 + person[1] - 0.2 * part}
        for part in ((1, 0) if exchanged else (0, 1))
    )
    return own, mirrored


def test_an_image_whose_mirror_image_is_nearer_looks_flipped() -> None:
    seen, mirrored = zip(*(_pair(seed) for seed in range(8)), strict=True)
    usual = Familiarity.learn(seen, mirrored=mirrored)
    assert usual.mirror is not None
    assert [usual.unlike(*_pair(seed)) for seed in range(100, 140)] == [[]] * 40
    for seed in range(100, 140):
        own, mirror = _pair(seed, exchanged=True)
        assert not any("exchanged" in reason for reason in usual.unlike(own))
        assert any("left and right exchanged" in reason for reason in usual.unlike(own, mirror))
    again = Familiarity.from_dict(json.loads(json.dumps(usual.as_dict())))
    assert again.distances(*_pair(200)) == pytest.approx(usual.distances(*_pair(200)), abs=1e-2)


def test_what_is_alike_on_both_sides_is_never_called_flipped() -> None:
    rng = np.random.default_rng(0)
    seen, mirrored = ([{"label places": rng.normal(0.5, 0.1, 12)} for _ in range(8)] for _ in range(2))
    mirror = Familiarity.learn(seen, mirrored=mirrored).mirror
    assert mirror is None or mirror.limit > 1


def test_an_image_that_is_nearer_to_another_kind_is_told(usual: Familiarity) -> None:
    seen = [_described(*_body(seed)) for seed in range(8)]
    paler = ImageKind.of([_described(*_body(seed, contrast=0.8)) for seed in range(8, 16)])
    knowing = Familiarity.learn(seen, other=paler)
    pale = [_described(*_body(seed, contrast=0.8)) for seed in range(100, 110)]
    for one in pale:
        assert not any("nearer" in reason for reason in usual.unlike(one))
        assert any("nearer to the images that the bundle comes from" in reason for reason in knowing.unlike(one))
    assert [knowing.unlike(_described(*_body(seed))) for seed in range(100, 120)] == [[]] * 20
    again = Familiarity.from_dict(json.loads(json.dumps(knowing.as_dict())))
    assert again.distances(pale[0])["other"] == pytest.approx(knowing.distances(pale[0])["other"], abs=1e-2)


def test_a_bundle_that_knows_of_no_mirror_no_border_and_no_other_kind_goes_on(usual: Familiarity) -> None:
    stored = json.loads(json.dumps(usual.as_dict()))
    for part in ("mirror", "other", "nearest", "label borders"):
        del stored[part]
    before = Familiarity.from_dict(stored)
    own = _described(*_body(100))
    assert before.unlike(own, own) == []
    assert "label borders" not in before.distances(own)
    assert before.unlike(_described(*_body(100, contrast=-0.6)))


def test_it_survives_the_file(usual: Familiarity) -> None:
    again = Familiarity.from_dict(json.loads(json.dumps(usual.as_dict())))
    described = _described(*_body(100))
    ours, theirs = usual.distances(described), again.distances(described)
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_another_number_of_channels_is_unlike(usual: Familiarity) -> None:
    image, label = _body(100)
    assert usual.unlike(_described(image.repeat(2, 1, 1, 1), label))


def test_copies_of_one_image_are_a_kind_too() -> None:
    copies = Familiarity.learn([_described(*_body(0))] * 4, mirrored=[_described(*_body(0))] * 4)
    assert copies.unlike(_described(*_body(0))) == []
    assert copies.unlike(_described(*_body(100, contrast=-0.6)))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        Familiarity.learn([_described(*_body(seed)) for seed in range(3)])
