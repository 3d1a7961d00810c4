"""A trained bundle adapts to images alone, and is rolled back where that goes wrong."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from monai_transfer.adaptation import LabelAtlas
from monai_transfer.adaptation.atlas_file import write_atlas
from monai_transfer.bundle.arms import SOURCE_ONLY
from monai_transfer.bundle.configs import make_arm
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.handing_on import hand_on
from monai_transfer.bundle.reading import read_bundle
from monai_transfer.cli.app import app
from monai_transfer.datasets import read_dataset
from monai_transfer.errors import UserError
from monai_transfer.workflows.adaptation import choose_domains, plan_adaptation
from monai_transfer.workflows.source_free import TestTimeSettings, adapt_source_free, adapt_to_inputs, choose_images

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def trained(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleFolder:
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3, steps=40)
    bundle = make_arm(chosen, plan, tmp_path_factory.mktemp("trained") / "bundle", SOURCE_ONLY)
    bundle.run("train", device=torch.device("cpu"))
    return bundle


def same(first: Path, second: Path) -> bool:
    one, two = (torch.load(path, weights_only=True) for path in (first, second))
    return all(torch.equal(one[name], two[name]) for name in one)


def test_a_new_bundle_is_adapted_and_the_old_one_stays(trained: BundleFolder, domains: Path, tmp_path: Path) -> None:
    before = trained.weights.read_bytes()
    target = read_dataset(domains / "mr")
    result = adapt_source_free(
        trained.root, target, tmp_path / "new", test=target.labelled, settings=TestTimeSettings(steps=4), device="cpu"
    )
    assert trained.weights.read_bytes() == before
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert report["kept"] == result.adapted.kept == (not same(trained.weights, result.bundle.weights))
    assert report["kept"] == (report["score_after"] >= report["score_before"])
    assert set(report["before"]["per_label"]) == set(report["after"]["per_label"])
    assert read_bundle(tmp_path / "new").label_names == read_bundle(trained.root).label_names


def test_the_new_bundle_corrects_its_labels_as_the_old_one_does(
    trained: BundleFolder, domains: Path, tmp_path: Path
) -> None:
    old = BundleFolder(shutil.copytree(trained.root, tmp_path / "old"))
    sources = read_dataset(domains / "ct").labelled.cases
    maps = [torch.as_tensor(np.asarray(nib.load(case.label).dataobj)).long()[None] for case in sources if case.label]
    write_atlas(LabelAtlas(maps[:3], classes=6), old.root / "models" / "anatomy.safetensors")
    adapt_source_free(
        old.root, read_dataset(domains / "mr"), tmp_path / "new", settings=TestTimeSettings(steps=1), device="cpu"
    )
    kept = hand_on(tmp_path / "new", tmp_path / "given").root / "models" / "anatomy.safetensors"
    assert kept.read_bytes() == (old.root / "models" / "anatomy.safetensors").read_bytes()


def test_what_looks_worse_is_rolled_back(trained: BundleFolder, domains: Path, tmp_path: Path) -> None:
    wild = TestTimeSettings(steps=6, learning_rate=1e4)
    result = adapt_source_free(
        trained.root, read_dataset(domains / "mr"), tmp_path / "new", settings=wild, device="cpu"
    )
    assert not result.adapted.kept
    assert same(trained.weights, result.bundle.weights)
    assert "rolled back" in result.sentences[0]


def test_inputs_that_cannot_be_read_are_left_out(trained: BundleFolder, domains: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no volume")
    bundle = read_bundle(trained.root)
    good = next((domains / "mr" / "images").iterdir())
    _, adapted = adapt_to_inputs(bundle, [broken, good], settings=TestTimeSettings(steps=1))
    assert adapted.score_before > 0
    with pytest.raises(UserError, match=r"broken\.nii\.gz"):
        adapt_to_inputs(bundle, [broken])


def test_cases_to_score_need_not_be_adapted_to(domains: Path) -> None:
    names = read_dataset(domains / "mr").names
    labelled = read_dataset(domains / "mr").labelled.names
    images, held = choose_images(domains / "mr", target_cases=[names[0]], test_cases=[labelled[-1]])
    assert held is not None
    assert (images.names, held.names) == ((names[0],), (labelled[-1],))
    images, held = choose_images(domains / "mr", target_cases=[labelled[0]])
    assert held is not None
    assert images.names == held.names == (labelled[0],)


def test_the_commands(trained: BundleFolder, domains: Path, tmp_path: Path) -> None:
    target = ["--target", str(domains / "mr"), "--output", str(tmp_path / "new")]
    for wrong in ([], ["--bundle", str(trained.root), "--source", str(domains / "ct")]):
        assert isinstance(RUNNER.invoke(app, ["adapt", *target, *wrong]).exception, UserError)
    adapted = RUNNER.invoke(app, ["adapt", *target, "--bundle", str(trained.root), "--steps", "2", "--json"])
    assert adapted.exit_code == 0, adapted.output
    assert json.loads(adapted.stdout)["before"]["cases"] > 0
    assert "kept" in json.loads(adapted.stdout)
    certain = ["adapt", *target, "--bundle", str(trained.root), "--steps", "2", "--overwrite", "--method"]
    assert RUNNER.invoke(app, [*certain, "entropy"]).exit_code == 0
    for wrong in (["DANN"], ["entropy", "--method", "consistency"], ["entropy", "--spacing", "3"]):
        assert isinstance(RUNNER.invoke(app, [*certain, *wrong]).exception, UserError)
    again = RUNNER.invoke(app, ["adapt", *target, "--bundle", str(trained.root)])
    assert "not empty" in str(again.exception)
    volume = next((domains / "mr" / "images").iterdir())
    segmented = RUNNER.invoke(
        app, ["segment", str(volume), "--bundle", str(trained.root), "--output", str(tmp_path / "out"), "--adapt"]
    )
    assert segmented.exit_code == 0, segmented.output
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"][0]["status"] == "ok"
