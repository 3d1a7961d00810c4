"""train, adapt, demo, bundles and info, as a user types them; and what they refuse before any training."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from monai_transfer.bundle.pretraining_configs import choose_volumes, masked_configs
from monai_transfer.bundle.pretraining_plan import PretrainingPlan
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms
from monai_transfer.volumes.volume import Reading
from tests.cli.test_canary import FOUND, READING

RUNNER = CliRunner()
pytestmark = pytest.mark.usefixtures("quiet")
QUICK = ["--steps", "2", "--spacing", "16", "--device", "cpu"]


@pytest.fixture
def broken(domains: Path, tmp_path: Path) -> Path:
    """A copy of the CT set, to be spoilt."""
    for part in ("images", "labels"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for path in (domains / "ct" / part).iterdir():
            (tmp_path / "set" / part / path.name).write_bytes(path.read_bytes())
    return tmp_path / "set"


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


def _spoil(folder: Path, fault: str) -> None:
    image, label = folder / "images" / "ct_002.nii.gz", folder / "labels" / "ct_002.nii.gz"
    if fault == "unreadable":
        image.write_bytes(image.read_bytes()[:200])
    elif fault == "other grid":
        _rewrite(label, lambda voxels: voxels[:-3])
    elif fault == "4D":
        _rewrite(image, lambda voxels: np.stack([voxels, voxels], axis=-1))
    elif fault == "RGB":
        colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        _rewrite(image, lambda voxels: np.zeros(voxels.shape, colour))
    elif fault == "NaN":
        _rewrite(image, lambda voxels: np.where(voxels > 0, np.nan, voxels).astype(np.float32))


@pytest.mark.parametrize("fault", ["unreadable", "other grid", "4D", "RGB", "NaN"])
@pytest.mark.parametrize("command", ["train", "adapt"])
def test_a_faulty_volume_is_refused_before_training(broken: Path, domains: Path, fault: str, command: str) -> None:
    _spoil(broken, fault)
    output = broken.parent / "bundle"
    data = ["--data", str(broken)]
    if command == "adapt":
        data = ["--source", str(broken), "--target", str(domains / "mr")]
    result = RUNNER.invoke(app, [command, *data, "--output", str(output), *QUICK])
    assert isinstance(result.exception, UserError)
    assert "ct_002" in str(result.exception)
    assert not output.exists()


def test_an_empty_folder_and_a_missing_domain_are_refused(domains: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    source = ["--source", str(domains / "ct"), "--output", str(tmp_path / "bundle")]
    empty = RUNNER.invoke(app, ["adapt", *source, "--target", str(tmp_path / "empty")])
    assert isinstance(empty.exception, UserError)
    assert "empty" in str(empty.exception)
    alone = RUNNER.invoke(app, ["adapt", *source])
    assert alone.exit_code == 2
    assert "--target" in alone.output


def test_an_error_is_one_sentence_and_status_two(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "monai_transfer",
        "train",
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_dry_run_makes_nothing(domains: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    data = ["--source", str(domains / "ct"), "--target", str(domains / "mr")]
    result = RUNNER.invoke(app, ["adapt", *data, "--output", str(output), "--dry-run", *QUICK])
    assert result.exit_code == 0, result.output
    assert "CT → MR, 5 labels" in result.stderr
    assert not output.exists()


def test_several_sources_and_some_target_labels_are_options(domains: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "more", modality="mr", subjects=1, size=0.2, first=7)
    arguments = ["--source", str(domains / "ct"), "--source", str(tmp_path / "more"), "--target", str(domains / "mr")]
    labelled = ["--test-cases", "mr_003", "--labelled-target-cases", "mr_00*"]
    result = RUNNER.invoke(app, ["adapt", *arguments, *labelled, "--output", str(tmp_path / "o"), *QUICK, "--dry-run"])
    assert result.exit_code == 0
    assert "The labels of 2 target case(s) are learnt too: mr_001, mr_002." in result.stderr
    with pytest.raises(UserError, match="--source"):
        app(
            ["adapt", "--bundle", "b", "--target", "t", "--output", "o", "--labelled-target-cases", "*"],
            standalone_mode=False,
        )


def test_train_makes_a_scored_bundle(domains: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    command = ["train", "--data", str(domains / "ct"), "--output", str(output), "--json", *QUICK]
    with pytest.raises(UserError, match="--augmentation histogram"):  # it borrows from images of another set
        app([*command, "--augmentation", "histogram"], standalone_mode=False)
    result = RUNNER.invoke(app, [*command, "--augmentation", "modality"])
    assert result.exit_code == 0, result.output
    assert json.loads((output / "configs" / "train.json").read_text())["augmentation"] == "modality"
    assert json.loads(result.stdout)["scores"]["cases"] == 1
    assert (output / "models" / "model.pt").is_file()
    assert (output / "report.html").is_file()


@pytest.mark.slow
def test_what_a_short_training_keeps_fits_its_statistics_of_batch_normalisation(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "ct", modality="ct", subjects=4, size=0.35)
    arguments = ["--network", "unet_bn", "--steps", "40", "--spacing", "12", "--device", "cpu"]
    result = RUNNER.invoke(
        app, ["train", "--data", str(tmp_path / "ct"), "--output", str(tmp_path / "bundle"), *arguments]
    )
    assert result.exit_code == 0, result.output
    last = (tmp_path / "bundle" / "eval" / "history.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["metrics"]["val_mean_dice"] > 0.2  # 0.02 with an average over 50 steps


@pytest.mark.slow
def test_a_finished_command_prints_its_own_lines_alone(domains: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai_transfer", "train", "--data", str(domains / "ct"), *QUICK]
    done = subprocess.run([*command, "--output", str(tmp_path / "b")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == ["CT,", "training:"]


def test_network_and_method_are_one_option_each(domains: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    data = ["--source", str(domains / "ct"), "--target", str(domains / "mr"), "--output", str(output)]
    choices = ["--network", "resnet10", "--method", "OutputAdversarial", "--no-oracle"]
    result = RUNNER.invoke(app, ["adapt", *data, *choices, *QUICK])
    assert result.exit_code == 0, result.output
    train = json.loads((output / "configs" / "train.json").read_text())
    assert train["network_def"]["backbone"] == "resnet10"
    assert [method["_target_"] for method in train["methods"]["modules"]] == [
        "monai_transfer.adaptation.OutputAdversarial"
    ]


@pytest.mark.slow
def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    result = RUNNER.invoke(app, ["demo", "--output", str(output), "--steps", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {"source_only", "adapted", "oracle", "gap_recovered"} <= set(report)
    assert json.loads((output / "report.json").read_text())["oracle"] == report["oracle"]
    assert (output / "report.html").read_text().count("data:image") >= 4
    assert (output / "overview.png").is_file()


def test_bundles_are_listed_and_copied(tmp_path: Path) -> None:
    listed = json.loads(RUNNER.invoke(app, ["bundles", "list", "--json"]).stdout)
    names = {"diagnosis_transfer", "domain_adaptation", "pretraining", "segmentation_transfer"}
    assert {bundle["name"] for bundle in listed} == names
    result = RUNNER.invoke(app, ["bundles", "copy", "domain_adaptation", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "mine" / "configs" / "train.json").is_file()
    again = RUNNER.invoke(app, ["bundles", "copy", "domain_adaptation", str(tmp_path / "mine")])
    assert isinstance(again.exception, UserError)


def test_info_names_versions_devices_and_folders() -> None:
    facts = json.loads(RUNNER.invoke(app, ["info", "--json"]).stdout)
    assert {"versions", "hardware", "folders"} == set(facts)
    assert "monai" in facts["versions"]


def test_a_guess_that_was_asked_for_holds_from_the_check_to_the_scores(broken: Path, tmp_path: Path) -> None:
    for path in sorted(broken.rglob("*.nii.gz")):
        image = nib.load(path)
        image.set_sform(image.affine, 0)
        image.set_qform(image.affine, 0)
        nib.save(image, path)
    arguments = ["train", "--data", str(broken), "--output", str(tmp_path / "bundle"), *QUICK]
    with pytest.raises(UserError, match="--assume-affine"):
        app(arguments, standalone_mode=False)
    assert not (tmp_path / "bundle").exists()
    result = RUNNER.invoke(app, [*arguments, "--assume-affine"])
    assert result.exit_code == 0, result.output
    train = json.loads((tmp_path / "bundle" / "configs" / "train.json").read_text())
    assert train["train"]["preprocessing"]["reading"] == {"assume_affine": True}
    assert train["validate"]["preprocessing"]["reading"] == {"assume_affine": True}
    inference = (tmp_path / "bundle" / "configs" / "inference.json").read_text()
    assert "reading" not in json.loads(inference)["preprocessing"], "inference stays plain MONAI"


def test_how_files_are_read_is_an_option_of_every_command_that_reads_volumes() -> None:
    options = {name: {parameter.name for parameter in command.params} for name, command in FOUND.items()}
    reading = {name: names for name, names in options.items() if names & set(READING)}
    assert len(reading) >= 11
    assert [name for name, names in reading.items() if not names >= {"assume_affine", "allow_irregular"}] == []


def test_a_guess_that_was_asked_for_reaches_a_pretraining(broken: Path, tmp_path: Path) -> None:
    for path in sorted((broken / "images").glob("*.nii.gz")):
        image = nib.load(path)
        image.set_sform(image.affine, 0)
        image.set_qform(image.affine, 0)
        nib.save(image, path)
    arguments = ["pretrain", "--recipe", "masked", "--data", str(broken / "images"), "--dry-run"]
    arguments += ["--output", str(tmp_path / "bundle"), "--length", "32", "--device", "cpu"]
    with pytest.raises(UserError, match="--assume-affine"):
        app(arguments, standalone_mode=False)
    assert RUNNER.invoke(app, [*arguments, "--assume-affine"]).exit_code == 0
    plan = PretrainingPlan(torch.device("cpu"), recipe="masked", length=32)
    volumes = choose_volumes([broken / "images"], plan, reading=Reading(assume_affine=True))
    assert masked_configs(plan, volumes)["masked"]["volumes_1"]["preprocessing"]["reading"] == {"assume_affine": True}
    with pytest.raises(UserError, match="--assume-affine goes with --recipe masked"):
        app(["pretrain", "--output", str(tmp_path / "bundle"), "--assume-affine"], standalone_mode=False)
