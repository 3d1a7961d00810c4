"""Trainings in processes of their own that are killed at random moments, and compared bit for bit.

The processes are forks of one that has imported everything, so that a kill costs a training and not an import. A moment
is a share of the processor time that the whole training takes: it may fall into a step, a validation, the reading of
the data, or the writing of a state.

``python -m tests.workflows.kills FOLDER KILLS [TRAINING…]`` prints the table of docs/resuming.md. It has to be a
process of its own: torch refuses to compute gradients in the fork of a process that has computed some.
"""

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.configs import finetuning_configs, make_arm
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.methods import method_definitions
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.errors import Interrupted
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.adaptation import choose_domains, plan_adaptation
from monai_transfer.workflows.finetuning import plan_finetuning
from monai_transfer.workflows.finetuning_cases import choose_finetuning_cases
from monai_transfer.workflows.finetuning_runs import network_of
from monai_transfer.workflows.starting_point import read_starting_point
from monai_transfer.workflows.training import choose_cases, plan_training, prepare_bundle

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SMALL: dict[str, Any] = {"max_epochs": 6, "steps_per_epoch": 2, "network_def#channels": [4, 8, 8, 8, 8]}
"""Many epochs of few steps, so that there are as many seams as in a training of 150 steps, and a thin network."""

Make = Callable[[Path], tuple[BundleFolder, tuple[str, ...]]]
"""Makes the bundle of a training, or takes the unfinished one, and says by which configurations it is trained."""


@dataclass
class Tally:
    """What came of the kills of one training.

    Attributes:
        name: of the training.
        kills: signal -> how often it ended a process.
        resumed: trainings that were cut off at least once and then ended.
        equal: how many of them ended with the bits of the uninterrupted one.
    """

    name: str
    kills: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SIGNALS, 0))
    resumed: int = 0
    equal: int = 0


def trainings(folder: Path) -> dict[str, Make]:
    """The trainings by name, on small phantoms that are written to ``folder``."""
    for modality, seed in (("ct", 0), ("mr", 100)):
        write_phantoms(folder / modality, modality=modality, subjects=4, seed=seed, size=0.3)  # type: ignore[arg-type]
    options = {"device": "cpu", "spacing": (16.0, 16.0, 16.0), "seed": 0}

    def train(output: Path) -> tuple[BundleFolder, tuple[str, ...]]:
        split = choose_cases(folder / "ct")
        plan = plan_training(split, **options)
        return prepare_bundle(split, plan, output, resume=True), ("train",)

    def finetune(output: Path) -> tuple[BundleFolder, tuple[str, ...]]:
        strategy = Strategy(frozen=("stem",), early_stop_patience=5, l2sp=0.01, dropout=0.1).unfreezing("2")
        start = read_starting_point(str(folder / "start"))
        cases = choose_finetuning_cases(folder / "mr", strategy=strategy)
        plan = plan_finetuning(cases, start, **options)
        configs = finetuning_configs(
            plan,
            cases.training,
            definition=network_of(start, plan, channels=1),
            strategy=strategy,
            weights=start.spec,
            learning_rate=plan.learning_rate,
            validation=cases.validation,
            every_epoch=True,
        )
        return BundleFolder.create("segmentation_transfer", output, configs=configs, resume=True), ("train", "finetune")

    def adapt(*methods: str) -> Make:
        definitions = method_definitions(methods)
        arm = Arm("adapted", None if definitions is None else tuple(definitions))

        def make(output: Path) -> tuple[BundleFolder, tuple[str, ...]]:
            domains = choose_domains(folder / "ct", folder / "mr")
            plan = plan_adaptation(domains, **options)
            return make_arm(domains, plan, output, arm, resume=True), ("train",)

        return make

    start, _ = train(folder / "start")
    # built and not run, it makes MONAI import all that the forks will need
    files = [str(start.root / "configs" / "train.json")]
    ConfigWorkflow(
        files, workflow_type="train", logging_file=False, bundle_root=str(start.root), **SMALL
    ).parser.get_parsed_content("train#trainer")
    _in_a_fork(lambda: start.run("train", device=torch.device("cpu"), **SMALL))
    return {
        "train": train,
        "finetune": finetune,
        "adapt, the default recipe": adapt(),
        "adapt --method DANN": adapt("DANN"),
        "adapt --method MeanTeacher": adapt("MeanTeacher"),
    }


def count_kills(name: str, make: Make, folder: Path, *, kills: int, seed: int = 0) -> Tally:
    """Train without and then again and again with kills, two for each training, until there were so many.

    Raises:
        AssertionError: a training that was gone on with ended with other bits.
    """
    chance, tally = random.Random(f"{name} {seed}"), Tally(name)
    whole = folder / "whole"
    seconds = _run(make, whole)
    wanted = (whole / "models" / "model.pt").read_bytes()
    number = 0
    while sum(tally.kills.values()) < kills:
        number += 1
        cut = folder / f"cut_{number}"
        killed = False
        for _ in range(2):
            chosen = SIGNALS[sum(tally.kills.values()) % len(SIGNALS)]
            if _run(make, cut, kill=(chosen, chance.uniform(0.05, 0.95) * seconds)) == 0:
                tally.kills[chosen] += 1
                killed = True
        assert _run(make, cut) > 0
        tally.resumed += killed
        same = (cut / "models" / "model.pt").read_bytes() == wanted
        tally.equal += same and killed
        assert same, f"{name}: {cut} ended with other bits"
        assert not (cut / "checkpoints").exists()
    return tally


def _run(make: Make, output: Path, *, kill: tuple[int, float] | None = None) -> float:
    """Train in a fork, which may be killed after so many seconds of processor time; 0 where it was, else those used."""

    def work() -> None:
        if kill is not None:
            threading.Thread(target=_kill_later, args=kill, daemon=True).start()
        bundle, configs = make(output)
        bundle.run(*configs, device=torch.device("cpu"), **SMALL)

    before = sum(os.times()[2:4])
    ended = _in_a_fork(work)
    assert ended == 0 or (kill is not None and ended in (-kill[0], 128 + kill[0])), ended
    return sum(os.times()[2:4]) - before if ended == 0 else 0.0


def _kill_later(number: int, seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        time.sleep(0.005)
    os.kill(os.getpid(), number)


def _in_a_fork(work: Callable[[], object]) -> int:
    """The exit status of a fork that does the work, negative where a signal ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _end)
            work()
            status = 0
        except Interrupted as stop:
            status = 128 + stop.signal
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _end(number: int, frame: object) -> None:
    """What the command line does outside of the steps of a training."""
    raise Interrupted("Interrupted.", number)


def main() -> None:
    """Print the table."""
    folder, kills, chosen = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    print("| training | SIGKILL | SIGTERM | SIGINT | trainings gone on with | with equal bits |")
    print("|---|---|---|---|---|---|")
    for name, make in trainings(folder).items():
        if chosen and name not in chosen:
            continue
        place = folder / name.replace(" ", "_")
        tally = count_kills(name, make, place, kills=kills)
        print(f"| {name} | {' | '.join(str(tally.kills[number]) for number in SIGNALS)} "
              f"| {tally.resumed} | {tally.equal} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
