"""The scoreboard trains what is missing, and only that."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.configs import make_arm
from monai_transfer.bundle.request import choose_domains, plan_adaptation
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.workflows.scoreboard import choose_arms, compare_methods, report_comparison

RUNNER = CliRunner()


def test_names_become_arms() -> None:
    both = Arm.named("augmentation + meanteacher")
    assert (both.name, both.augmentation) == ("Augmentation+MeanTeacher", "modality")
    assert Arm.named("Augmentation").methods == ()
    assert Arm.named("DANN").augmentation == "standard"
    transfer = Arm.named("DANN+intensitytransfer")
    assert (transfer.name, transfer.augmentation, transfer.painting) == ("IntensityTransfer+DANN", "modality", "target")
    assert Arm.named("RandomIntensity").painting == "random"
    assert Arm.named("Augmentation").painting == "none"
    assert (Arm.named("default").methods, Arm.named("default").augmentation) == (None, None)
    assert Arm.named("default-augmentation") == Arm("Default-Augmentation", augmentation="standard")
    assert (Arm.named("Default-SelfTraining").methods, Arm.named("Default-SelfTraining").painting) == ((), None)
    stretched = Arm.named("stretch+dann")
    assert (stretched.name, stretched.augmentation, stretched.stretched) == ("Stretch+DANN", "standard", True)
    assert Arm.named("DANN").stretched is False
    assert [arm.name for arm in choose_arms(["DANN", "dann", "DANN+MMD"])] == ["DANN", "DANN+MMD"]
    style = Arm.named("dann+fourierstyle")
    assert (style.name, style.augmentation, style.painting) == ("FourierStyle+DANN", "fourier", "none")
    assert {"Default", "Augmentation", "GIN", "CDAN"} <= {arm.name for arm in choose_arms(["all"])}


@pytest.mark.parametrize(
    "name",
    ["Magic", "DANN+", "Default+DANN", "Default-DANN", "GIN+IntensityTransfer", "no.such.Method", "pathlib.Path"],
)
def test_a_bad_name_fails_before_any_training(domains: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "board"
    data = ["--source", str(domains / "ct"), "--target", str(domains / "mr"), "--output", str(output)]
    result = RUNNER.invoke(app, ["benchmark", "adaptation", *data, "--methods", f"DANN,{name}"])
    assert isinstance(result.exception, UserError)
    assert not output.exists()


def test_the_command_says_what_it_would_do(domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--source", str(domains / "ct"), "--target", str(domains / "mr"), "--device", "cpu"]
    result = RUNNER.invoke(app, ["benchmark", "adaptation", *data, "--seeds", "0,1", "--budget", "7", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "Default, Augmentation, MeanTeacher, DANN; 2 seed(s), 7 steps each." in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_an_arm_without_random_intensities_paints_measured_ones_alone(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=2)
    whole, bare, rigid = (
        make_arm(chosen, plan, tmp_path / name, Arm.named(name)).read("train")
        for name in ("Default", "Default-RandomIntensity", "Default-Stretch")
    )
    assert whole["source_stretch"] == "$stretch_by_builds(@anatomy#dataset)"
    assert rigid == {**whole, "source_stretch": 0.0}
    assert bare["intensities"] == {**whole["intensities"], "unknown": 0.0}
    assert {**bare, "intensities": None} == {**whole, "intensities": None}


def test_only_self_training_waits_for_its_labels(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=100)
    bundle = make_arm(chosen, plan, tmp_path / "both", Arm.named("DANN+SelfTraining"))
    parser = ConfigParser(bundle.read("train"))
    parser.get_parsed_content("imports")
    handlers = parser["train"]["handlers"]
    numbers = [n for n, handler in enumerate(handlers) if "StrengthSchedule" in str(handler)]
    schedules = [parser.get_parsed_content(f"train#handlers#{number}") for number in numbers]
    steered = [([type(method).__name__ for method in s.methods], s.warm_up, s.warm_up + s.ramp) for s in schedules]
    assert steered == [(["DANN"], 10, 40), (["SelfTraining"], 50, 50)]


def test_a_second_call_goes_on_where_the_first_stopped(domains: Path, tmp_path: Path) -> None:
    """Contents decide, not times of change: the data set may have been copied or restored in between."""
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=2)
    arms = choose_arms(["Augmentation", "AdaBN"])
    first = compare_methods(chosen, plan, tmp_path, arms=arms, seeds=[0])
    assert first.reused == 0
    assert set(first.runs) == {"source_only", "oracle", "Augmentation"}
    assert "batch normalisation" in first.failures["AdaBN"]
    page = report_comparison(first)
    report = json.loads(page.with_suffix(".json").read_text())
    assert set(report["methods"]) == {"Augmentation"}
    assert report["methods"]["Augmentation"]["peak_memory_mb"] > 0
    assert "data:image/png" in page.read_text()

    (tmp_path / "runs" / "oracle" / "seed_0" / "result.json").write_text('{"half": ')
    for image in (domains / "mr" / "images").iterdir():
        os.utime(image)
    again = compare_methods(chosen, plan, tmp_path, arms=arms[:1], seeds=[0])
    assert again.reused == 2
    assert again.runs["Augmentation"][0] == first.runs["Augmentation"][0]
    said: list[str] = []
    other = replace(plan, learning_rate=1e-3)
    changed = compare_methods(chosen, other, tmp_path, arms=arms[:1], seeds=[0], say=said.append)
    assert changed.reused == 0
    assert all("another configuration" in line for line in said)


def test_methods_of_batch_normalisation_train_with_a_network_that_has_it(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=2, network="unet_bn")
    names = ("AdaBN", "DomainSpecificBatchNorm")
    compared = compare_methods(chosen, plan, tmp_path, arms=choose_arms(names), seeds=[0])
    assert not compared.failures
    means = {}
    for arm in ("source_only", *names):
        weights = torch.load(compared.bundle(arm, 0).weights, weights_only=True)
        means[arm] = next(value for key, value in weights.items() if key.endswith("running_mean"))
    for name in names:
        assert not torch.equal(means[name], means["source_only"])


def test_a_target_without_labels_cannot_be_scored(domains: Path, tmp_path: Path) -> None:
    chosen = choose_domains(domains / "ct", domains / "mr" / "images")
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=2)
    with pytest.raises(UserError, match="--test"):
        compare_methods(chosen, plan, tmp_path, arms=choose_arms(["DANN"]))
