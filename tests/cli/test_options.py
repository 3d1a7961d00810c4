"""Every option out of range is refused in one sentence that names it, before anything is read or written."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_transfer import machine
from monai_transfer.cli.app import main

TRAIN = ("train", "--data", "absent", "--output", "out")
FINETUNE = ("finetune", "--data", "absent", "--weights", "absent.pt", "--output", "out")
ADAPT = ("adapt", "--source", "absent", "--target", "absent", "--output", "out")
SOURCE_FREE = ("adapt", "--bundle", "absent", "--target", "absent", "--output", "out")
TRANSLATE = ("translate", "--source", "absent", "--target", "absent", "--output", "out")
SEGMENT = ("segment", "absent.nii.gz", "--bundle", "absent", "--output", "out")
EVALUATE = ("evaluate", "--data", "absent", "--bundle", "absent", "--output", "out")
PHANTOM = ("phantom", "--modality", "ct", "--output", "out")
SCOREBOARD = ("benchmark", "adaptation", "--source", "absent", "--target", "absent", "--output", "out")
INFERENCE = ("benchmark", "inference", "--output", "out")
STEP = ("benchmark", "training", "--output", "out")
PRETRAIN = ("pretrain", "--output", "out")
DEMO = ("demo", "--output", "out")
VERIFY = ("weights", "verify", "absent.pt", "--network", "resnet18")

PLANNED = {
    "--spacing": ("nan", "inf", "0.001", "100", "0", "-1", "1,2", "x", "1,1,nan"),
    "--batch-size": ("0", "-1", "1000000"),
    "--learning-rate": ("-1", "nan", "inf", "0"),
    "--seed": ("-1", str(2**70), "x"),
    "--steps": ("0", "-5", "1e12", "1000000000000"),
    "--network": ("resnet7", "$foo"),
    "--device": ("foo", "cuda:99", "cuda", "cpu:1x"),
}
BAD = [
    *((TRAIN, option, value) for option, values in PLANNED.items() for value in values),
    *((command, option, values[0]) for option, values in PLANNED.items() for command in (FINETUNE, ADAPT)),
    *((command, "--minutes", value) for command in (TRAIN, ADAPT) for value in ("0", "nan", "1e6")),
    *((FINETUNE, "--fractions", value) for value in ("200", "nan", "0", "10,x", "-1")),
    *((FINETUNE, "--seeds", value) for value in ("0", "-1", "1000000")),
    *((FINETUNE, "--l2sp", value) for value in ("nan", "inf", "-1")),
    *((FINETUNE, "--weight-decay", value) for value in ("nan", "-1")),
    *((FINETUNE, "--layerwise-decay", value) for value in ("0", "2", "nan")),
    *((FINETUNE, "--head-factor", value) for value in ("0", "inf")),
    *((FINETUNE, "--dropout", value) for value in ("1", "-0.1", "nan")),
    *((FINETUNE, "--early-stop", value) for value in ("0", "-3")),
    *((FINETUNE, "--minimum", value) for value in ("2", "-1", "nan")),
    *((FINETUNE, "--joint-weight", value) for value in ("nan", "0", "inf")),
    *((FINETUNE, "--unfreeze", value) for value in ("0", "x", "plateau:0")),
    (FINETUNE, "--batch-norm", "off"),
    (FINETUNE, "--compare", "nothing"),
    *((command, "--precision", value) for command in (TRAIN, FINETUNE, ADAPT) for value in ("float16", "double")),
    *((PRETRAIN, "--precision", value) for value in ("float16", "half")),
    *((ADAPT, "--jobs", value) for value in ("0", "-2", "9999")),
    *((ADAPT, "--body-scale", value) for value in ("0", "nan", "10")),
    (ADAPT, "--method", "Magic"),
    (ADAPT, "--method", "os.system"),
    *((SOURCE_FREE, "--steps", value) for value in ("0", "-1")),
    *((SOURCE_FREE, "--learning-rate", value) for value in ("nan", "-1")),
    (SOURCE_FREE, "--seed", "-1"),
    (SOURCE_FREE, "--device", "foo"),
    *((TRANSLATE, option, value) for option, value in (("--width", "1"), ("--steps", "0"), ("--spacing", "nan"))),
    *((SEGMENT, "--smallest-ml", value) for value in ("nan", "-1", "inf")),
    *((SEGMENT, "--batch", value) for value in ("0", "1000000")),
    (SEGMENT, "--precision", "double"),
    (SEGMENT, "--device", "foo"),
    *((EVALUATE, "--tolerance", value) for value in ("-1", "nan", "inf")),
    (EVALUATE, "--device", "foo"),
    *((PHANTOM, "--subjects", value) for value in ("0", "100000000")),
    *((PHANTOM, "--size", value) for value in ("nan", "0", "1000")),
    (PHANTOM, "--first", "0"),
    (PHANTOM, "--seed", "-1"),
    (PHANTOM, "--modality", "pet"),
    *((SCOREBOARD, "--seeds", value) for value in ("x", "-1", ",", "0,0", "3,1,3")),
    *((PRETRAIN, "--recipe", value) for value in ("x", "", "Masked")),
    *((PRETRAIN, "--minutes", value) for value in ("nan", "-1", "inf")),
    *((PRETRAIN, "--length", value) for value in ("33", "0", "100000")),
    (SCOREBOARD, "--methods", "Magic"),
    (SCOREBOARD, "--steps", "0"),
    *((INFERENCE, "--shape", value) for value in ("1,2", "0,4,4", "4096,4096,4096", "a,b,c")),
    *((INFERENCE, "--spacing", value) for value in ("nan,1,1", "0,1,1")),
    *((INFERENCE, option, "-1") for option in ("--classes", "--overlap", "--roi", "--steps", "--threads", "--seed")),
    *((INFERENCE, option, "foo") for option in ("--backbone", "--mode", "--device")),
    *((STEP, option, "0") for option in ("--roi", "--batch-size", "--classes", "--steps")),
    *((STEP, option, "foo") for option in ("--network", "--methods", "--device")),
    *((DEMO, option, value) for option, value in (("--steps", "0"), ("--device", "foo"), ("--seed", "-1"))),
    *((VERIFY, option, "-1") for option in ("--minimum", "--spatial-dims", "--in-channels")),
]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in an empty folder that must stay empty, and return its one sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test's own process keeps its handlers

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        printed = capsys.readouterr()
        assert stopped.value.code == 2, printed.err
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1, printed.err
        assert list(tmp_path.iterdir()) == []
        return printed.err

    return run


@pytest.mark.parametrize(
    ("command", "option", "value"), BAD, ids=[" ".join((*c[: 1 + (c[0] == "benchmark")], o, v)) for c, o, v in BAD]
)
def test_a_value_out_of_range_is_refused(
    refused: Callable[..., str], command: tuple[str, ...], option: str, value: str
) -> None:
    sentence = refused(*command, option, value)
    # the data, weights and bundles named do not exist: had they been looked for, the sentence would be about them
    assert option in sentence or (option == "--methods" and "--method" in sentence)
    assert "absent" not in sentence


@pytest.mark.parametrize("command", [TRAIN, FINETUNE, ADAPT, SOURCE_FREE, TRANSLATE, SCOREBOARD])
def test_a_dry_run_checks_the_same(refused: Callable[..., str], command: tuple[str, ...]) -> None:
    assert "--steps 0" in refused(*command, "--steps", "0", "--dry-run")


@pytest.mark.parametrize("command", [TRAIN, ADAPT])
def test_steps_or_minutes(refused: Callable[..., str], command: tuple[str, ...]) -> None:
    assert "--steps is decided by --minutes" in refused(*command, "--steps", "100", "--minutes", "5")


@pytest.mark.parametrize("arguments", [("train",), ("train", "--nonsense"), ("nonsense",), ("bundles", "nonsense")])
def test_wrong_usage_is_one_sentence(refused: Callable[..., str], arguments: tuple[str, ...]) -> None:
    refused(*arguments)


def test_memory_is_estimated_before_it_is_taken(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda device=None: 10**6)
    sentence = refused(*INFERENCE, "--shape", "512,512,200")
    assert "--shape" in sentence
    assert "GB" in sentence


def test_version_and_debug_are_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for arguments, words in ((("--version",), "monai-transfer 0."), (("--help",), "--debug")):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code in (0, None)
        assert words in capsys.readouterr().out
