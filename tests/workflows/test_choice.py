"""The bundle keeps what looks better, without a look at the target's labels."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_transfer.bundle.arms import ORACLE, SOURCE_ONLY
from monai_transfer.bundle.configs import make_arm
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.request import Domains
from monai_transfer.evaluation import Choice, LabelFreeScores
from monai_transfer.evaluation.case_judge import CaseJudge, read_judge
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows import adaptation, judging
from monai_transfer.workflows.adaptation import adapt, choose_domains, plan_adaptation
from monai_transfer.workflows.checkpoints import choose_trained, remove_checkpoints, score_checkpoints
from monai_transfer.workflows.choice import (
    LabelFreeScorer,
    choose_weights,
    keep_source_only,
    prefer_estimated,
    put_back_adapted,
    source_sizes,
)
from monai_transfer.workflows.reporting import report_adaptation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def chosen(domains: Path) -> Domains:
    return choose_domains(domains / "ct", domains / "mr")


@pytest.fixture(scope="module")
def trained(chosen: Domains, tmp_path_factory: pytest.TempPathFactory) -> BundleFolder:
    """Weights that learnt something of the target: the oracle's after some steps."""
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3, steps=60)
    bundle = make_arm(chosen, plan, tmp_path_factory.mktemp("oracle") / "bundle", ORACLE)
    bundle.run("train", device=CPU)
    return bundle


def _like(bundle: BundleFolder, chosen: Domains, folder: Path, weights: str) -> BundleFolder:
    """A bundle with fresh or collapsed weights beside ``bundle``."""
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3, steps=2)
    made = make_arm(chosen, plan, folder, SOURCE_ONLY)
    state = torch.load(bundle.weights, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        if weights == "random":
            state[name] = 0.1 * torch.randn(tensor.shape, generator=generator)
        else:
            state[name] = torch.zeros_like(tensor)
    if weights == "collapsed":
        bias = [name for name, tensor in state.items() if tensor.shape == (plan.classes,)][-1]
        state[bias][0] = 9.0
    made.weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, made.weights)
    return made


@pytest.mark.parametrize("weights", ["collapsed", "random"])
def test_the_better_of_two_is_kept_whichever_is_the_adapted_one(
    trained: BundleFolder, chosen: Domains, tmp_path: Path, weights: str
) -> None:
    broken = _like(trained, chosen, tmp_path / "broken", weights)
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3)
    scorer = LabelFreeScorer(trained, plan, chosen.source, chosen.target)
    harmed = choose_weights(broken, trained, scorer)
    helped = choose_weights(trained, broken, scorer)
    assert (harmed.kept, helped.kept) == ("source_only", "adapted"), (harmed, helped)
    assert harmed.adapted.foreground_ml == pytest.approx(helped.source_only.foreground_ml)
    (broken.root / "models" / "anatomy.safetensors").write_bytes(b"an atlas")
    keep_source_only(broken, trained)
    assert not (broken.root / "models" / "anatomy.safetensors").exists()  # source-only's labels are not corrected
    assert broken.weights.read_bytes() == trained.weights.read_bytes()
    assert (broken.root / "models" / "adapted.pt").is_file()
    put_back_adapted(broken)
    assert (broken.root / "models" / "anatomy.safetensors").read_bytes() == b"an atlas"
    assert broken.weights.read_bytes() == (broken.root / "models" / "adapted.pt").read_bytes()


@pytest.mark.parametrize("choose", [True, False])
def test_the_report_says_what_was_kept(
    chosen: Domains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose: bool
) -> None:
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=1)

    def source_only(*bundles_and_judge):
        return replace(choose_weights(*bundles_and_judge), kept="source_only", reason="for the test")

    monkeypatch.setattr(adaptation, "choose_weights", source_only)
    result = adapt(chosen, plan, tmp_path / "bundle", oracle=False, choose=choose)
    report = json.loads(report_adaptation(result, tmp_path).with_suffix(".json").read_text())
    floor = result.arms["source_only"].weights.read_bytes()
    assert report["kept"] == ("source_only" if choose else "adapted")
    assert (result.bundle.weights.read_bytes() == floor) == choose
    card = (result.bundle.root / "docs" / "README.md").read_text()
    assert ("keeps source-only's weights: for the test" in card) == choose


