"""The main road: two data sets in, a bundle, its comparison arms and a report out."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from monai_transfer.errors import UserError
from monai_transfer.inference import segment_folder
from monai_transfer.workflows.adaptation import Adaptation, adapt, choose_domains, plan_adaptation
from monai_transfer.workflows.methods import known_methods, method_definitions
from monai_transfer.workflows.reporting import report_adaptation

OWN_METHOD = '''
"""A method from outside the package, in one file."""

from monai_transfer.adaptation import AdaptationMethod


class MeanMatching(AdaptationMethod):
    """Pulls the mean logits of the domains together."""

    def losses(self, outputs, batch):
        gap = outputs["source"].logits.mean() - outputs["target"].logits.mean()
        return {"mean_matching": self.scaled(gap.square())}
'''


@pytest.fixture(scope="module")
def finished(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Adaptation:
    """A real, if short, adaptation with all three arms and its report."""
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3, steps=3)
    output = tmp_path_factory.mktemp("adapted") / "bundle"
    result = adapt(chosen, plan, output)
    report_adaptation(result, output)
    return result


def test_the_arms_are_trained_with_one_budget_and_scored_on_the_same_subjects(finished: Adaptation) -> None:
    assert set(finished.arms) == set(finished.scores) == {"adapted", "source_only", "oracle"}
    assert {table.cases for table in finished.scores.values()} == {("mr_004",)}
    budgets = {
        arm: [bundle.read("train")[key] for key in ("max_epochs", "steps_per_epoch", "batch_size", "learning_rate")]
        for arm, bundle in finished.arms.items()
    }
    assert budgets["adapted"] == budgets["source_only"] == budgets["oracle"]


def test_test_subjects_are_in_no_training_set(finished: Adaptation) -> None:
    for bundle in finished.arms.values():
        train = bundle.read("train")
        assert "mr_004" not in train["source_cases"] + train["target_cases"]


def test_the_comparison_arms_learn_from_what_their_names_say(finished: Adaptation) -> None:
    source_only, oracle = (finished.arms[arm].read("train") for arm in ("source_only", "oracle"))
    assert source_only["methods"]["modules"] == oracle["methods"]["modules"] == []
    assert (source_only["source_modality"], oracle["source_modality"]) == ("ct", "mr")
    assert oracle["source_dir"] == oracle["target_dir"]


def test_the_bundle_is_complete_and_its_weights_fit_a_bare_network(finished: Adaptation) -> None:
    root = finished.bundle.root
    for part in ("configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md", "LICENSE"):
        assert (root / part).is_file()
    definition = finished.bundle.read("inference")["network_def"]
    network = UNet(**{key: value for key, value in definition.items() if key != "_target_"})
    network.load_state_dict(torch.load(finished.bundle.weights, weights_only=True))
    assert "Scores" in (root / "docs" / "README.md").read_text()


def test_the_report_has_the_three_arms_and_the_gap(finished: Adaptation) -> None:
    report = json.loads((finished.bundle.root / "report.json").read_text())
    assert {"source_only", "adapted", "oracle", "gap_recovered", "seeds", "hardware", "versions"} <= set(report)
    assert set(report["oracle"]["per_label"]) == {"liver", "spleen", "right_kidney", "left_kidney", "aorta"}
    page = (finished.bundle.root / "report.html").read_text()
    assert "source-only" in page
    assert "http" not in page


def test_monai_without_this_package_gives_the_same_label_map(
    finished: Adaptation, domains: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("mr_001", "mr_004"):
        (images / f"{name}.nii.gz").write_bytes((domains / "mr" / "images" / f"{name}.nii.gz").read_bytes())
    segment_folder(images, finished.bundle.root, tmp_path / "ours", device="cpu")
    config = finished.bundle.root / "configs" / "inference.json"
    code = (
        "import sys; sys.modules['monai_transfer'] = None\n"
        "from monai.bundle import run\n"
        f"run(config_file={str(config)!r}, bundle_root={str(finished.bundle.root)!r}, workflow_type='inference', "
        f"dataset_dir={str(images)!r}, output_dir={str(tmp_path / 'plain')!r}, device='cpu')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for image in images.iterdir():
        ours, plain = (nib.load(tmp_path / maker / image.name) for maker in ("ours", "plain"))
        np.testing.assert_allclose(ours.affine, plain.affine, atol=1e-4)
        equal = np.asarray(ours.dataobj) == np.asarray(plain.dataobj)
        assert equal.mean() > 0.9999


def test_a_method_from_outside_the_package_trains(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_method.py").write_text(OWN_METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=2)
    methods = method_definitions(["own_method.MeanMatching", "DANN"])
    result = adapt(chosen, plan, tmp_path / "bundle", methods=methods, oracle=False)
    assert result.methods == ("Augmentation", "RandomIntensity", "IntensityTransfer", "MeanMatching", "DANN")
    line = json.loads((result.bundle.root / "eval" / "history.jsonl").read_text().splitlines()[-1])
    assert {"mean_matching", "domain"} <= set(line["losses"])


def test_subjects_scanned_in_both_domains_are_kept_apart(domains: Path, tmp_path: Path) -> None:
    for domain in ("one", "two"):
        for part in ("images", "labels"):
            folder = tmp_path / domain / part
            folder.mkdir(parents=True)
            for number in (1, 2, 3):
                source = domains / "ct" / part / f"ct_{number:03}.nii.gz"
                (folder / f"subject_{number}.nii.gz").write_bytes(source.read_bytes())
    chosen = choose_domains(tmp_path / "one", tmp_path / "two")
    assert chosen.test is not None
    assert chosen.test.names == ("subject_3",)
    assert chosen.source.names == chosen.target.names == ("subject_1", "subject_2")
    assert any("left out" in note for note in chosen.notes)


def test_a_target_without_labels_has_no_test_set(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr" / "images")
    assert chosen.test is None
    assert len(chosen.target) == 4
    assert not chosen.has_oracle


def test_an_unlabelled_source_is_refused(domains: Path) -> None:
    with pytest.raises(UserError, match="has no labels"):
        choose_domains(domains / "ct" / "images", domains / "mr")


def test_a_taken_output_folder_is_refused_before_training(domains: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=2)
    with pytest.raises(UserError, match="not empty"):
        adapt(chosen, plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("option", "message"),
    [({"steps": 0}, "--steps"), ({"spacing": [0.0] * 3}, "--spacing"), ({"network": "resnet7"}, "resnet7")],
)
def test_an_impossible_option_is_named(domains: Path, tmp_path: Path, option: dict[str, object], message: str) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    with pytest.raises(UserError, match=message):
        adapt(chosen, plan_adaptation(chosen, device="cpu", **option), tmp_path / "bundle")


def test_methods_are_known_by_name() -> None:
    assert {"DANN", "MeanTeacher", "OutputAdversarial", "SourceOnly"} <= set(known_methods())
    assert method_definitions(None) is None
    assert method_definitions(["SourceOnly"]) == []
    with pytest.raises(UserError, match="--method Magic is not known; choose from"):
        method_definitions(["Magic"])
