import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.strategy import L2SP_OF_KNOWN_LABELS, Strategy
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.finetuning import Baselines, finetune, plan_finetuning
from monai_transfer.workflows.finetuning_cases import LEAST_TO_CHOOSE, choose_finetuning_cases
from monai_transfer.workflows.finetuning_choice import LEAST_GAIN, choose_start
from monai_transfer.workflows.finetuning_report import comparison_figure, comparison_sentences, forgetting_sentence
from monai_transfer.workflows.finetuning_runs import Run, label_efficiency, share_counts, train_arm
from monai_transfer.workflows.finetuning_table import start_table, steps_to_reach
from monai_transfer.workflows.starting_point import StartingPoint, merged_labels, read_starting_point
from tests.weights.published import write_published

RUNNER = CliRunner()
TINY = {"device": "cpu", "steps": 4, "spacing": (9.0, 9.0, 9.0), "roi_size": (32, 32, 32), "batch_size": 2}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "mr"
    write_phantoms(folder, modality="mr", subjects=5, size=0.25)
    return folder


@pytest.fixture(scope="module")
def pretrained(phantoms: Path, tmp_path_factory) -> Path:
    """A bundle trained for a few steps."""
    output = tmp_path_factory.mktemp("base") / "bundle"
    steps = ["--steps", "4", "--spacing", "9"]
    result = RUNNER.invoke(app, ["train", "--data", str(phantoms), "--output", str(output), *steps])
    assert result.exit_code == 0, result.output
    return output


def weights_of(bundle: Path) -> dict[str, torch.Tensor]:
    return torch.load(bundle / "models" / "model.pt", weights_only=True)


@pytest.mark.parametrize(
    ("text", "epochs", "patience"),
    [("3", 3, None), ("2,4,8", (2, 4, 8), None), ("plateau:2", None, 2), ("plateau", None, 1), ("5,plateau:3", 5, 3)],
)
def test_unfreeze_option(text, epochs, patience):
    strategy = Strategy().unfreezing(text)
    assert (strategy.unfreeze_epochs, strategy.unfreeze_patience) == (epochs, patience)
    assert strategy.watches_validation == (patience is not None)


@pytest.mark.parametrize("text", ["x", "0", "plateau:0", "plateau:1,plateau:2", "-1"])
def test_wrong_unfreeze_option(text):
    with pytest.raises(UserError, match="--unfreeze"):
        Strategy().unfreezing(text)


def test_wrong_strategies():
    for wrong in ({"batch_norm": "off"}, {"layerwise_decay": 0.0}, {"dropout": 1.0}, {"l2sp": -1.0}):
        with pytest.raises(UserError):
            Strategy(**wrong)


def test_weights_that_know_every_label_are_held(phantoms, pretrained, tmp_path):
    """A network that segments the labels already forgets less; weights without the labels stay free."""
    cases = choose_finetuning_cases(phantoms, cases=["mr_001"], test_cases=["mr_005"], strategy=Strategy())
    known, unknown = (read_starting_point(str(path)) for path in (pretrained, pretrained / "models" / "model.pt"))
    strengths = []
    for number, start in enumerate((known, unknown)):
        plan = plan_finetuning(cases, start, **TINY)
        bundle = train_arm("transfer", cases, plan, start, Strategy(), tmp_path / str(number)).bundle
        strengths.append(bundle.read("finetune")["l2sp"])
    assert strengths == [L2SP_OF_KNOWN_LABELS, 0.0]
    assert not known.knows({0: "background", 1: "liver", 9: "heart"})
    assert Strategy(l2sp=0.5).holding(known=True).l2sp == 0.5
    assert Strategy().as_config()["l2sp"] == 0.0


def test_shares():
    assert share_counts([1, 5, 10, 100], 12) == [1, 12]
    assert share_counts([25, 50], 4) == [1, 2]
    with pytest.raises(UserError, match="--fractions"):
        share_counts([0], 4)


