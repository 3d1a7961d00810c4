"""A bundle that judges its own results: taught at the end of a training, asked by ``segment``."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_transfer.bundle.trust import is_foreign
from monai_transfer.datasets import read_dataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation import familiarity
from monai_transfer.evaluation.case_judge import read_judge
from monai_transfer.inference import SegmentOptions
from monai_transfer.workflows import judging
from monai_transfer.workflows.judge_check import check_judge
from monai_transfer.workflows.judging import renew_familiarity, teach_judge
from monai_transfer.workflows.segmenting import segment
from monai_transfer.workflows.training import Training, choose_cases, plan_training, train

ESTIMATE = SegmentOptions(estimate_dice=True)


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def trained(domains: Path, tmp_path_factory: pytest.TempPathFactory, told: list[str]) -> Training:
    split = choose_cases(domains / "mr")
    plan = plan_training(split, steps=2, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "LEAST_STEPS", 1)
        patch.setattr(judging, "APPEARANCES", 16)
        return train(split, plan, tmp_path_factory.mktemp("judged") / "bundle", say=told.append)


def test_a_trained_bundle_estimates_the_dice_of_every_label(
    trained: Training, domains: Path, tmp_path: Path, told: list[str]
) -> None:
    root = trained.bundle.root
    assert any("Unusual images will not be told" in sentence for sentence in told)  # three cases are too few
    assert not is_foreign(root)
    manifest = segment(domains / "mr" / "images", root, tmp_path / "out", device="cpu", options=ESTIMATE)
    names = [name for value, name in trained.plan.label_names.items() if value]
    for case in json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]:
        assert list(case["estimated_dice"]) == names
        assert all(0 <= one["low"] <= one["dice"] <= one["high"] <= 1 for one in case["estimated_dice"].values())
        assert case["unlike"] == []
    assert manifest["options"]["estimate_dice"] is True


def test_images_of_another_kind_are_told_once_the_bundle_knows_four_of_its_own(
    trained: Training, domains: Path, tmp_path: Path
) -> None:
    renew_familiarity(trained.bundle, read_dataset(domains / "mr"), device="cpu")
    assert not is_foreign(trained.bundle.root)
    ours, other = (
        segment(domains / kind / "images", trained.bundle.root, tmp_path / kind, device="cpu", options=ESTIMATE)[
            "cases"
        ]
        for kind in ("mr", "ct")
    )
    assert [case["unlike"] for case in ours] == [[]] * 4
    assert all(any("modality" in reason for reason in case["unlike"]) for case in other)


def test_what_was_usual_before_is_another_kind_after_an_adaptation(
    trained: Training, domains: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "FEWEST_IMAGES", 3)
    monkeypatch.setattr(familiarity, "FEWEST", 3)
    renew_familiarity(trained.bundle, read_dataset(domains / "mr"), device="cpu")
    before = read_judge(trained.bundle.root)
    renew_familiarity(trained.bundle, read_dataset(domains / "ct"), device="cpu")
    after = read_judge(trained.bundle.root)
    assert before is not None
    assert before.familiarity is not None
    assert after is not None
    assert after.familiarity is not None
    assert after.familiarity.other is not None
    assert after.familiarity.other.mean["intensities"] == pytest.approx(before.familiarity.usual.mean["intensities"])


def test_a_bundle_that_is_taught_on_a_target_knows_its_source(
    trained: Training, domains: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name, value in (
        (judging, "FEWEST_IMAGES", 3),
        (familiarity, "FEWEST", 3),
        (judging, "LEAST_STEPS", 1),
        (judging, "APPEARANCES", 16),
    ):
        monkeypatch.setattr(room, name, value)
    split = trained.split
    target = read_dataset(domains / "ct")
    judge = teach_judge(trained.bundle, trained.plan, source=split.training, held=split.held, seen=target)
    assert judge is not None
    assert judge.estimator is not None
    assert judge.familiarity is not None
    assert judge.familiarity.other is not None
    kinds = judge.familiarity.usual, judge.familiarity.other
    first, second = (kind.mean["intensities"] for kind in kinds)
    assert first != pytest.approx(second, abs=0.05)
    assert read_judge(trained.bundle.root) is not None


def test_a_bundle_of_one_label_learns_to_estimate_it(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(domains / "mr", tmp_path / "livers", ignore=shutil.ignore_patterns("dataset.json"))
    for path in (tmp_path / "livers" / "labels").iterdir():
        label = nib.load(path)
        nib.save(nib.Nifti1Image((np.asarray(label.dataobj) == 1).astype(np.uint8), label.affine), path)
    monkeypatch.setattr(judging, "LEAST_STEPS", 1)
    split = choose_cases(tmp_path / "livers")
    result = train(split, plan_training(split, steps=2, device="cpu"), tmp_path / "bundle")
    judge = read_judge(result.bundle.root)
    assert judge is not None
    assert judge.estimator is not None


def test_the_judgement_is_compared_with_the_truth_and_with_images_that_are_wrong(
    trained: Training, domains: Path
) -> None:
    renew_familiarity(trained.bundle, read_dataset(domains / "mr"), device="cpu")
    cases = read_dataset(domains / "mr").select(["mr_00[12]"])
    other = read_dataset(domains / "ct").select(["ct_001"])
    check = check_judge(trained.bundle.root, cases, unlike={"CT": other}, device="cpu")
    report = check.as_report()
    names = {name for value, name in trained.plan.label_names.items() if value}
    assert {(case, label) for case, label, _, _ in check.labels} == {(c, n) for c in cases.names for n in names}
    assert 0 <= report["covered"] <= 1
    assert report["flagged"]["as they are"] == {"flagged": 0, "of": 2}
    assert report["flagged"]["CT"] == {"flagged": 1, "of": 1}
    assert report["flagged"]["flipped foot to head"]["of"] == report["flagged"]["cut to half"]["of"] == 2
    assert any("interval" in row for row in check.sentences)


def test_a_short_training_and_a_bundle_without_a_judge_say_so(trained: Training, domains: Path, tmp_path: Path) -> None:
    split = trained.split
    assert (
        teach_judge(trained.bundle, trained.plan, source=split.training, held=split.held, seen=split.training) is None
    )
    file = trained.bundle.root / "configs" / "judge.json"
    content = file.read_text()
    try:
        file.write_text('{"voxel_ml": []}')
        with pytest.raises(UserError, match=r"judge\.json is broken"):
            read_judge(trained.bundle.root)
        file.unlink()
        with pytest.raises(UserError, match="omit --estimate-dice"):
            segment(domains / "mr" / "images", trained.bundle.root, tmp_path / "out", options=ESTIMATE, trust=True)
        assert not (tmp_path / "out").exists()
    finally:
        file.write_text(content)
