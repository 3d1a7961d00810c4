"""The main road: two data sets in, a bundle, its comparison arms and a report out."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_transfer.bundle.methods import known_methods, method_definitions
from monai_transfer.bundle.reading import read_bundle
from monai_transfer.engines import read_history
from monai_transfer.errors import UserError
from monai_transfer.networks import StructureUNet
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows import reporting
from monai_transfer.workflows.adaptation import (
    Adaptation,
    adapt,
    choose_domains,
    plan_adaptation,
    plan_from,
    start_of_adaptation,
)
from monai_transfer.workflows.reporting import describe_run, report_adaptation
from monai_transfer.workflows.segmenting import segment

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
    """A real, if short, adaptation with all three arms and its report, from pretrained weights."""
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_from(chosen, device="cpu", spacing=[12.0] * 3, steps=3)
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


def test_every_arm_starts_from_the_same_weights(finished: Adaptation) -> None:
    digests = set()
    for bundle in finished.arms.values():
        assert bundle.read("train")["weights"] == "shapes:unet"
        loaded = json.loads((bundle.root / "eval" / "load_report.json").read_text())
        assert loaded["encoder_share"] == 1.0
        digests.add(loaded["sha256"])
    assert len(digests) == 1
    assert json.loads((finished.bundle.root / "report.json").read_text())["start"] == "shapes:unet"
    assert (
        "shapes:unet, the same for every arm; source-only: layer-wise decay 0.5"
        in (finished.bundle.root / "report.html").read_text()
    )


def test_weights_that_do_not_fit_are_told_before_anything_is_made(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    with pytest.raises(UserError, match="shapes:unet"):
        plan_from(chosen, "shapes:unet", device="cpu", spacing=[12.0] * 3, network="vgg11")


def test_the_packaged_weights_are_the_usual_start_where_they_fit(domains: Path) -> None:
    plan = partial(plan_from, choose_domains(domains / "ct", domains / "mr"), device="cpu", spacing=[12.0] * 3)
    assert plan().weights == plan(network="unet").weights == "shapes:unet"
    assert plan("none").weights == plan(network="resnet18").weights == ""
    assert plan().network == plan("shapes:unet").network == plan("none").network == "unet_with_structure"
    assert plan(network="unet").network == "unet"
    assert start_of_adaptation(None, network=None, channels=2) == (None, None)


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
    inference = ConfigParser(finished.bundle.read("inference"))
    network = inference.get_parsed_content("network_def")
    modules = {type(module).__module__.split(".")[0] for module in network.modules()}
    assert modules == {"torch", "monai"}
    network.load_state_dict(torch.load(finished.bundle.weights, weights_only=True))
    ours = read_bundle(root).network
    assert type(ours) is StructureUNet
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(image), network.eval()(image), atol=1e-4, rtol=1e-4)
    assert "Scores" in (root / "docs" / "README.md").read_text()


def test_the_report_says_whether_the_target_s_labels_were_learnt(
    finished: Adaptation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for losses, told in ({"self_training": 0.3}, "SelfTraining"), ({}, "SelfTraining (left out: "):
        lines = [{"step": 1, "losses": {"source/supervised": 1.0, **losses}, "metrics": {}}]
        monkeypatch.setattr(reporting, "read_history", lambda path, lines=lines: lines)
        last = describe_run(finished)["methods"].split(", ")[-1]
        assert last.startswith(told)
        assert (last == "SelfTraining") is bool(losses)


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
    segment(images, finished.bundle.root, tmp_path / "ours", device="cpu")
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
    with pytest.raises(UserError, match="--method Magic is not known: choose from"):
        method_definitions(["Magic"])
    with pytest.raises(UserError, match="--method dann stands twice"):
        method_definitions(["dann", "MeanTeacher", "DANN"])


def test_the_recipe_on_a_network_that_sees_no_intensity(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_from(chosen, device="cpu", spacing=[12.0] * 3, steps=3, network="unet_mind")
    assert plan.weights == ""  # those that come with the package are of networks that see intensities
    both = plan_from(chosen, device="cpu", spacing=[12.0] * 3, steps=3, network="unet_with_structure")
    assert both.weights == "shapes:unet"
    bundle = adapt(chosen, plan, tmp_path / "bundle", oracle=False).bundle
    definition = bundle.read("inference")["network_def"]
    assert definition["_target_"] == "monai_transfer.networks.MINDUNet"
    assert "monai-transfer" in bundle.read("metadata")["required_packages_version"]
    network = read_bundle(bundle.root).network.eval()
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(7 - 3 * image), network(image), atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def joint(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Adaptation:
    """A short adaptation from two sources, CT and other people's MR, with a labelled target case."""
    root = tmp_path_factory.mktemp("joint")
    write_phantoms(root / "mr2", modality="mr", subjects=2, size=0.3, seed=5)
    chosen = choose_domains(
        domains / "ct", domains / "mr", further_sources=[root / "mr2"], labelled_target_cases=["mr_001"]
    )
    plan = plan_adaptation(chosen, device="cpu", spacing=[12.0] * 3, steps=3, network="unet_bn")
    methods = method_definitions(["DomainSpecificBatchNorm", "DANN", "SelfTraining"])
    result = adapt(chosen, plan, root / "bundle", methods=methods, oracle=False)
    report_adaptation(result, root / "bundle")
    return result


