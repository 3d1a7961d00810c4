"""The handler that looks at the target with the network that learns."""

import itertools
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from monai_transfer.adaptation import aligned_maps
from monai_transfer.adaptation.aligned_maps import atlas_label_maps
from monai_transfer.adaptation.atlas_file import read_atlas
from monai_transfer.engines import AtlasKeeper, TargetView, target_view
from monai_transfer.transforms import ClassIntensities, PseudoLabels
from monai_transfer.transforms.target import UNLABELLED


class Thresholds(nn.Module):
    """Background below 1, class 1 to 3, class 2 above; notes its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.modes: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.modes.append(self.training)
        classes = (image >= 1).long() + (image >= 3).long()
        return 20 * nn.functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float() * self.weight


def volume(organ: float, name: str = "one") -> dict[str, MetaTensor]:
    image = torch.zeros(1, 12, 12, 12)
    image[:, 2:5, 2:10, 2:10] = 2.0
    image[:, 7:10, 2:10, 2:10] = organ
    image[:, 6, 2:10, 2:10] = 1.5  # a fuzzy layer that intensities alone cannot decide
    return {"image": MetaTensor(image, meta={"filename_or_obj": f"{name}.nii.gz"})}


def run(view: TargetView, *, epochs: int = 4, steps: int = 2) -> list[int]:
    """Run an engine and say how many profiles there were in each epoch."""
    found: list[int] = []

    def step(engine: Engine, batch: int) -> None:
        found.append(len(view.intensities.profiles) if view.intensities is not None else -1)

    engine = Engine(step)
    view.attach(engine)
    engine.run([0] * steps, max_epochs=epochs)
    return found[::steps]


def make(**options: object) -> TargetView:
    images = [volume(5.0), volume(7.0, "two")]
    # the network that these tests use draws the organs as they are: no correction can add to it
    options = {"intensities": ClassIntensities(), "least_gain": -1.0, **options}
    return TargetView(Thresholds(), images, inferer=SimpleInferer(), **options)  # type: ignore[arg-type]


def test_measures_every_volume_from_a_step_on() -> None:
    view = make(intensities_from=4)
    assert run(view) == [0, 0, 2, 2]
    assert view.intensities is not None
    means = [profile.mean[1:, 0].tolist() for profile in view.intensities.profiles]
    assert means == [[2.0, 5.0], [2.0, 7.0]]


def test_measures_no_more_volumes_than_asked() -> None:
    assert run(make(most=1), epochs=1) == [1]


def test_the_network_predicts_in_evaluation_mode_and_goes_on_as_it_was() -> None:
    view = make()
    run(view, epochs=1)
    assert view.network.training
    assert view.network.modes == [False, False]  # type: ignore[comparison-overlap]


def test_none_never_measures() -> None:
    assert run(make(intensities_from=None)) == [0, 0, 0, 0]
    assert run(make(intensities=None, labels=None)) == [-1] * 4


def test_a_class_is_measured_only_where_its_size_is_plausible() -> None:
    label = torch.zeros(1, 12, 12, 12)
    label[:, 2:5, 2:10, 2:10] = 1
    label[:, 7, 2:4, 2:4] = 2  # an organ of 4 voxels; some 200 are predicted
    labelled = [{"label": label}, {"label": torch.where(label == 2, 0.0, label)}]
    view = make(labelled=labelled, doubt=1.0)
    run(view, epochs=1)
    assert view.intensities is not None
    assert [profile.mean.isfinite()[:, 0].tolist() for profile in view.intensities.profiles] == [
        [False, True, False]
    ] * 2


def test_late_in_the_training_every_class_is_measured() -> None:
    label = torch.zeros(1, 12, 12, 12)
    label[:, 2:5] = 1
    view = make(labelled=[{"label": label}], doubt=0.5)
    seen: list[bool] = []
    engine = Engine(lambda *_: seen.append(bool(view.intensities.profiles[0].mean[1].isfinite())))  # type: ignore[union-attr]
    view.attach(engine)
    engine.run([0, 0], max_epochs=4)
    assert seen == [False] * 4 + [True] * 4  # class 1 has 192 of 432 voxels: not plausible


def source_label(**extents: slice) -> dict[str, Tensor]:
    """Both classes where :func:`volume` has them, but for what is given."""
    label = torch.zeros(1, 12, 12, 12)
    label[:, extents.get("first", slice(2, 5)), 2:10, 2:10] = 1
    label[:, extents.get("second", slice(7, 10)), 2:10, 2:10] = 2
    return {"label": label}


def test_a_volume_whose_classes_are_mostly_implausible_is_not_labelled() -> None:
    labels = PseudoLabels()
    tiny = torch.zeros(1, 12, 12, 12)
    tiny[:, 3, 4:6, 4:6], tiny[:, 8, 4:6, 4:6] = 1, 2  # organs of 4 voxels; some 200 are predicted
    run(make(intensities=None, labels=labels, labelled=[{"label": tiny}]), epochs=2)
    assert len(labels) == 0


def test_an_implausible_class_is_not_taught_until_it_is_plausible() -> None:
    labels, image = PseudoLabels(), volume(5.0)["image"]
    # the second class usually is a sheet of one voxel, of which two thirds too much are predicted
    view = make(intensities=None, labels=labels, labelled=[source_label(second=slice(8, 9))], labels_from=0)
    run(view, epochs=2)
    label = labels.of(image)[0]
    assert label[3, 5, 5] == 1
    assert not bool((label == 2).any())
    assert labels.taught(image)[:3].tolist() == [True, True, False]
    assert len(view.network.modes) == 4  # type: ignore[arg-type]  # two volumes, looked at again
    view = make(intensities=None, labels=labels, labelled=[source_label()], labels_from=0)
    run(view, epochs=2)
    assert bool(labels.taught(image).all())
    assert len(view.network.modes) == 2  # type: ignore[arg-type]


class Forgetful(Thresholds):
    """Knows nothing of class 2."""

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        return torch.stack([logits[:, 0] + logits[:, 2], logits[:, 1], torch.zeros_like(logits[:, 0])], 1)


def test_a_class_that_the_network_has_lost_is_found_by_place_and_intensity() -> None:
    labels, image = PseudoLabels(), volume(5.0)
    labelled = [source_label()] * 3
    view = TargetView(Forgetful(), [image], inferer=SimpleInferer(), labels=labels, labelled=labelled, least_gain=-1.0)
    run(view, epochs=1)
    found = labels.of(image["image"])[0] == 2
    truth = image["image"][0] == 5.0
    assert float((found & truth).sum() / truth.sum()) > 0.9
    assert not bool((found & ~truth).any())


def test_labels_every_volume_once() -> None:
    labels = PseudoLabels()
    view = make(intensities=None, labels=labels, labels_from=2)
    run(view, epochs=1)
    assert len(labels) == 0
    run(view)
    assert len(view.network.modes) == 2  # type: ignore[arg-type]
    label = labels.of(volume(5.0)["image"])[0]
    assert label[3, 5, 5] == 1
    assert label[8, 5, 5] == 2
    assert label[0, 0, 0] == 0


def test_labels_few_volumes_at_an_epoch() -> None:
    labels = PseudoLabels()
    view = make(intensities=None, labels=labels, most=1)
    run(view, epochs=1)
    assert len(labels) == 1
    run(view, epochs=1)
    assert len(labels) == 2


@pytest.mark.parametrize(("trust", "known"), [(0.0, True), (1.01, False)])
def test_doubtful_voxels_get_no_label(trust: float, known: bool) -> None:
    labels = PseudoLabels()
    run(make(intensities=None, labels=labels, trust=trust), epochs=1)
    assert bool((labels.of(volume(5.0)["image"]) != UNLABELLED).all()) == known


class Generous(Thresholds):
    """Takes the voxels beside each class for the class as well, as a network does that has not seen the contrast."""

    def forward(self, image: Tensor) -> Tensor:
        organs = super().forward(image)[:, 1:]
        grown = 0.6 * nn.functional.max_pool3d(organs, 3, 1, 1) + 0.4 * organs
        return torch.cat([torch.full_like(organs[:, :1], 10.0), grown], 1)


def test_volumes_are_labelled_where_their_intensities_correct_the_prediction() -> None:
    labels, image = PseudoLabels(), volume(5.0)
    view = TargetView(Generous(), [image], inferer=SimpleInferer(), labels=labels)
    run(view, epochs=1)
    label, truth = labels.of(image["image"])[0], image["image"][0] == 5.0
    assert float((label == 2)[truth].float().mean()) > 0.9
    assert float(truth[label == 2].float().mean()) > 0.9


def test_nothing_is_labelled_where_no_correction_improves_the_prediction() -> None:
    labels = PseudoLabels()
    view = make(intensities=None, labels=labels, least_gain=0.1)
    run(view, epochs=3)
    assert len(labels) == 0
    assert len(view.network.modes) == 2  # type: ignore[arg-type]  # two volumes, looked at once
    assert view.state_dict() == {"unlabelled": []}


@pytest.mark.parametrize(("before", "after", "taught"), [(0.6, 0.8, True), (0.2, 0.4, False)])
def test_what_is_taken_away_of_the_overlap_decides(
    before: float, after: float, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both corrections add 0.2 to the separation: half of the overlap of 0.4, and a quarter of 0.8."""
    seen = itertools.cycle([before, after])
    monkeypatch.setattr(target_view, "separation", lambda image, label, classes: torch.full((2,), next(seen)))
    labels = PseudoLabels()
    run(make(intensities=None, labels=labels, least_gain=0.36), epochs=1)
    assert bool(len(labels)) == taught


