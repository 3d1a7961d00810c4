"""A training that was cut off ends with the bits of one that was not; each part that has a state gives it back."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.data import CacheDataset, MetaTensor
from monai.handlers import LrScheduleHandler
from monai.networks.nets import UNet
from monai.optimizers import WarmupCosineSchedule
from torch import Tensor, nn

from monai_transfer.adaptation import (
    DANN,
    AdaptationMethod,
    DomainSpecificBatchNorm,
    ForegroundPrior,
    MeanTeacher,
    SelfTraining,
)
from monai_transfer.datasets import DomainLoader
from monai_transfer.engines import (
    AdaptationTrainer,
    BalanceSchedule,
    Checkpoints,
    ExactResume,
    History,
    StrengthSchedule,
    TargetView,
    read_history,
)
from monai_transfer.engines.reproducing import random_states, set_random_states
from monai_transfer.errors import UserError
from monai_transfer.finetuning import EarlyStop, GradualUnfreezing, LearningRateLog, parameter_groups
from monai_transfer.losses import ClassBalancedDiceCELoss
from monai_transfer.transforms import ClassIntensities, IntensityProfile, PseudoLabels, preset
from tests.finetuning.training import validator

Items = dict[str, list[dict[str, str]]]
EPOCHS, STEPS, SIZE = 4, 3, (16, 16, 16)


class CutOffError(Exception):
    """Stands in for a kill: nothing of the training runs after it."""


def _methods(name: str, network: nn.Module) -> list[AdaptationMethod]:
    makers = {
        "none": lambda: [],
        "adversarial": lambda: [DANN(in_channels=8, dropout=0.2, spectral_norm=True)],
        "mean teacher": lambda: [MeanTeacher(2, keep=(0.3, 0.8)), ForegroundPrior(2)],
        "domain norms": lambda: [DomainSpecificBatchNorm(network), SelfTraining()],
    }
    return list(makers[name]())


def _data(folder: Path) -> Items:
    """Two cases of each domain, as files."""
    import nibabel as nib

    random = np.random.default_rng(0)
    items: Items = {"source": [], "target": []}
    for domain in items:
        for number in range(2):
            image = random.normal(size=SIZE).astype(np.float32)
            label = np.zeros(SIZE, np.uint8)
            label[4:12, 4:12, 4 + number : 12] = 1
            image += 2 * label
            paths = {key: folder / f"{domain}_{number}_{key}.nii.gz" for key in ("image", "label")}
            nib.save(nib.Nifti1Image(image, np.eye(4)), paths["image"])
            nib.save(nib.Nifti1Image(label, np.eye(4)), paths["label"])
            items[domain].append({key: str(path) for key, path in paths.items()})
    return items


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    return _data(tmp_path_factory.mktemp("cases"))


def _train(
    folder: Path, items: Items, *, methods: str, resume: bool = False, cut_at: int | None = None
) -> dict[str, Tensor]:
    """A training with every part that has a state, cut off after a step; the averaged weights."""
    torch.manual_seed(0)
    np.random.seed(0)
    network = UNet(3, 1, 2, (4, 8), (2,), norm="batch", dropout=0.1)
    intensities, labels = ClassIntensities(), PseudoLabels()
    common: dict[str, Any] = {"spacing": (1, 1, 1), "roi_size": SIZE}
    source = preset("mr", "train", augmentation="modality", intensities=intensities, **common)
    target = preset("mr", "train", labelled=False, pseudo_labels=labels, **common)
    looked_at = CacheDataset(items["target"], preset("mr", "infer", spacing=(1, 1, 1)), progress=False)
    datasets = {
        "source": CacheDataset(items["source"], source, progress=False),
        "target": CacheDataset(items["target"], target, progress=False),
    }
    used = nn.ModuleList(_methods(methods, network))
    optimizer = torch.optim.AdamW([{"params": network.parameters()}, {"params": used.parameters()}], lr=0.01)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=EPOCHS * STEPS)
    loss = ClassBalancedDiceCELoss(2)
    average = EMAHandler(network, momentum=0.1)
    parts = {
        "average": average.ema_model,
        "schedule": schedule,
        "intensities": intensities,
        "labels": labels,
        "no": None,
    }
    trainer = AdaptationTrainer(
        "cpu",
        EPOCHS,
        DomainLoader(datasets, steps=STEPS, batch_size=1),
        network,
        optimizer,
        loss,
        methods=used,
        feature_layers=["model.1.submodule"] if methods == "adversarial" else None,
        max_grad_norm=1.0,
        train_handlers=[
            average,
            ExactResume(folder / "checkpoints", resume=resume, parts=parts, share=1e9),
            BalanceSchedule(loss, steps=8),
            StrengthSchedule(used, warm_up=1, ramp=4),
            TargetView(
                average.ema_model,
                looked_at,
                inferer=lambda image, net: net(image),
                intensities=intensities,
                labels=labels,
                intensities_from=STEPS,
                labels_from=2 * STEPS,
                most=1,
                least_gain=-1.0,
            ),
            LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
            History(folder / "history.jsonl"),
        ],
    )

    def cut(engine: Engine) -> None:
        if engine.state.iteration == cut_at:
            raise CutOffError

    trainer.add_event_handler(Events.ITERATION_COMPLETED, cut)
    trainer.run()
    return {name: tensor.clone() for name, tensor in average.ema_model.state_dict().items()}


@pytest.mark.parametrize("methods", ["none", "adversarial", "mean teacher", "domain norms"])
def test_the_bits_are_those_of_an_uninterrupted_training(tmp_path: Path, items: Items, methods: str) -> None:
    whole = _train(tmp_path / "whole", items, methods=methods)
    cut = tmp_path / "cut"
    for step in (2, 4, 10):  # before there is a state, in the second epoch, and in the last
        with pytest.raises(CutOffError):
            _train(cut, items, methods=methods, resume=True, cut_at=step)
        assert Checkpoints(cut / "checkpoints").steps == {2: [], 4: [3], 10: [6, 9]}[step]
    torch.rand(7), np.random.rand(7)  # a process that goes on comes from anywhere
    again = _train(cut, items, methods=methods, resume=True)
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
    assert read_history(cut / "history.jsonl") == read_history(tmp_path / "whole" / "history.jsonl")


def test_a_torn_state_costs_an_epoch_and_no_bit(tmp_path: Path, items: Items, caplog: pytest.LogCaptureFixture) -> None:
    whole = _train(tmp_path / "whole", items, methods="none")
    with pytest.raises(CutOffError):
        _train(tmp_path / "cut", items, methods="none", cut_at=8)
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    again = _train(tmp_path / "cut", items, methods="none", resume=True)
    assert "is torn (step 6)" in caplog.text
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_a_training_from_the_beginning_removes_old_states(tmp_path: Path, items: Items) -> None:
    for _ in range(2):
        with pytest.raises(CutOffError):
            _train(tmp_path, items, methods="none", cut_at=4)
        assert [line["step"] for line in read_history(tmp_path / "history.jsonl")] == [3]


def test_another_trainings_state_is_refused(tmp_path: Path, items: Items) -> None:
    with pytest.raises(CutOffError):
        _train(tmp_path, items, methods="none", cut_at=4)
    with pytest.raises(UserError, match="holds the state of another training"):
        _train(tmp_path, items, methods="mean teacher", resume=True)


def test_other_versions_are_told(tmp_path: Path, items: Items, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CutOffError):
        _train(tmp_path, items, methods="none", cut_at=4)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    state = checkpoints.newest()
    assert state is not None
    state["made_with"]["torch"] = "2.0.0"
    checkpoints.save(3, state)
    with caplog.at_level(logging.WARNING):
        _train(tmp_path, items, methods="none", resume=True)
    assert "not bit for bit: it began with torch 2.0.0, now" in caplog.text


def test_no_room_on_the_disk_is_told_before_the_first_step(
    tmp_path: Path, items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"states of this training take .* MB while 0.0 MB are free in .*--output"):
        _train(tmp_path, items, methods="none")


def test_states_are_kept_by_steps_and_by_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    network = nn.Conv2d(1, 2, 1)
    batch = {"source": {"image": torch.ones(1, 1, 4, 4), "label": torch.zeros(1, 4, 4, dtype=torch.long)}}

    def kept(seconds: float, **options: Any) -> list[int]:
        """The steps whose states were kept by a training with an epoch of one step in so many seconds."""
        handler, found = ExactResume(tmp_path, keep=99, **options), []
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        trainer = AdaptationTrainer(
            "cpu", 13, [batch], network, optimizer, nn.CrossEntropyLoss(), train_handlers=[handler]
        )

        @trainer.on(Events.EPOCH_COMPLETED)
        def _(engine: Engine) -> None:
            now[0] += seconds

        trainer.run()
        found = handler.checkpoints.steps
        return found

    assert kept(1.0, steps=4) == [4, 8, 12]
    assert kept(60.0, steps=100, minutes=5) == [5, 10]
    assert kept(1.0) == list(range(1, 13))


def test_generators_go_back() -> None:
    states = random_states()
    first = torch.rand(3), np.random.normal(size=3)
    set_random_states(states)
    again = torch.rand(3), np.random.normal(size=3)
    assert torch.equal(first[0], again[0])
    assert (first[1] == again[1]).all()


def test_intensities_and_labels_give_their_state_back() -> None:
    label = torch.zeros(8, 8, 8, dtype=torch.long)
    label[2:6, 2:6, 2:6] = 1
    probabilities = nn.functional.one_hot(label, 3).movedim(-1, 0).float()
    measured = ClassIntensities()
    measured.renew([IntensityProfile.measure(torch.rand(1, 8, 8, 8), probabilities)])
    other = ClassIntensities()
    other.load_state_dict(measured.state_dict())
    for name, value in vars(measured.profiles[0]).items():
        assert torch.equal(value.nan_to_num(-1), getattr(other.profiles[0], name).nan_to_num(-1))
    image = MetaTensor(torch.rand(1, 8, 8, 8), meta={"filename_or_obj": "a.nii.gz"})
    labels, copy = PseudoLabels(), PseudoLabels()
    labels.set(image, MetaTensor(label[None]), untaught=[2])
    assert all(type(tensor) is Tensor for part in labels.state_dict().values() for tensor in part.values())
    copy.load_state_dict(labels.state_dict())
    assert torch.equal(copy.of(image), labels.of(image))
    assert copy.taught(image)[:4].tolist() == [True, True, False, True]


def _finetune(folder: Path, scores: Sequence[float], *, resume: bool = False, cut_at: int | None = None) -> Any:
    torch.manual_seed(0)
    network = UNet(3, 1, 2, (4, 8, 8), (2, 2), norm="batch")
    groups = parameter_groups(network, learning_rate=0.01)
    watch = validator(network, scores)
    stop = EarlyStop(patience=3, score_function=lambda engine: engine.state.metrics["dice"])
    stop.attach(watch)
    unfreezing = GradualUnfreezing(patience=1, validator=watch)
    batch = {"source": {"image": torch.rand(1, 1, 16, 16, 16), "label": torch.zeros(1, 16, 16, 16, dtype=torch.long)}}
    trainer = AdaptationTrainer(
        "cpu",
        8,
        [batch],
        network,
        torch.optim.Adam(groups),
        nn.CrossEntropyLoss(),
        train_handlers=[
            ExactResume(folder / "checkpoints", resume=resume, parts={"stop": stop}, share=1e9),
            unfreezing,
            LearningRateLog(path=folder / "rates.jsonl"),
        ],
    )
    stop.set_trainer(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def _(engine: Engine) -> None:
        watch.run(engine.state.epoch)
        if engine.state.epoch == cut_at:
            raise CutOffError

    trainer.run()
    return trainer, unfreezing, stop, (folder / "rates.jsonl").read_text()


def test_unfreezing_and_early_stopping_remember_how_long_they_waited(tmp_path: Path) -> None:
    scores = [0.1, 0.2, 0.15, 0.3, 0.25, 0.2, 0.1, 0.9]
    trainer, unfreezing, stop, rates = _finetune(tmp_path / "whole", scores)
    assert trainer.state.epoch == 7
    with pytest.raises(CutOffError):
        _finetune(tmp_path / "cut", scores, cut_at=6)
    assert Checkpoints(tmp_path / "cut" / "checkpoints").steps[-1] == 5
    again = _finetune(tmp_path / "cut", scores[5:], resume=True)
    assert again[0].state.epoch == 7
    assert (again[1].state_dict(), again[2].state_dict()) == (unfreezing.state_dict(), stop.state_dict())
    assert again[3] == rates
    before, after = trainer.network.state_dict(), again[0].network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
