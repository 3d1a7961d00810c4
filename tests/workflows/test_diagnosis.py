"""Diagnosis from examinations to decisions, with real engines and real files."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from monai_transfer.bundle.diagnosis_plan import DiagnosisPlan
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.cli.app import app
from monai_transfer.engines import AdaptationTrainer
from monai_transfer.errors import Interrupted, UserError
from monai_transfer.inference import Segmenter
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.exam_split import choose_exams
from tests.weights.published import write_published

RUNNER = CliRunner()


def _blobs(root: Path, count: int = 20) -> Path:
    """Noise, half of the pictures with a bright square in it."""
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = rng.integers(0, 90, (40, 48)).astype(np.uint8)
        kind = ("clear", "=spot")[number % 2]
        if number % 2:
            x, y = rng.integers(4, 26, 2)
            picture[x : x + 10, y : y + 10] += 120
        path = root / kind / f"picture_{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _blobs(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="module")
def bundle(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained long enough to tell a square from noise; the finding is called ``=spot``, which no file may hold bare."""
    output = tmp_path_factory.mktemp("bundles") / "spots"
    arguments = ["train", "--task", "diagnosis", "--data", str(pictures), "--output", str(output)]
    result = RUNNER.invoke(app, [*arguments, "--steps", "40", "--size", "48", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    report = json.loads((output / "report.json").read_text())
    assert report["scores"]["auc"]["value"] >= 0.9
    assert report["temperature"] > 0
    assert len(report["thresholds"]) == 1
    return output


def test_a_training_leaves_a_whole_bundle(bundle: Path) -> None:
    made = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert {"report.html", "report.json", "docs/README.md", "models/model.pt", "eval/history.jsonl"} <= made
    train = json.loads((bundle / "configs" / "train.json").read_text())
    split = choose_exams(Path(train["dataset_dir"]))
    assert not set(split.training.patients) & set(split.held.patients)
    assert train["train_cases"] == list(split.training.names)


def test_plain_monai_says_the_same(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['monai_transfer'] = None\n"
        "from monai.bundle import run\n"
        f"run(config_file={str(bundle / 'configs' / 'inference.json')!r}, workflow_type='inference',"
        f" logging_file=False, meta_file={str(bundle / 'configs' / 'metadata.json')!r}, bundle_root={str(bundle)!r},"
        f" dataset_dir={str(pictures)!r}, output_dir={str(tmp_path)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    diagnoser = Diagnoser.from_bundle(bundle, device="cpu")
    rows = list(csv.reader((tmp_path / "predictions.csv").open()))
    assert len(rows) == 20
    for path, *told in rows[:6]:
        _, image = diagnoser.read([Path(path)])
        ours = diagnoser.probabilities(diagnoser.logits(image)[None])[0]
        assert [float(value) for value in told] == pytest.approx(list(ours), abs=1e-4)


def test_diagnose(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "broken.png").write_bytes(b"no picture")
    arguments = ["diagnose", str(pictures), str(tmp_path / "more"), "--bundle", str(bundle)]
    arguments += ["--output", str(tmp_path / "said"), "--device", "cpu"]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 1, result.output  # one input failed
    rows = list(csv.DictReader((tmp_path / "said" / "diagnosis.csv").open()))
    told = {row["name"]: row for row in rows}
    assert "'=spot" in rows[0]  # a spreadsheet must not take it for a formula
    assert told["broken"]["error"]
    right = sum(
        (row["decision"] == "'=spot") == (int(name[-2:]) % 2 == 1) for name, row in told.items() if name != "broken"
    )
    assert right >= 18
    heat = np.asarray(Image.open(told["picture_01"]["map"]))
    assert heat.shape == (40, 96, 3)
    assert (tmp_path / "said" / "explanation.html").read_text().count("data:image/png") == len(told) - 1
    record = json.loads((tmp_path / "said" / "diagnosis.json").read_text())
    assert record["images"][0]["probabilities"].keys() == {"clear", "=spot"}
    again = RUNNER.invoke(app, arguments)
    assert isinstance(again.exception, UserError)
    assert "--overwrite" in str(again.exception)


def test_diagnose_never_writes_among_its_inputs(bundle: Path, tmp_path: Path) -> None:
    """A map of ``maps/a.png`` would bear its name."""
    (tmp_path / "maps").mkdir()
    picture = tmp_path / "maps" / "a.png"
    Image.fromarray(np.arange(40 * 48, dtype=np.uint8).reshape(40, 48)).save(picture)
    before = picture.read_bytes()
    arguments = ["--bundle", str(bundle), "--device", "cpu"]
    inside = RUNNER.invoke(app, ["diagnose", str(picture), *arguments, "--output", str(tmp_path)])
    assert "lies in the output folder" in str(inside.exception)
    # among the inputs a second call would diagnose the maps of the first
    around = RUNNER.invoke(
        app, ["diagnose", str(tmp_path), *arguments, "--output", str(tmp_path / "maps"), "--overwrite"]
    )
    assert "choose an empty or new --output" in str(around.exception)
    assert picture.read_bytes() == before
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "maps", picture]


def test_evaluate(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--bundle", str(bundle), "--data", str(pictures), "--output", str(tmp_path)]
    result = RUNNER.invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["auc"]["low"] <= record["auc"]["value"] <= record["auc"]["high"]
    assert np.sum(record["confusion"]) == 20
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/svg") == 2
    assert len(list(csv.reader((tmp_path / "scores.csv").open()))) == 21


def test_new_cases_fine_tune_the_bundle(bundle: Path, tmp_path: Path) -> None:
    more = _blobs(tmp_path / "new", 12)
    arguments = ["finetune", "--task", "diagnosis", "--data", str(more), "--weights", str(bundle)]
    arguments += ["--output", str(tmp_path / "tuned"), "--steps", "4", "--freeze", "stem"]
    result = RUNNER.invoke(app, [*arguments, "--old-data", str(more), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "tuned" / "report.json").read_text())
    assert len(report["old"]) == 2
    loaded = json.loads((tmp_path / "tuned" / "eval" / "load_report.json").read_text())
    assert loaded["encoder_share"] == 1.0
    before, after = (torch.load(b / "models" / "model.pt", weights_only=True) for b in (bundle, tmp_path / "tuned"))
    assert torch.equal(before["conv1.weight"], after["conv1.weight"])
    assert not torch.equal(before["layer4.0.conv1.weight"], after["layer4.0.conv1.weight"])


@pytest.mark.slow
def test_label_efficiency_with_and_without_the_weights(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "curve"
    arguments = ["finetune", "--task", "diagnosis", "--data", str(pictures), "--weights", str(bundle)]
    arguments += ["--output", str(output), "--steps", "2", "--fractions", "20,100", "--device", "cpu", "--json"]
    result = RUNNER.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    runs = json.loads((output / "report.json").read_text())["label_efficiency"]
    assert [(run["arm"], run["exams"]) for run in runs] == [
        ("transfer", 2), ("scratch", 2), ("transfer", 12), ("scratch", 12),
    ]  # fmt: skip
    assert runs[2]["auc"] >= 0.9  # the weights know the squares
    rates = [
        json.loads((output / "comparison" / "12_exams" / "seed_0" / arm / "configs" / "finetune.json").read_text())
        for arm in ("transfer", "scratch")
    ]
    assert rates[0]["learning_rate"] < rates[1]["learning_rate"] == DiagnosisPlan.learning_rate
    assert "| 12 |" in (output / "label_efficiency.md").read_text()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "densenet121"])
def test_published_weights_cover_the_encoder(pictures: Path, tmp_path: Path, name: str) -> None:
    """A file as torchvision publishes it, three input channels and a thousand classes: the network follows it."""
    weights = write_published(f"torchvision_{name}", tmp_path)
    arguments = ["finetune", "--task", "diagnosis", "--data", str(pictures), "--weights", str(weights)]
    result = RUNNER.invoke(app, [*arguments, "--output", str(tmp_path / "out"), "--size", "48", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert f"{name} on images of 48" in result.stderr
    assert "100.0% of the encoder" in result.stderr
    assert not (tmp_path / "out").exists()


def test_volumes(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "ct", modality="ct", subjects=12, lesions=True, size=0.2)
    output = tmp_path / "bundle"
    arguments = ["train", "--task", "diagnosis", "--data", str(tmp_path / "ct"), "--output", str(output)]
    options = ["--steps", "3", "--spacing", "10", "--batch-size", "2", "--device", "cpu", "--mixup", "0.4"]
    result = RUNNER.invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    moved, *_ = json.loads((output / "configs" / "train.json").read_text())["random_transforms"]
    assert len(moved["translate_range"]) == 3
    assert "scale_range" not in moved  # sizes in mm are findings
    image = tmp_path / "ct" / "images" / "ct_001.nii.gz"
    arguments = ["diagnose", str(image), "--bundle", str(output), "--output", str(tmp_path / "said")]
    result = RUNNER.invoke(app, [*arguments, "--explain", "gradcam++"])
    assert result.exit_code == 0, result.output
    made, given = nib.load(tmp_path / "said" / "maps" / "ct_001.nii.gz"), nib.load(image)
    assert made.shape == given.shape
    np.testing.assert_allclose(made.affine, given.affine, atol=1e-4)
    wrong = RUNNER.invoke(app, ["segment", str(image), "--bundle", str(output), "--output", str(tmp_path / "no")])
    assert isinstance(wrong.exception, UserError)


def test_a_bundle_that_names_classes_does_not_segment(bundle: Path) -> None:
    with pytest.raises(UserError, match="diagnose"):
        Segmenter.from_bundle(bundle)
    segmenting = BundleFolder.create("segmentation_transfer", bundle.parent / "segmenting")
    with pytest.raises(UserError, match="names no classes"):
        Diagnoser.from_bundle(segmenting.root)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 0}, "temperature"),
        ({"thresholds": [0.1, 2.0]}, "thresholds"),
        ({"temperature": "$1"}, "temperature"),
    ],
)
def test_odd_values_in_a_bundle(bundle: Path, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    copy = BundleFolder.create(bundle, tmp_path / "copy")
    (copy.root / "models").mkdir()
    copy.weights.write_bytes((bundle / "models" / "model.pt").read_bytes())
    copy.change("inference", changes)
    with pytest.raises(UserError, match=said):
        Diagnoser.from_bundle(copy.root)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--spacing", "2"], "--size"),
        (["--network", "unet"], "resnet"),
        (["--cases", "a"], "--cases"),
        (["--sensitivity", "2"], "--sensitivity"),
        (["--label-smoothing", "1"], "--label-smoothing"),
    ],
)
def test_options_that_are_refused(pictures: Path, tmp_path: Path, options: list[str], said: str) -> None:
    arguments = ["train", "--task", "diagnosis", "--data", str(pictures), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=said):
        RUNNER.invoke(app, [*arguments, *options], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--task", "diagnosis", "--assume-affine"],
        ["train", "--focal", "2"],
        ["train", "--task", "diagnosis", "--channel-dropout", "0.5"],
        ["finetune", "--weights", "W", "--task", "diagnosis", "--allow-irregular"],
        ["finetune", "--weights", "W", "--sensitivity", "0.9"],
        ["adapt", "--source", "S", "--task", "diagnosis", "--assume-affine"],
    ],
)
def test_options_of_the_other_task_are_refused(arguments: list[str], tmp_path: Path) -> None:
    """They would do nothing, and nobody would know."""
    command, *options = arguments
    data = "--target" if command == "adapt" else "--data"
    result = RUNNER.invoke(app, [command, data, str(tmp_path), "--output", str(tmp_path / "out"), *options])
    option = [word for word in options if word.startswith("--")][-1]
    assert isinstance(result.exception, UserError), result.output
    assert str(result.exception).startswith(f"{option} is for ")
    assert not (tmp_path / "out").exists()


def test_a_training_that_was_cut_off_ends_with_the_bits_of_one_that_was_not(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(output: Path, *more: str) -> Result:
        arguments = ["train", "--task", "diagnosis", "--data", str(pictures), "--output", str(output), "--steps", "75"]
        return RUNNER.invoke(app, [*arguments, "--size", "32", "--device", "cpu", *more])

    assert train(tmp_path / "whole").exit_code == 0
    iteration = AdaptationTrainer._iteration

    def cut(trainer: AdaptationTrainer, engine: Any, batchdata: Any) -> Any:
        if trainer.state.iteration == 40:
            raise Interrupted("cut off", signal.SIGTERM)
        return iteration(trainer, engine, batchdata)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptationTrainer, "_iteration", cut)
        with pytest.raises(Interrupted):
            train(tmp_path / "cut")
    result = train(tmp_path / "cut", "--resume")
    assert result.exit_code == 0, result.output
    assert "goes on after step 25" in result.stderr
    whole, gone_on = (tmp_path / name / "models" / "model.pt" for name in ("whole", "cut"))
    assert whole.read_bytes() == gone_on.read_bytes()
