"""The step is compared with exactly the passes that it needs."""

import json

import pytest
from typer.testing import CliRunner

from monai_transfer.benchmarks.step_cost import StepSettings, default_methods, step_costs
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError


def test_the_passes_are_those_that_the_methods_need() -> None:
    names = ("SourceOnly", "DANN", "MeanTeacher", "OutputAdversarial", "SelfTraining", "DANN+MeanTeacher", "AdaBN")
    report = step_costs(StepSettings(networks=("unet",), methods=names, roi=32, batch_size=1, steps=1))
    methods = report["networks"]["unet"]
    assert methods["SourceOnly"]["passes"] == ["logits"]
    assert methods["DANN"]["passes"] == ["logits", "features"]
    assert methods["OutputAdversarial"]["passes"] == methods["SelfTraining"]["passes"] == ["logits", "logits"]
    assert methods["MeanTeacher"]["passes"] == methods["DANN+MeanTeacher"]["passes"] == ["logits", "logits", "none"]
    judged = {name: entry.get("discriminator_passes") for name, entry in methods.items()}
    assert judged["DANN"] == judged["OutputAdversarial"] == judged["DANN+MeanTeacher"] == 2
    assert judged["SourceOnly"] == judged["MeanTeacher"] == judged["SelfTraining"] == 0
    assert "batch normalisation" in methods["AdaBN"]["error"]
    measured = [entry["overhead"] for entry in methods.values() if entry["overhead"]]
    assert report["overhead"] == max(measured) > 0


def test_methods_of_normalisation_need_no_backward_pass_of_the_target() -> None:
    names = ("AdaBN", "DomainSpecificBatchNorm")
    report = step_costs(StepSettings(networks=("unet_bn",), methods=names, roi=32, batch_size=1, steps=1))
    assert [entry["passes"] for entry in report["networks"]["unet_bn"].values()] == [["logits", "none"]] * 2


def test_the_command_prints_json() -> None:
    command = ["benchmark", "training", "--network", "unet", "--methods", "DANN", "--roi", "32", "--steps", "1"]
    result = CliRunner().invoke(app, [*command, "--batch-size", "1", "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["overhead"] > 0


@pytest.mark.parametrize("wrong", [{"methods": ("Magic",)}, {"networks": ("resnet7",)}])
def test_a_bad_name_fails_before_any_measurement(wrong: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UserError):
        step_costs(StepSettings(**wrong), say=lambda text: pytest.fail(text))


def test_by_default_every_method_is_measured_that_the_small_network_can_train() -> None:
    assert {"DANN", "MeanTeacher", "SourceOnly"} <= set(default_methods())
    assert "AdaBN" not in default_methods()
