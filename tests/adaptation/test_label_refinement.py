"""Intensities correct a network's borders, and leave alone what they cannot tell."""

import math

import numpy as np
import torch
from torch import Tensor

from monai_transfer.adaptation import refine_probabilities
from monai_transfer.adaptation.refinement import of_sizes


def balls(*radii: float, size: int = 24) -> list[Tensor]:
    grid = torch.stack(torch.meshgrid(*[torch.arange(size) - size / 2] * 3, indexing="ij")).float()
    return [grid.norm(dim=0) < radius for radius in radii]


def probability(organ: Tensor, sure: float = 0.8) -> Tensor:
    foreground = torch.where(organ, sure, 1 - sure)
    return torch.stack([1 - foreground, foreground])


def dice(one: Tensor, other: Tensor) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_an_organ_drawn_too_large_shrinks_to_its_intensities():
    torch.manual_seed(0)
    truth, drawn = balls(6, 7)
    image = (truth.float() + 0.1 * torch.randn(truth.shape))[None]
    before = probability(drawn)
    after = refine_probabilities(image, before)
    assert dice(drawn, truth) < 0.8
    assert dice(after.argmax(0) == 1, truth) > 0.97
    torch.testing.assert_close(after.sum(0), torch.ones(truth.shape))


def test_an_organ_drawn_too_small_grows_to_its_intensities():
    torch.manual_seed(0)
    truth, drawn = balls(7, 6)
    image = (truth.float() + 0.1 * torch.randn(truth.shape))[None]
    after = refine_probabilities(image, probability(drawn, sure=0.6))
    assert dice(drawn, truth) < 0.8
    assert dice(after.argmax(0) == 1, truth) > 0.95


def test_voxels_that_an_organ_shares_with_its_surroundings_stay_the_organs():
    """On a coarse grid half of the voxels of a small organ are mixed; those with more than half of it belong to it."""
    torch.manual_seed(0)
    fine = torch.stack(torch.meshgrid(*[torch.arange(96) - 48.0] * 3, indexing="ij")).norm(dim=0) < 21
    share = torch.nn.functional.avg_pool3d(fine[None].float(), 4)[0]
    image = (share + 0.03 * torch.randn(share.shape))[None]
    truth = share > 0.5
    before = probability(truth)
    shrunk, whole = (refine_probabilities(image, before, mixed=mixed).argmax(0) == 1 for mixed in (0.0, 0.25))
    assert dice(shrunk, truth) < 0.93
    assert dice(whole, truth) > 0.97


def test_where_organ_and_background_look_alike_the_prediction_stands():
    torch.manual_seed(0)
    (drawn,) = balls(7)
    image = torch.randn(1, *drawn.shape)
    after = refine_probabilities(image, probability(drawn))
    assert dice(after.argmax(0) == 1, drawn) > 0.97


def test_far_from_the_organs_nothing_changes():
    truth, drawn, near = balls(4, 5, 12)
    image = truth.float()[None] + 0.05 * torch.randn(1, *truth.shape)
    before = probability(drawn)
    after = refine_probabilities(image, before, band=2)
    assert torch.equal(after[:, ~near], before[:, ~near])


def test_a_class_is_told_from_its_own_surroundings():
    """The organ's own surroundings are dark; around another organ everything is as bright as this one."""
    torch.manual_seed(0)
    truth, drawn = balls(6, 5, size=32)
    nothing, other = torch.zeros_like(truth), torch.zeros_like(truth)
    other[8:24, 8:24, 8:24] = True
    image = torch.cat([truth.float(), torch.where(other, 2.0, 1.0)])[None] + 0.1 * torch.randn(1, 64, 32, 32)
    foreground = torch.stack([torch.cat([drawn, nothing]), torch.cat([nothing, other])])
    before = torch.cat([~foreground.any(0, keepdim=True), foreground]).float() * 0.4 + 0.2
    after = refine_probabilities(image, before).argmax(0)
    assert dice(after[:32] == 1, truth) > 0.97
    assert dice(after[32:] == 2, other) > 0.97


def test_nothing_predicted_nothing_changed():
    before = torch.stack([torch.full((8, 8, 8), 0.9), torch.full((8, 8, 8), 0.1)])
    assert refine_probabilities(torch.rand(1, 8, 8, 8), before) is before


def test_works_on_slices_and_several_channels():
    truth, drawn = (ball[:, :, 12] for ball in balls(6, 7))
    silent = torch.zeros(truth.shape)
    image = torch.stack([truth.float(), silent]) + 0.1 * torch.randn(2, *truth.shape)
    after = refine_probabilities(image, probability(drawn))
    assert dice(after.argmax(0) == 1, truth) > 0.95


