import json
import logging

import pytest
import torch
from monai.handlers import EarlyStopHandler, LrScheduleHandler, ValidationHandler, stopping_fn_from_metric
from monai.optimizers import WarmupCosineSchedule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_transfer.errors import UserError
from monai_transfer.finetuning import (
    BatchNormPolicy,
    GradualUnfreezing,
    LearningRateLog,
    freeze,
    parameter_groups,
    set_decoder_dropout,
)
from tests.finetuning.training import small_unet, snapshot, trainer, validator

LEVELS = ["stem", "level1", "level2", "decoder", "head"]


def training_by_epoch(log: LearningRateLog) -> list[list[str]]:
    return [[rate.level for rate in rates if rate.trainable] for _, rates in log.history]


def optimizer_of(network, **options):
    return torch.optim.AdamW(parameter_groups(network, learning_rate=1e-2, **options))


@pytest.mark.parametrize(
    ("epochs", "freed"), [(1, [0, 1, 2, 3, 3]), (2, [0, 0, 1, 1, 2]), ([2, 5], [0, 1, 1, 1, 2]), ([1, 1], [2] * 5)]
)
def test_schedule(epochs, freed):
    network, log = small_unet(), LearningRateLog()
    trainer(network, optimizer_of(network), [GradualUnfreezing(epochs=epochs), log], epochs=5).run()
    order = ["level2", "level1", "stem"]
    expected = [[level for level in LEVELS if level in ("decoder", "head", *order[:count])] for count in freed]
    assert training_by_epoch(log) == expected


def test_plateau():
    """Scores by epoch; a level is freed after two validations without a gain."""
    network, log = small_unet(), LearningRateLog()
    scores = [0.1, 0.2, 0.2, 0.19, 0.3, 0.3, 0.3]
    evaluator = validator(network, scores)
    handlers = [
        ValidationHandler(interval=1, validator=evaluator),
        GradualUnfreezing(patience=2, validator=evaluator),
        log,
    ]
    trainer(network, optimizer_of(network), handlers, epochs=7).run()
    assert [len(levels) for levels in training_by_epoch(log)] == [2, 2, 2, 2, 3, 3, 3]
    assert "level2" in training_by_epoch(log)[4]


def test_schedule_or_plateau_whichever_comes_first():
    network, log = small_unet(), LearningRateLog()
    evaluator = validator(network, [0.5] * 5)
    unfreezing = GradualUnfreezing(epochs=[4], patience=1, validator=evaluator)
    trainer(network, optimizer_of(network), [ValidationHandler(1, evaluator), unfreezing, log], epochs=5).run()
    assert [len(levels) for levels in training_by_epoch(log)] == [2, 2, 3, 4, 5]


def test_what_is_frozen_stays_bitwise_until_it_is_freed():
    network = small_unet()
    before = snapshot(network)
    handlers = [GradualUnfreezing(epochs=[2]), BatchNormPolicy("follow_freezing")]
    trainer(network, optimizer_of(network), handlers, epochs=3).run()
    state = network.state_dict()
    for name, value in before.items():
        frozen = name.startswith(("model.0.", "model.1.submodule.0."))
        assert torch.equal(state[name], value) == frozen, name


def test_log_and_tensorboard_show_levels_and_rates(tmp_path, caplog):
    network = small_unet()
    log = LearningRateLog(log_dir=tmp_path)
    with caplog.at_level(logging.INFO, "monai_transfer.finetuning"):
        optimizer = optimizer_of(network, layerwise_decay=0.5)
        trainer(network, optimizer, [log, GradualUnfreezing(epochs=1)], epochs=3).run()
    assert "Epoch 1 trains decoder at 0.01, head at 0.01; stem, level1, level2 frozen." in caplog.text
    assert "Unfreezing level2 (epoch 2 of the schedule)." in caplog.text
    assert (
        "Epoch 3 trains level1 at 0.0025, level2 at 0.005, decoder at 0.01, head at 0.01; stem frozen." in caplog.text
    )
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    curve = [round(event.value, 6) for event in events.Scalars("learning_rate/level2")]
    assert curve == [0.0, 0.005, 0.005]
    assert events.Scalars("trainable_parameters")[0].value < sum(
        parameter.numel() for parameter in network.parameters()
    )