@pytest.mark.parametrize(("gain", "taught"), [(0.43, True), (0.34, False), (0.27, False)])
def test_the_usual_limit_lies_between_the_phantoms_and_a_low_dose(
    gain: float, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phantoms MR to CT, CT of a low dose, brain T1 to T2 (docs/parts.md)."""
    seen = itertools.cycle([0.5, 0.5 + 0.5 * gain])
    monkeypatch.setattr(target_view, "separation", lambda image, label, classes: torch.full((2,), next(seen)))
    labels = PseudoLabels()
    run(TargetView(Thresholds(), [volume(5.0)], inferer=SimpleInferer(), labels=labels), epochs=1)
    assert bool(len(labels)) == taught


@pytest.mark.parametrize(("maps", "kept"), [(3, True), (2, False)])
def test_the_atlas_of_several_people_is_kept_for_inference(maps: int, kept: bool, tmp_path: Path) -> None:
    file = tmp_path / "models" / "anatomy.safetensors"
    engine = Engine(lambda engine, batch: None)
    empty = {"label": torch.zeros(1, 12, 12, 12)}
    AtlasKeeper([source_label()] * maps + [empty], classes=3, file=file).attach(engine)
    engine.run([0])
    assert file.is_file() == kept
    if kept:
        assert read_atlas(file, classes=3).usual.tolist() == [192, 192]


def test_volumes_too_large_to_be_corrected_are_looked_at_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_view, "MOST_CORRECTED", 1000)
    monkeypatch.setattr(target_view, "without_bias", lambda *_: pytest.fail("there is no room for that"))
    view = make(labelled=[source_label()] * 3)
    run(view, epochs=1)
    assert view.intensities is not None
    assert [profile.mean[1:, 0].tolist() for profile in view.intensities.profiles] == [[2.0, 5.0], [2.0, 7.0]]
    # a size that is not plausible is not believed there either
    view = make(labelled=[source_label(second=slice(8, 9))] * 3, doubt=1.0)
    run(view, epochs=1)
    assert view.intensities is not None
    assert [profile.mean.isfinite()[1:, 0].tolist() for profile in view.intensities.profiles] == [[True, False]] * 2


def test_an_atlas_takes_as_many_maps_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = [source_label()] * 8
    one = 3 * 12**3
    for room, count in ((8 * one, 8), (4 * one, 4), (3 * one, 3), (2 * one, 0)):
        monkeypatch.setattr(aligned_maps, "_MOST_NUMBERS", room)
        assert len(atlas_label_maps(labelled, 3)) == count
    assert len(atlas_label_maps(labelled[:2], 3)) == 2  # few, and all of them
    assert atlas_label_maps([], 3) == []