def test_labels_are_merged():
    start = StartingPoint("b", None, label_names={0: "background", 1: "liver"})
    assert merged_labels(start, {0: "background", 2: "spleen"}) == {0: "background", 1: "liver", 2: "spleen"}
    assert merged_labels(start, {1: "label_1"}) == {0: "background", 1: "liver"}
    with pytest.raises(UserError, match="'spleen' in the data and 'liver' in b"):
        merged_labels(start, {1: "spleen"})


def test_a_validation_score_that_decides_has_cases_of_its_own(phantoms):
    watching = choose_finetuning_cases(phantoms, strategy=Strategy().unfreezing("plateau:1"))
    assert watching.validation is not None
    assert watching.held is not None
    groups = [watching.training.names, watching.validation.names, watching.held.names]
    assert len({name for names in groups for name in names}) == sum(len(names) for names in groups) == 5
    free = choose_finetuning_cases(phantoms, strategy=Strategy())
    assert free.validation == free.held
    with pytest.raises(UserError, match="at least 3"):
        choose_finetuning_cases(
            phantoms, cases=["mr_00[12]"], test_cases=["mr_005"], strategy=Strategy(early_stop_patience=1)
        )


def test_a_bundle_gives_network_grid_and_labels(phantoms, pretrained):
    start = read_starting_point(str(pretrained))
    assert start.network == "unet"
    plan = plan_finetuning(choose_finetuning_cases(phantoms, strategy=Strategy()), start, device="cpu")
    assert plan.spacing == (9.0, 9.0, 9.0)
    assert plan.learning_rate == Plan.learning_rate
    assert plan.label_names[1] == "liver"
    with pytest.raises(UserError, match="--network resnet18 is not the network"):
        plan_finetuning(choose_finetuning_cases(phantoms, strategy=Strategy()), start, device="cpu", network="resnet18")


def test_frozen_levels_are_bitwise_those_of_the_weights(phantoms, pretrained, tmp_path):
    """Through the whole road: bundle, config, trainer, running average, saved model."""
    strategy = Strategy(frozen=("encoder",), l2sp=0.1, dropout=0.2)
    cases = choose_finetuning_cases(phantoms, strategy=strategy)
    start = read_starting_point(str(pretrained))
    plan = plan_finetuning(cases, start, device="cpu", steps=4)
    run = train_arm("transfer", cases, plan, start, strategy, tmp_path / "tuned")
    before, after = weights_of(pretrained), weights_of(tmp_path / "tuned")
    encoder = [name for name in before if not (name.startswith("model.2.") or ".submodule.2." in name)]
    assert encoder
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert not torch.equal(before["model.2.conv.weight"], after["model.2.conv.weight"])
    assert run.dice is not None
    assert run.curve
    report = json.loads((tmp_path / "tuned" / "eval" / "load_report.json").read_text())
    assert report["encoder_share"] == 1.0
    rates = [
        json.loads(line) for line in (tmp_path / "tuned" / "eval" / "learning_rates.jsonl").read_text().splitlines()
    ]
    assert rates[0]["levels"]["stem"] == 0.0
    assert rates[0]["levels"]["head"] > 0.0


def test_medicalnet_by_file(phantoms, tmp_path):
    """The network follows the file; every level of the strategy holds for it too."""
    path = write_published("medicalnet_resnet10", tmp_path)
    start = read_starting_point(str(path))
    assert start.network == "resnet10"
    strategy = Strategy(layerwise_decay=0.5, batch_norm="frozen_statistics", restore_lengths=False).unfreezing("1")
    cases = choose_finetuning_cases(phantoms, cases=["mr_00[12]"], test_cases=["mr_005"], strategy=strategy)
    plan = plan_finetuning(cases, start, **TINY)
    train_arm("transfer", cases, plan, start, strategy, tmp_path / "tuned")
    file = torch.load(path, weights_only=True)["state_dict"]["module.bn1.running_mean"]
    assert torch.equal(weights_of(tmp_path / "tuned")["encoder.bn1.running_mean"], file.contiguous())