def test_everything_together():
    """Warm-up and cosine, layer-wise decay, both unfreezing rules, frozen statistics, dropout, early stopping."""
    network = small_unet()
    assert set_decoder_dropout(network, 0.2) > 0
    optimizer = optimizer_of(network, layerwise_decay=0.7, weight_decay=0.01, norm_weight_decay=0.0)
    evaluator = validator(network, [0.1, 0.2, 0.2, 0.2, 0.2, 0.2])
    stop = EarlyStopHandler(patience=3, score_function=stopping_fn_from_metric("dice"), epoch_level=True)
    log = LearningRateLog()
    engine = trainer(
        network,
        optimizer,
        [
            ValidationHandler(interval=1, validator=evaluator),
            GradualUnfreezing(epochs=4, patience=1, validator=evaluator),
            BatchNormPolicy("frozen_statistics", levels=["encoder"]),
            LrScheduleHandler(WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=6), print_lr=False),
            log,
        ],
        epochs=6,
    )
    stop.attach(evaluator)
    stop.set_trainer(engine)
    before = snapshot(network)
    engine.run()
    assert engine.state.epoch == 5
    assert len(training_by_epoch(log)[-1]) == 4
    encoder = [name for name in before if name.startswith(("model.0.", "model.1.submodule.0."))]
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in encoder if "running" in name)


def test_state_is_plain_and_goes_on():
    network = small_unet()
    unfreezing = GradualUnfreezing(epochs=[2, 3, 9])
    trainer(network, optimizer_of(network), [unfreezing], epochs=3).run()
    state = json.loads(json.dumps(unfreezing.state_dict()))
    assert state["freed"] == 2
    fresh, log = small_unet(), LearningRateLog()
    resumed = GradualUnfreezing(epochs=[2, 3, 9])
    engine = trainer(fresh, optimizer_of(fresh), [resumed, log], epochs=1)
    resumed.load_state_dict(state)
    engine.run()
    assert training_by_epoch(log) == [["level1", "level2", "decoder", "head"]]


def test_order_and_initial_levels():
    network, log = small_unet(), LearningRateLog()
    unfreezing = GradualUnfreezing(epochs=1, order=["decoder", "level2"], initial=["head"])
    trainer(network, optimizer_of(network), [unfreezing, log], epochs=4).run()
    assert training_by_epoch(log)[0] == ["head"]
    assert training_by_epoch(log)[1] == ["decoder", "head"]
    assert training_by_epoch(log)[3] == ["level2", "decoder", "head"]


def test_what_is_frozen_for_good_is_not_freed(tmp_path):
    network, log = small_unet(), LearningRateLog(path=tmp_path / "rates.jsonl")
    freeze(network, ["stem"])
    unfreezing = GradualUnfreezing(epochs=1, frozen=["stem"])
    trainer(network, optimizer_of(network), [unfreezing, log], epochs=5).run()
    assert training_by_epoch(log)[-1] == ["level1", "level2", "decoder", "head"]
    lines = [json.loads(line) for line in (tmp_path / "rates.jsonl").read_text().splitlines()]
    assert [line["levels"]["level2"] for line in lines] == [0.0, 0.01, 0.01, 0.01, 0.01]
    assert lines[-1]["levels"]["stem"] == 0.0


def test_mistakes_are_told():
    with pytest.raises(UserError, match="needs epochs"):
        GradualUnfreezing()
    with pytest.raises(UserError, match="needs the validator"):
        GradualUnfreezing(patience=2)
    network = small_unet()
    head = torch.optim.SGD(network.model[2].parameters(), lr=0.1)
    with pytest.raises(UserError, match="optimizer does not hold"):
        trainer(network, head, [GradualUnfreezing(epochs=1)]).run()


def test_dropout_is_inserted_and_removed():
    network = small_unet()
    names = set(network.state_dict())
    count = set_decoder_dropout(network, 0.5)
    assert set(network.state_dict()) == names
    image = torch.randn(1, 1, 16, 16, 16)
    assert not torch.equal(network.train()(image), network.train()(image))
    plain = small_unet()
    plain.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(image), plain.eval()(image))
    assert set_decoder_dropout(network, 0.0) == count
    assert not any(isinstance(module, torch.nn.Dropout3d) for module in network.modules())
    with pytest.raises(UserError, match=r"\[0, 1\)"):
        set_decoder_dropout(network, 1.0)