def test_the_posterior_of_one_voxel_by_hand():
    """Constant prediction and no neighbours: Bayes' rule over the two histograms of 64 bins, its prior tempered."""
    side, outliers, mixed = 20, 0.05, 0.3
    generator = np.random.default_rng(0)
    image = generator.normal(0, 1, (side, side, side)).astype(np.float32)
    before = np.stack([np.full_like(image, 0.4), np.full_like(image, 0.6)])
    after = refine_probabilities(
        torch.from_numpy(image)[None], torch.from_numpy(before), outliers=outliers, mixed=mixed, rounds=1
    )
    low, high = np.quantile(image, [0.005, 0.995])
    bins = np.clip((image - low) / (high - low) * 63, 0, 63)
    centre = np.median(bins)
    deviation = 1.4826 * np.median(np.abs(bins - centre))
    organ = np.exp(-0.5 * ((np.arange(64) - centre) / deviation) ** 2)
    counts = np.bincount(np.rint(bins).astype(int).ravel(), minlength=64).astype(float)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    rest = np.convolve(counts, kernel / kernel.sum(), mode="same")
    border = np.zeros(64)  # a share of the organ, and of what lies around it the rest
    for share in np.linspace(0.5, 1, 1001):
        np.add.at(border, np.rint(share * centre + (1 - share) * np.arange(64)).astype(int), rest)
    border = np.convolve(border, kernel / kernel.sum(), mode="same")
    organ = (1 - mixed) * organ / organ.sum() + mixed * border / border.sum()
    organ = (1 - outliers) * organ / organ.sum() + outliers / 64
    rest = (1 - outliers) * rest / rest.sum() + outliers / 64
    ratio = (organ / rest)[np.rint(bins).astype(int)]
    priors = {power: 0.6**power / (0.6**power + 0.4**power) for power in (1.0, 0.8, 0.65, 0.5)}
    likelihoods = {power: np.log(prior * ratio + 1 - prior).mean() for power, prior in priors.items()}
    power = max(likelihoods, key=lambda each: likelihoods[each] - 0.002 * (1 / each - 1))
    assert power < 1  # the organ's distribution is the worse one: what says that it is everywhere is trusted less
    voxel = (10, 10, 10)
    expected = priors[power] * ratio[voxel] / (priors[power] * ratio[voxel] + 1 - priors[power])
    assert abs(float(after[1][voxel]) - expected) < 0.01


def test_what_lies_far_from_every_class_has_no_part_in_it():
    torch.manual_seed(0)
    (truth,) = balls(5, size=32)
    image = (truth.float() + 0.1 * torch.randn(truth.shape))[None]
    before = probability(truth, sure=0.7)
    wide, further = (torch.nn.functional.pad(each, (9, 30, 25, 8, 0, 20)) for each in (image, before))
    further[0][further.sum(0) == 0] = 1.0
    after = refine_probabilities(wide, further)
    assert torch.equal(after[:, :32, 25:57, 9:41], refine_probabilities(image, before))
    assert torch.equal(after[:, :, :25], further[:, :, :25])


def test_what_was_given_is_left_as_it_was():
    truth, drawn = balls(6, 7)
    before = probability(drawn)
    kept = before.clone()
    assert not torch.equal(refine_probabilities(truth.float()[None], before), before)
    assert torch.equal(before, kept)


def test_a_network_that_is_sure_and_wrong_is_trusted_less():
    """A quarter of what is drawn is as dark as what surrounds it, and the network is as sure of it as of the rest."""
    torch.manual_seed(0)
    (drawn,) = balls(9, size=32)
    truth = drawn.clone()
    truth[20:] = False
    image = (truth.float() + 0.1 * torch.randn(truth.shape))[None]
    after = refine_probabilities(image, probability(drawn, sure=0.9999))
    assert dice(drawn, truth) < 0.9
    assert dice(after.argmax(0) == 1, truth) > 0.97


def test_a_network_that_is_sure_and_right_is_believed_where_intensities_tell_little():
    torch.manual_seed(0)
    (truth,) = balls(8, size=32)
    image = (truth.float() + 1.5 * torch.randn(truth.shape))[None]
    after = refine_probabilities(image, probability(truth, sure=0.99))
    assert dice(after.argmax(0) == 1, truth) > 0.97


def test_a_sheet_of_one_voxel_is_not_blurred_away():
    """A fibre tract no thicker than a voxel, of which the network is fairly sure and intensities tell nothing."""
    torch.manual_seed(0)
    tract = torch.zeros(24, 24, 24, dtype=torch.bool)
    tract[4:20, 4:20, 12] = True
    foreground = torch.where(tract, 0.6, 0.03)
    after = refine_probabilities(torch.randn(1, *tract.shape), torch.stack([1 - foreground, foreground]))
    assert dice(after.argmax(0) == 1, tract) > 0.75  # 0.45 where the blur is left to make it smaller


def test_a_structure_deep_in_a_labelled_brain_stays():
    """None of the background is around it: what its intensities are told from is what all are told from."""
    (brain,) = balls(14, size=34)
    label = brain.long()
    label[12:22, 12:22, 16:18] = 2
    torch.manual_seed(0)
    image = (torch.tensor([0.0, 1.0, 0.8])[label] + 0.15 * torch.randn(label.shape))[None]
    before = 0.2 / 3 + 0.8 * torch.nn.functional.one_hot(label, 3).movedim(-1, 0).float()
    after = refine_probabilities(image, before).argmax(0)
    assert dice(after == 2, label == 2) > 0.55  # 0.35 by what little background the network suspects there


def test_sizes_by_hand():
    # 200 of 1000 voxels are of the second class, and 600 are to be: it takes more than 0.5, and less than 2
    background = torch.tensor([2.0, 0.5, -3.0]).repeat_interleave(torch.tensor([400, 400, 200]))
    logs = torch.stack([background, torch.zeros(1000)])
    assert torch.bincount(logs.argmax(0)).tolist() == [800, 200]

    found = [of_sizes(logs, torch.tensor([400, 600]), most=most).argmax(0) for most in (math.inf, 0.2)]
    assert [torch.bincount(each).tolist() for each in found] == [[400, 600], [800, 200]]
    torch.testing.assert_close(of_sizes(logs, torch.tensor([800, 200])), logs)