def test_wrong_weights_fail_before_anything_is_made(phantoms, pretrained, tmp_path):
    path = write_published("torchvision_vgg16", tmp_path)
    arguments = ["--data", str(phantoms), "--weights", str(path), "--output", str(tmp_path / "out")]
    result = RUNNER.invoke(app, ["finetune", *arguments, "--network", "resnet10", "--steps", "2"])
    assert isinstance(result.exception, UserError)
    assert "looks like a torchvision ImageNet VGG-16" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_label_efficiency_is_nested_and_compared(phantoms, pretrained, tmp_path):
    strategy = Strategy()
    cases = choose_finetuning_cases(phantoms, strategy=strategy)
    start = read_starting_point(str(pretrained))
    plan = replace(plan_finetuning(cases, start, device="cpu"), steps=2)
    runs = label_efficiency(cases, plan, start, strategy, tmp_path, fractions=[25, 50], seeds=[3])
    assert [(run.arm, run.cases) for run in runs] == [("transfer", 1), ("scratch", 1), ("transfer", 2), ("scratch", 2)]
    chosen = [json.loads((run.bundle.root / "configs" / "train.json").read_text())["train_cases"] for run in runs]
    assert set(chosen[0]) == set(chosen[1]) < set(chosen[2]) == set(chosen[3])
    assert len(comparison_figure(runs).axes) == 3
    assert len(comparison_sentences(runs)) >= 2


def run_of(arm, dice, curve, cases=2, weights="w"):
    class Table:
        def mean(self, metric):
            return dice

    return Run(arm, cases, 0, None, Table(), curve, "" if arm == "scratch" else weights)


def test_negative_transfer_is_said():
    runs = [run_of("transfer", 0.6, [(10, 0.5), (20, 0.6)]), run_of("scratch", 0.7, [(10, 0.4), (20, 0.7)])]
    assert comparison_sentences(runs) == [
        "2 case(s): Dice 0.600 from w, 0.700 from scratch. Negative transfer: the weights cost 0.100.",
        "2 case(s): fine-tuning does not reach the final validation Dice from scratch (0.700).",
    ]
    runs = [run_of("transfer", 0.8, [(10, 0.7), (20, 0.8)]), run_of("scratch", 0.7, [(10, 0.4), (20, 0.7)])]
    assert comparison_sentences(runs)[1].endswith("after 10 of 20 steps.")
    assert steps_to_reach([(1, 0.1)], 0.2) is None


def test_one_table_of_several_starts():
    """Each start beside the twin of its seed, with the steps that it saves; scratch is trained once for all."""
    runs = [
        run_of("transfer", 0.8, [(10, 0.7), (20, 0.8)], cases=1, weights="a|b"),
        run_of("transfer", 0.6, [(10, 0.1), (20, 0.6)], cases=1, weights="shapes:unet"),
        run_of("scratch", 0.7, [(10, 0.4), (20, 0.7)], cases=1),
        run_of("transfer", 0.9, [(10, 0.7), (20, 0.9)], weights="a|b"),
    ]
    assert start_table(runs).splitlines() == [
        "| start, 1 seed(s) | Dice, 1 case(s) | change | steps | Dice, 2 case(s) | change | steps |",
        "|---|---|---|---|---|---|---|",
        "| scratch | 0.700 |  |  | – |  |  |",
        "| a\\|b | 0.800 | +0.100 | 10 of 20 | 0.900 | – | – |",
        "| shapes:unet | 0.600 | -0.100 | not in 20 | – | – | – |",
    ]
    assert len(comparison_sentences(runs)) == 2
    axes = comparison_figure(runs).axes
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["scratch", "a|b", "shapes:unet"]


def test_command_with_several_starts(phantoms, pretrained, tmp_path):
    arguments = ["--data", str(phantoms), "--weights", str(pretrained), "--output", str(tmp_path / "out")]
    options = ["--compare", "scratch", "--compare", "shapes:unet", "--fractions", "25", "--steps", "2"]
    result = RUNNER.invoke(app, ["finetune", *arguments, *options])
    assert result.exit_code == 0, result.output
    table = result.stdout[result.stdout.index("| start") :].splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:5]] == ["scratch", str(pretrained), "shapes:unet"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["weights"] for row in report["runs"]] == [str(pretrained), "shapes:unet", ""]
    folder = tmp_path / "out" / "comparison" / "1_cases" / "seed_0"
    assert {path.name for path in folder.iterdir()} == {"transfer", "2_shapes_unet", "scratch"}


