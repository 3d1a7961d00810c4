"""A diagnosis that is adapted to pictures without labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from monai_transfer.adaptation import CDAN, DANN, MMD, AdaBN, DeepCORAL, EntropyMinimization, MeanTeacher, Outputs
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.workflows.diagnosis_adaptation import choose_diagnosis_domains
from monai_transfer.workflows.diagnosis_comparison import DiagnosisComparison

RUNNER = CliRunner()


def _pictures(root: Path, *, dark: bool, seed: int, labelled: bool = True) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(12):
        picture = rng.integers(0, 90, (36, 36)).astype(np.uint8)
        if number % 2:
            picture[8:20, 8:20] += 120
        path = root / (("clear", "spot")[number % 2] if labelled else ".") / f"picture_{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - picture if dark else picture).save(path)
    return root


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("domains")
    return _pictures(root / "bright", dark=False, seed=0), _pictures(root / "dark", dark=True, seed=1)


@pytest.mark.parametrize(
    "method",
    [DANN(in_channels=8), CDAN(in_channels=8, classes=2), DeepCORAL(), MMD(), EntropyMinimization(), AdaBN()],
    ids=lambda method: type(method).__name__,
)
def test_methods_take_one_answer_per_image(method: torch.nn.Module) -> None:
    def outputs() -> Outputs:
        return Outputs(torch.randn(3, 2, requires_grad=True), (torch.randn(3, 8, 4, 4, requires_grad=True),))

    losses = method.losses({"source": outputs(), "target": outputs()}, {})
    assert all(torch.isfinite(loss) and loss.ndim == 0 for loss in losses.values())


def test_a_mean_teacher_of_classes() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    method = MeanTeacher(classes=2)
    method.prepare(network)
    image = torch.rand(3, 1, 4, 4)
    loss = method.losses({"target": Outputs(network(image))}, {"target": {"image": image, "weak": image}})[
        "consistency"
    ]
    loss.backward()
    assert torch.isfinite(loss)


def test_source_only_adapted_and_oracle(domains: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = domains
    arguments = ["adapt", "--task", "diagnosis", "--source", str(source), "--target", str(target)]
    options = ["--method", "DANN", "--method", "MeanTeacher", "--steps", "2", "--batch-size", "2", "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["scores"]) == {"source_only", "adapted", "oracle"}
    assert report["kept"] in ("source_only", "adapted")
    assert (tmp_path / "out" / "models" / "adapted.pt").is_file() == (report["kept"] == "source_only")
    line = json.loads((tmp_path / "out" / "eval" / "history.jsonl").read_text().splitlines()[-1])
    assert {"source/supervised", "consistency"} <= set(line["losses"])
    train = json.loads((tmp_path / "out" / "comparison" / "oracle" / "configs" / "train.json").read_text())
    assert train["dataset_dir"] == str(target.resolve())


def test_patients_of_the_test_are_learnt_by_nobody(domains: tuple[Path, Path]) -> None:
    chosen = choose_diagnosis_domains(*domains)
    assert chosen.test is not None
    assert not set(chosen.test.patients) & set(chosen.target.patients)


def test_a_target_without_labels_is_not_scored(domains: tuple[Path, Path], tmp_path: Path) -> None:
    blank = _pictures(tmp_path / "blank", dark=True, seed=2, labelled=False)
    assert choose_diagnosis_domains(domains[0], blank).test is None


@pytest.mark.parametrize("options", [["--bundle", "b"], ["--source-cases", "a"], ["--method", "nothing"]])
def test_options_that_are_refused(domains: tuple[Path, Path], tmp_path: Path, options: list[str]) -> None:
    arguments = ["adapt", "--task", "diagnosis", "--source", str(domains[0]), "--target", str(domains[1])]
    with pytest.raises(UserError, match=options[0]):
        CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out"), *options], catch_exceptions=False)


def _printed(output: str) -> Any:
    return json.loads(output[output.index("{\n") :])  # under pytest MONAI's log comes before it


@pytest.mark.slow
def test_methods_side_by_side(domains: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = map(str, domains)
    arguments = ["benchmark", "adaptation", "--task", "diagnosis", "--source", source, "--target", target]
    options = [
        "--methods",
        "AdaBN,tent",
        "--seeds",
        "0,1",
        "--steps",
        "1",
        "--output",
        str(tmp_path / "table"),
        "--json",
    ]
    result = RUNNER.invoke(app, [*arguments, *options, "--device", "cpu"], catch_exceptions=False)
    record = _printed(result.stdout)
    assert {arm: len(values) for arm, values in record["areas"].items()} == dict.fromkeys(
        ["source-only", "AdaBN", "TENT", "oracle"], 2
    )
    table = (tmp_path / "table" / "comparison.md").read_text()
    assert table.startswith("| arm | AUC, 2 seed(s) |")
    weights = tmp_path / "table" / "runs" / "AdaBN" / "seed_1" / "models" / "model.pt"
    before = weights.stat().st_mtime_ns
    again = RUNNER.invoke(app, [*arguments, *options, "--device", "cpu"], catch_exceptions=False)
    assert _printed(again.stdout)["areas"] == record["areas"]
    assert weights.stat().st_mtime_ns == before  # what is finished is kept


@pytest.mark.slow
def test_a_trained_bundle_is_adapted_to_images_alone(domains: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = map(str, domains)
    train = ["train", "--task", "diagnosis", "--data", source, "--output", str(tmp_path / "old"), "--size", "32"]
    assert RUNNER.invoke(app, [*train, "--steps", "2", "--device", "cpu"], catch_exceptions=False).exit_code == 0
    before = (tmp_path / "old" / "models" / "model.pt").read_bytes()
    adapt = ["adapt", "--task", "diagnosis", "--bundle", str(tmp_path / "old"), "--target", target, "--device", "cpu"]
    with pytest.raises(UserError, match="--method goes with --source"):
        RUNNER.invoke(app, [*adapt, "--output", str(tmp_path / "x"), "--method", "DANN"], catch_exceptions=False)
    options = ["--output", str(tmp_path / "new"), "--steps", "2", "--json"]
    report = _printed(RUNNER.invoke(app, [*adapt, *options], catch_exceptions=False).stdout)
    assert report["after"]["auc"]["value"] >= 0
    assert (tmp_path / "old" / "models" / "model.pt").read_bytes() == before
    assert report["kept"] == ((tmp_path / "new" / "models" / "model.pt").read_bytes() != before)
    assert json.loads((tmp_path / "new" / "report.json").read_text())["kept"] == report["kept"]


def test_a_comparison_that_helps_nobody_says_so() -> None:
    made = DiagnosisComparison({"source-only": (0.7, 0.6), "DANN": (0.65, 0.66)}, seeds=(0, 1), test="mr")
    assert made.sentences[0].startswith("No method is better than source-only")
    assert made.share("DANN") is None
    assert "Worse" not in " ".join(made.sentences)


@pytest.mark.parametrize(("options", "said"), [(["--pairs", "p.toml"], "--pairs is for"), ([], "Give --source")])
def test_what_a_comparison_of_diagnoses_refuses(options: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        RUNNER.invoke(app, ["benchmark", "adaptation", "--task", "diagnosis", *options], catch_exceptions=False)
