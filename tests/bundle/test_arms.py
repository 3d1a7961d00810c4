from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn.functional import cosine_similarity

from monai_transfer.bundle.arms import KEPT_STARTS, ORACLE, SOURCE_ONLY, Arm, describe_start
from monai_transfer.bundle.configs import adaptation_configs, make_arm
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains, choose_domains, plan_adaptation
from monai_transfer.finetuning import start_from
from monai_transfer.phantoms import write_phantoms

SPEC = "shapes:unet"


@pytest.fixture
def ready(tmp_path: Path) -> tuple[Domains, Plan]:
    write_phantoms(tmp_path / "ct", modality="ct", subjects=3, size=0.2)
    write_phantoms(tmp_path / "mr", modality="mr", subjects=1, size=0.2)
    where = choose_domains(tmp_path / "ct", tmp_path / "mr")
    return where, plan_adaptation(where, device="cpu", spacing=[16.0] * 3, steps=2).with_options(weights=SPEC)


def test_only_source_only_is_held_and_only_to_weights_that_know_no_modality(ready: tuple[Domains, Plan]) -> None:
    where, plan = ready

    def is_held(arm: Arm, weights: str) -> bool:
        train = adaptation_configs(replace(plan, weights=weights), where, arm)["train"]
        return "start_share" in train and "AverageWithStart" in str(train["train"]["handlers"])

    assert is_held(SOURCE_ONLY, SPEC)
    assert not any(is_held(SOURCE_ONLY, weights) for weights in ("", "other.pt", "medicalnet:resnet18"))
    assert not any(is_held(arm, SPEC) for arm in (ORACLE, Arm("adapted"), Arm.named("Augmentation")))


def test_what_is_saved_lies_between_the_start_and_the_end(ready: tuple[Domains, Plan], tmp_path: Path) -> None:
    where, plan = ready
    saved = {}
    for share in (0.0, 0.5, 1.0):
        bundle = make_arm(where, plan, tmp_path / f"share_{share}", SOURCE_ONLY)
        bundle.run("train", device=plan.device, start_share=share)
        saved[share] = torch.load(bundle.weights, weights_only=True)
    network = ConfigParser({"n": bundle.read("inference")["network_def"]}).get_parsed_content("n")
    report = start_from(network, SPEC, label_names=plan.class_names)
    assert report is not None
    for name, end in saved[0.0].items():
        torch.testing.assert_close(saved[0.5][name], (saved[1.0][name] + end) / 2)
        if name in report.loaded_names:
            # kernels were brought to the length of fresh ones, which are never quite as long as those of this network
            assert cosine_similarity(saved[1.0][name].flatten(), network.state_dict()[name].flatten(), dim=0) > 0.999999
        else:  # the head has no start
            assert torch.equal(saved[1.0][name], end)
    assert not torch.equal(saved[0.0]["model.0.conv.weight"], saved[1.0]["model.0.conv.weight"])


def test_the_rates_fall_towards_the_input(ready: tuple[Domains, Plan]) -> None:
    where, plan = ready
    parser = ConfigParser(adaptation_configs(plan, where, SOURCE_ONLY)["train"])
    parser.get_parsed_content("imports")
    groups = parser.get_parsed_content("optimizer").param_groups
    rates = [group["initial_lr"] if "initial_lr" in group else group["lr"] for group in groups]
    decay = KEPT_STARTS[SPEC].layerwise_decay
    assert rates == pytest.approx([plan.learning_rate * decay**power for power in (5, 4, 3, 2, 1, 0, 0)])


def test_the_start_is_told_with_what_is_kept_of_it() -> None:
    assert describe_start("") == "fresh weights"
    assert describe_start(SPEC).startswith("shapes:unet, the same for every arm; source-only: layer-wise decay 0.5;")