def test_a_start_that_is_a_burden_on_validation_cases_of_its_own(phantoms):
    held = choose_finetuning_cases(phantoms, strategy=Strategy(), choose_start=True)
    assert len(held.training) < LEAST_TO_CHOOSE  # each is worth more in the training
    assert not held.decides
    watched = replace(held, training=held.training.only(["mr_001"]), validation=held.training.only(["mr_002"]))
    assert watched.decides
    worse = [run_of("transfer", 0.9, [(10, 0.60)]), run_of("scratch", 0.1, [(10, 0.62)])]
    assert choose_start(worse, held) is None
    choice = choose_start(worse, watched)
    assert choice is not None  # by the validation, whatever the held cases say
    assert (choice.kept, choice.cases) == ("scratch", ("mr_002",))
    alike = [run_of("transfer", 0.1, [(10, 0.60)]), run_of("scratch", 0.9, [(10, 0.604)])]
    assert choose_start(alike, watched).kept == "transfer"
    assert choose_start(alike[:1], watched) is None


def test_the_training_loss_decides_where_no_case_is_left_for_it(phantoms):
    held = choose_finetuning_cases(phantoms, strategy=Strategy(), choose_start=True)
    runs = [run_of("transfer", 0.1, []), run_of("scratch", 0.9, [])]
    assert choose_start(runs, held) is None  # nothing is known of their losses
    for saved, kept in ((LEAST_GAIN + 0.001, "transfer"), (LEAST_GAIN - 0.001, "scratch")):
        runs[0].loss, runs[1].loss = 0.5, 0.5 + saved
        choice = choose_start(runs, held)
        assert choice is not None
        assert choice.kept == kept
        assert choice.sentence.startswith("By the training loss the start is")
    assert choose_start(runs, held, Strategy(minimum_share=0.5)) is not None
    assert choose_start(runs, held, Strategy(dropout=0.5)) is None  # dropout raises the loss of one of them alone