def test_every_labelled_domain_has_a_loss_of_its_own(joint: Adaptation) -> None:
    first = read_history(joint.bundle.root / "eval" / "history.jsonl")[0]
    supervised = {name for name in first["losses"] if name.endswith("/supervised")}
    assert supervised == {"source/supervised", "source_2/supervised", "target_labelled/supervised"}
    train = joint.bundle.read("train")
    assert train["domain_weights"] == {"source": 0.5, "source_2": 0.5, "target_labelled": 1.0}
    assert train["source_2"]["preprocessing"]["modality"] == "mr"
    assert train["target_labelled"]["cases"] == ["mr_001"]


def test_source_only_learns_from_every_source_and_from_no_target_label(joint: Adaptation) -> None:
    source_only = joint.arms["source_only"]
    assert set(source_only.read("train")["train"]["dataloader"]["datasets"]) == {"source", "source_2"}
    losses = read_history(source_only.root / "eval" / "history.jsonl")[0]["losses"]
    assert set(losses) == {"source/supervised", "source_2/supervised"}


def test_a_labelled_target_case_is_no_test_case_and_the_report_names_it(joint: Adaptation) -> None:
    assert joint.domains.test is not None
    assert joint.domains.test.names == ("mr_004",)
    report = json.loads((joint.bundle.root / "report.json").read_text())
    assert report["labelled_target"] == ["mr_001"]
    page = (joint.bundle.root / "report.html").read_text()
    assert "also learnt the labels of 1 target case(s), mr_001" in page
    assert "never saw" not in page
    assert "without target labels" not in (joint.bundle.root / "docs" / "README.md").read_text().splitlines()[0]


def test_domain_specific_normalisation_keeps_every_source_apart(joint: Adaptation) -> None:
    workflow = ConfigWorkflow(
        config_file=str(joint.bundle.root / "configs" / "train.json"),
        meta_file=None,
        logging_file=False,
        workflow_type="train",
        bundle_root=str(joint.bundle.root),
    )
    workflow.initialize()
    norms = workflow.parser.get_parsed_content("methods")[0].norms
    assert set(norms) == {"source", "source_2"}


def test_test_subjects_are_taken_out_of_every_labelled_domain(domains: Path) -> None:
    chosen = choose_domains(
        domains / "ct",
        domains / "mr",
        test_cases=["mr_002"],
        further_sources=[domains / "mr"],
        labelled_target_cases=["mr_00[23]"],
    )
    assert [cases.names for cases in chosen.further_sources] == [("mr_001", "mr_003", "mr_004")]
    assert chosen.labelled_target is not None
    assert chosen.labelled_target.names == ("mr_003",)
    with pytest.raises(UserError, match="No labelled target case"):
        choose_domains(domains / "ct", domains / "mr", test_cases=["mr_002"], labelled_target_cases=["mr_002"])


@pytest.mark.parametrize("fault", ["missing label", "unknown label", "other name", "channels"])
def test_sets_that_cannot_be_learnt_together_are_refused(domains: Path, tmp_path: Path, fault: str) -> None:
    other = tmp_path / "other"
    write_phantoms(other, modality="mr", subjects=2, size=0.3, seed=5)
    for path in (other / "labels").iterdir():
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        if fault == "missing label":
            values = np.where(values == 5, 0, values)
        if fault == "unknown label":
            values = np.where(values == 5, 9, values)
        nib.save(nib.Nifti1Image(values.astype(np.uint8), image.affine), path)
    description = json.loads((other / "dataset.json").read_text())
    if fault == "unknown label":
        description["labels"]["9"] = "gall bladder"
    if fault == "other name":
        description["labels"]["5"] = "pancreas"
    (other / "dataset.json").write_text(json.dumps(description))
    chosen = choose_domains(domains / "ct", domains / "mr", further_sources=[other])
    if fault == "channels":
        two = tuple(replace(case, images=case.images * 2) for case in chosen.further_sources[0].cases)
        chosen = replace(
            chosen, further_sources=(replace(chosen.further_sources[0], cases=two, channel_names=("a", "b")),)
        )
    words = {
        "missing label": "lacks the label 5",
        "unknown label": "has the label 9",
        "other name": "'pancreas'",
        "channels": "2 channel",
    }
    with pytest.raises(UserError, match=words[fault]):
        plan_adaptation(chosen, device="cpu")
