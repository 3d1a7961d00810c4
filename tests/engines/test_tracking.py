"""A training's figures in MLflow are those of its history."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from monai_transfer.engines import History
from monai_transfer.engines import history as history_module
from monai_transfer.engines.history import read_history, track_with_mlflow
from monai_transfer.engines.trainer import LOSSES
from monai_transfer.errors import UserError


def training(folder: Path) -> tuple[Engine, History]:
    trainer = Engine(lambda engine, batch: {LOSSES: {"source/supervised [β]": torch.tensor(batch)}})
    history = History(folder / "history.jsonl")
    history.attach(trainer)
    return trainer, history


def test_without_the_variable_nothing_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trainer, history = training(tmp_path)
    assert not track_with_mlflow(trainer, [history], "bundle")


def test_mlflow_is_asked_for_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    monkeypatch.setattr(history_module, "find_spec", lambda name: None)
    trainer, history = training(tmp_path)
    with pytest.raises(UserError, match=r"monai-transfer\[mlflow\]"):
        track_with_mlflow(trainer, [history], "bundle")


@pytest.mark.slow
def test_the_figures_of_the_history_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # a server would take longer than the test
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlruns.db'}")
    trainer, history = training(tmp_path)
    assert track_with_mlflow(trainer, [history], "bundle")
    trainer.run([1.0, 3.0], max_epochs=2)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("monai-transfer").experiment_id])
    assert (run.info.run_name, run.info.status) == ("bundle", "FINISHED")
    logged = client.get_metric_history(run.info.run_id, "loss/source/supervised ___")
    lines = read_history(history.path)
    assert [(one.step, one.value) for one in logged] == [
        (line["step"], line["losses"]["source/supervised [β]"]) for line in lines
    ]