def _choice(source_validation: float | None = 0.68) -> Choice:
    looks = LabelFreeScores(0.5, 0.5, 0.9, 0.0, 1.0, 0.0)
    return Choice("adapted", "not clearly worse", looks, replace(looks, source_validation=source_validation))


@pytest.mark.parametrize(
    ("adapted", "source_only", "choice", "kept"),
    [
        ({"a": 0.5, "b": 0.6}, {"a": 0.6, "b": 0.6}, _choice(), "source_only"),  # two sites
        ({"a": 0.5, "b": 0.6}, {"a": 0.5, "b": 0.63}, _choice(), "adapted"),  # ahead by no more than estimates are off
        ({"a": 0.7}, {"a": 0.6, "b": 0.6}, _choice(), "source_only"),  # the adapted network has lost a label
        ({"a": 0.3}, {"a": 0.45}, _choice(), "adapted"),  # two modalities: 0.45 of 0.68 is too high an estimate
        ({"a": 0.3}, {"a": 0.6}, _choice(None), "adapted"),  # it is not known how good source-only is at home
        ({"a": 0.3}, {}, _choice(), "adapted"),
        ({"a": 0.9}, {"a": 0.6}, replace(_choice(), kept="source_only"), "source_only"),
    ],
)
def test_source_only_is_kept_where_it_is_at_home_and_estimated_to_be_better(
    adapted: dict[str, float], source_only: dict[str, float], choice: Choice, kept: str
) -> None:
    preferred = prefer_estimated(choice, adapted, source_only)
    assert preferred.kept == kept
    assert ("is estimated at" in preferred.reason) == bool(source_only and choice.kept == "adapted")


def test_the_bundle_gets_the_weights_that_are_estimated_to_be_better(
    chosen: Domains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=1)
    taught: list[bytes] = []
    monkeypatch.setattr(adaptation, "teach_judge", lambda bundle, **_: taught.append(bundle.weights.read_bytes()) or 1)
    monkeypatch.setattr(adaptation, "choose_weights", lambda *_: _choice())
    monkeypatch.setattr(
        adaptation,
        "estimated_dice",
        lambda bundle, *_, **__: {"liver": 0.6 if "comparison" in str(bundle.root) else 0.4},
    )
    result = adapt(chosen, plan, tmp_path / "bundle", oracle=False)
    floor = result.arms["source_only"].weights.read_bytes()
    assert result.choice is not None
    assert result.choice.reason == (
        "the Dice of the adapted network's labels is estimated at 0.40, of source-only's at 0.60"
    )
    assert result.bundle.weights.read_bytes() == floor
    assert len(taught) == 3
    assert [taught[0], taught[2]] == [floor, floor]  # the bundle's judge knows the weights that the bundle has
    assert taught[1] == (result.bundle.root / "models" / "adapted.pt").read_bytes()


@pytest.mark.parametrize("way", ["by what is seen", "by the estimates"])
def test_a_bundle_that_keeps_source_only_judges_by_sizes_that_source_only_learnt(
    chosen: Domains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Bodies of another size are the adapted network's alone, whichever way source-only stays."""
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=1, body_scale=0.8)
    scales: list[float] = []
    choice = _choice() if way == "by the estimates" else replace(_choice(), kept="source_only")
    monkeypatch.setattr(adaptation, "teach_judge", lambda bundle, plan, **_: scales.append(plan.body_scale) or 1)
    monkeypatch.setattr(adaptation, "choose_weights", lambda *_: choice)
    monkeypatch.setattr(
        adaptation, "estimated_dice", lambda bundle, *_, **__: {"liver": 0.6 if bundle.root.name != "b" else 0.4}
    )
    result = adapt(chosen, plan, tmp_path / "b", oracle=False)
    assert result.choice is not None
    assert result.choice.kept == "source_only"
    assert scales == ([1.0, 0.8, 1.0] if way == "by the estimates" else [1.0, 1.0])