def test_the_bundle_keeps_scratch_where_that_is_better(phantoms, pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr("monai_transfer.workflows.finetuning_cases.LEAST_TO_CHOOSE", 4)
    monkeypatch.setattr("monai_transfer.workflows.finetuning_choice.MARGIN", -1.0)
    cases = choose_finetuning_cases(phantoms, strategy=Strategy(), choose_start=True)
    start = read_starting_point(str(pretrained))
    plan = plan_finetuning(cases, start, device="cpu", steps=2)
    result = finetune(cases, plan, start, Strategy(), tmp_path / "out", baselines=Baselines(scratch=True))
    assert result.report["choice"]["kept"] == "scratch"
    assert any("the bundle keeps scratch" in sentence for sentence in result.sentences)
    kept, twin = weights_of(tmp_path / "out"), weights_of(tmp_path / "out" / "comparison" / "seed_0")
    assert all(torch.equal(kept[name], twin[name]) for name in kept)
    assert (tmp_path / "out" / "models" / "transfer.pt").is_file()
    again = finetune(cases, plan, start, Strategy(), tmp_path / "out", baselines=Baselines(scratch=True), resume=True)
    assert [run.dice for run in again.runs] == [run.dice for run in result.runs]


def test_forgetting_is_said():
    before, after = run_of("transfer", 0.8, []).table, run_of("transfer", 0.7, []).table
    assert forgetting_sentence(before, after) == "Old cases: Dice fell from 0.800 to 0.700: 0.100 was forgotten."
    assert forgetting_sentence(after, before).endswith("nothing was forgotten.")


def test_command_with_comparison_and_old_cases(phantoms, pretrained, tmp_path):
    arguments = ["--data", str(phantoms), "--weights", str(pretrained), "--output", str(tmp_path / "out")]
    options = ["--steps", "2", "--unfreeze", "1", "--compare", "scratch", "--old-data", str(phantoms), "--json"]
    result = RUNNER.invoke(app, ["finetune", *arguments, *options, "--old-cases", "mr_001"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert {row["arm"] for row in content["runs"]} == {"transfer", "scratch"}
    assert set(content["old_cases"]) == {"before", "after"}
    folder = tmp_path / "out"
    for name in ("report.json", "report.html", "comparison.png", "models/model.pt", "docs/README.md"):
        assert (folder / name).is_file(), name
    scratch = json.loads((folder / "comparison" / "seed_0" / "configs" / "finetune.json").read_text())
    assert scratch["weights"] == ""
    assert scratch["frozen"] == []


def test_joint_training_on_two_labelled_sets(phantoms, pretrained, tmp_path):
    """Both losses are in the history, and the second set's weight is in the total."""
    write_phantoms(tmp_path / "ct", modality="ct", subjects=3, size=0.25)
    arguments = ["--data", str(phantoms), "--weights", str(pretrained), "--output", str(tmp_path / "out")]
    options = ["--joint", str(tmp_path / "ct"), "--joint-weight", "0.5", "--joint-cases", "ct_00[12]", "--steps", "2"]
    result = RUNNER.invoke(app, ["finetune", *arguments, *options])
    assert result.exit_code == 0, result.output
    line = json.loads((tmp_path / "out" / "eval" / "history.jsonl").read_text().splitlines()[-1])
    assert set(line["losses"]) == {"source/supervised", "joint/supervised", "l2sp"}
    config = json.loads((tmp_path / "out" / "configs" / "finetune.json").read_text())
    assert config["joint_modality"] == "ct"
    assert config["joint_cases"] == ["ct_001", "ct_002"]
    assert config["joint_weight"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--joint", "{phantoms}", "--joint-weight", "0"], "--joint-weight 0"),
        (["--compare", "nothing"], "--compare nothing"),
        (["--fractions", "a"], "--fractions a"),
        (["--freeze", "bottom", "--dry-run"], ""),
        (["--batch-norm", "off"], "--batch-norm off"),
    ],
)
def test_wrong_options(phantoms, pretrained, tmp_path, options, words):
    arguments = ["--data", str(phantoms), "--weights", str(pretrained), "--output", str(tmp_path / "out")]
    options = [option.format(phantoms=phantoms) for option in options]
    result = RUNNER.invoke(app, ["finetune", *arguments, *options])
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)


def test_dry_run_makes_nothing(phantoms, pretrained, tmp_path):
    arguments = ["--data", str(phantoms), "--weights", str(pretrained), "--output", str(tmp_path / "out")]
    result = RUNNER.invoke(app, ["finetune", *arguments, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out").exists()


def test_library_call_with_shares(phantoms, pretrained, tmp_path):
    """The command's orchestration as one call: the share's runs are reported, and what they are compared with."""
    strategy = Strategy()
    cases = choose_finetuning_cases(phantoms, strategy=strategy)
    start = read_starting_point(str(pretrained))
    plan = replace(plan_finetuning(cases, start, device="cpu"), steps=2)
    said: list[str] = []
    shares = Baselines(fractions=(25,))
    result = finetune(cases, plan, start, strategy, tmp_path / "out", baselines=shares, say=said.append)
    assert [(run.arm, run.cases) for run in result.runs] == [("transfer", 1), ("scratch", 1)]
    assert result.report == json.loads((tmp_path / "out" / "report.json").read_text()) | {"runs": result.report["runs"]}
    assert result.sentences[-1] == f"Bundle: {tmp_path / 'out'}"
    assert len(said) == 3
    with pytest.raises(UserError, match="not empty"):
        finetune(cases, plan, start, strategy, tmp_path / "out")


def test_seeds_that_leave_the_range_are_found_first(phantoms, pretrained, tmp_path):
    cases = choose_finetuning_cases(phantoms, strategy=Strategy())
    start = read_starting_point(str(pretrained))
    plan = plan_finetuning(cases, start, device="cpu", steps=2, seed=2**31 - 1)
    with pytest.raises(UserError, match="--seed 2147483648"):
        finetune(cases, plan, start, Strategy(), tmp_path / "out", baselines=Baselines(scratch=True, seeds=2))
    weights = replace(start, bundle=None)
    with pytest.raises(UserError, match="--old-data needs --weights"):
        finetune(cases, plan, weights, Strategy(), tmp_path / "out", old=cases.training)
    assert not (tmp_path / "out").exists()
