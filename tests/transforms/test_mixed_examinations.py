"""Mixing images and what they show with the same shares."""

import torch

from monai_transfer.transforms import MixExaminations


def test_images_and_targets_have_the_same_shares() -> None:
    """Image k is bright at place k alone, so a mixed image spells the shares of its target."""
    batch = {"image": torch.eye(4).reshape(4, 1, 2, 2), "label": torch.arange(4), "name": ["a", "b", "c", "d"]}
    mixed = MixExaminations(1.0, classes=4).set_random_state(3)(batch)
    torch.testing.assert_close(mixed["image"].flatten(1), mixed["label"])
    torch.testing.assert_close(mixed["label"].sum(1), torch.ones(4))
    assert mixed["name"] == batch["name"]
    assert not torch.equal(mixed["label"], torch.eye(4))


def test_a_small_alpha_hardly_mixes() -> None:
    batch = {"image": torch.eye(4).reshape(4, 1, 2, 2), "label": torch.arange(4)}
    mixed = MixExaminations(1e-4, classes=4).set_random_state(0)(batch)
    assert float(mixed["label"].max(1).values.min()) > 0.99


def test_an_unknown_finding_stays_unknown() -> None:
    batch = {"image": torch.zeros(2, 1, 2, 2, 2), "label": torch.tensor([[1.0, float("nan")], [0.0, 1.0]])}
    targets = MixExaminations(1.0, classes=2).set_random_state(1)(batch)["label"]
    assert bool(targets[:, 0].isfinite().all())


def test_equal_seeds_mix_alike() -> None:
    batch = {"image": torch.rand(3, 1, 4, 4), "label": torch.tensor([0, 1, 1])}
    first, second = (MixExaminations(0.4, classes=2).set_random_state(7)(batch) for _ in range(2))
    torch.testing.assert_close(first["image"], second["image"])