def test_source_only_learns_to_judge_as_it_is_trained_and_once(
    chosen: Domains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that trains it beside the adapted network does that too, so that nobody waits for it."""
    monkeypatch.setattr(judging, "LEAST_STEPS", 1)
    monkeypatch.setattr(judging, "APPEARANCES", 2)
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=1)
    taught: list[tuple[Path, bool]] = []

    def teach(bundle: BundleFolder, compared: bool = False, **given) -> CaseJudge | None:
        taught.append((bundle.root, compared))
        return judging.teach_judge(bundle, compared=compared, **given)

    monkeypatch.setattr(adaptation, "teach_judge", teach)
    for resume in (False, True):
        result = adapt(chosen, plan, tmp_path / "bundle", oracle=False, resume=resume)
    floor = result.arms["source_only"].root
    assert [root == floor for root, compared in taught if compared] == [True]
    judge = read_judge(floor)
    assert judge is not None
    assert judge.familiarity is None  # it is only asked how good its labels are


def test_sizes_are_the_volumes_of_the_source(chosen: Domains) -> None:
    label = nib.load(chosen.source.cases[0].label)
    voxels = np.asarray(label.dataobj)
    sizes = source_sizes(chosen.source.select([chosen.source.names[0]]))
    voxel_ml = float(np.prod(label.header.get_zooms())) / 1000
    assert sizes.foreground_ml[0] == sizes.foreground_ml[1] == pytest.approx((voxels > 0).sum() * voxel_ml, rel=1e-4)
    assert sizes.label_ml[1] == pytest.approx((voxels == 1).sum() * voxel_ml, rel=1e-4)
    assert not sizes.plausible(0.0)
    smaller = source_sizes(chosen.source.select([chosen.source.names[0]]), body_scale=0.5)
    assert smaller.label_ml[1] == pytest.approx(sizes.label_ml[1] / 8, rel=1e-4)


def test_the_latest_sound_checkpoint_is_used_and_its_distance_from_the_best_told(
    trained: BundleFolder, chosen: Domains, tmp_path: Path
) -> None:
    """The working checkpoint is neither the first, which is random, nor the last, which collapsed."""
    good = torch.load(trained.weights, weights_only=True)
    broken = {
        weights: torch.load(_like(trained, chosen, tmp_path / weights, weights).weights, weights_only=True)
        for weights in ("random", "collapsed")
    }
    bundle = _like(trained, chosen, tmp_path / "bundle", "collapsed")
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3, steps=75)
    last, per_epoch = plan.epochs
    assert last == 3
    epochs = {1: broken["random"], 2: good}
    for epoch, state in epochs.items():
        torch.save(state, bundle.weights.with_name(f"network_epoch={epoch}.pt"))
    scorer = LabelFreeScorer(bundle, plan, chosen.source, chosen.target)
    choice = choose_trained(bundle, scorer, plan)
    assert choice.step == 2 * per_epoch
    assert choice.shortfall is None
    assert chosen.test is not None
    choice, scores = score_checkpoints(bundle, choice, chosen.test, plan)
    assert scores.mean("dice") == choice.dice[choice.step]
    assert set(choice.dice) == {per_epoch, 2 * per_epoch, 3 * per_epoch}
    assert choice.shortfall == 0
    installed = torch.load(bundle.weights, weights_only=True)
    assert all(torch.equal(installed[name], tensor) for name, tensor in good.items())
    remove_checkpoints(bundle, plan)
    assert [path.name for path in bundle.weights.parent.iterdir()] == ["model.pt"]


def test_source_only_is_kept_where_the_target_is_unrelated_to_the_source(tmp_path: Path) -> None:
    """The target's training volumes are smooth noise: whatever is found in them is as well found in scrambled ones."""
    write_phantoms(tmp_path / "ct", modality="ct", subjects=5, size=0.35, seed=0)
    images = sorted((tmp_path / "ct" / "images").iterdir())
    (tmp_path / "noise" / "images").mkdir(parents=True)
    for number, like in enumerate(images[:3]):
        reference = nib.load(like)
        noise = ndimage.gaussian_filter(np.random.default_rng(number).normal(size=reference.shape), 1.5)
        noise = (800 + 300 * noise / noise.std()).clip(0).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, reference.affine), tmp_path / "noise" / "images" / f"noise_{number}.nii.gz")
    unrelated = choose_domains(
        tmp_path / "ct", tmp_path / "noise", tmp_path / "ct", source_cases=["ct_00[1-4]"], test_cases=["ct_005"]
    )
    plan = plan_adaptation(unrelated, device="cpu", spacing=[10.0] * 3, steps=150)  # enough for two stages
    result = adapt(unrelated, plan, tmp_path / "bundle", oracle=False)
    assert result.choice is not None
    assert result.choice.kept == "source_only", result.choice
    assert "scrambled" in result.choice.reason
    floor = result.arms["source_only"].weights.read_bytes()
    assert result.bundle.weights.read_bytes() == floor
