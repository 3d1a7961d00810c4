"""The learning curves of a run: lines of JSON that a report can read, TensorBoard, and MLflow where it is asked for."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_transfer.engines.trainer import LOSSES
from monai_transfer.errors import UserError
from monai_transfer.files import write_text
from monai_transfer.processes import average_figures, rank

_VARIABLE = "MLFLOW_TRACKING_URI"

_ODD = re.compile(r"[^\w\-./ ]", re.ASCII)
"""What MLflow refuses in the name of a figure; names of labels may hold anything."""


class History:
    """Appends one line per epoch: the step, the mean of every named loss, and the newest validation metrics.

    Each line is ``{"step": int, "epoch": int, "losses": {name: float}, "metrics": {name: float}}``.

    Args:
        path: the ``.jsonl`` file; a run that starts from epoch 0 begins it anew.
        evaluator: the engine whose metrics are recorded.
        summary_writer: a TensorBoard writer that gets the same figures.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> trainer = Engine(lambda engine, batch: {LOSSES: {"source/supervised": torch.tensor(batch)}})
        >>> History(path).attach(trainer)
        >>> _ = trainer.run([1.0, 3.0])
        >>> read_history(path)
        [{'step': 2, 'epoch': 1, 'losses': {'source/supervised': 2.0}, 'metrics': {}}]
    """

    def __init__(self, path: str | Path, *, evaluator: Engine | None = None, summary_writer: Any = None) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.summary_writer = summary_writer
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Record losses at each step and write at the end of each epoch."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        if rank() > 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # a training that goes on may have come further before it was cut off: those steps are done again
        lines = [line for line in read_history(self.path) if line["step"] <= engine.state.iteration]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def state_dict(self) -> dict[str, dict[str, float]]:
        """The newest validation metrics, which stand in every line up to the next validation."""
        return {"metrics": {} if self.evaluator is None else _scalars(self.evaluator.state.metrics)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Give the evaluator the metrics of :meth:`state_dict`."""
        if self.evaluator is not None:
            self.evaluator.state.metrics.update(state["metrics"])

    def _add(self, engine: Engine) -> None:
        for name, value in engine.state.output[LOSSES].items():
            # sums and not a list: an epoch may have any number of steps
            self._sums[name] = self._sums[name] + value.cpu()
        self._steps += 1

    def _write(self, engine: Engine) -> None:
        sums = average_figures(self._sums)
        losses = {name: float(total) / self._steps for name, total in sums.items()}
        self._sums.clear()
        self._steps = 0
        if rank() > 0:
            return
        metrics = {} if self.evaluator is None else _scalars(self.evaluator.state.metrics)
        line = {"step": engine.state.iteration, "epoch": engine.state.epoch, "losses": losses, "metrics": metrics}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.summary_writer is not None:
            for group, values in (("loss", losses), ("validation", metrics)):
                for name, value in values.items():
                    self.summary_writer.add_scalar(f"{group}/{name}", value, engine.state.iteration)


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The lines that :class:`History` wrote; empty where there is no such file."""
    file = Path(path)
    # what stands behind the last line break is a line that a killed process did not finish
    return [json.loads(line) for line in file.read_text().split("\n")[:-1] if line] if file.is_file() else []


def _scalars(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}


def track_with_mlflow(trainer: Engine, handlers: Iterable[object], name: str) -> bool:
    """Let MONAI's MLflow handler log what the training's :class:`History` records: a step per epoch, no image or file.

    A training that goes on after an interruption goes on in its run, for MLflow keeps that as running.

    Args:
        trainer: the engine, not yet running, its history attached.
        handlers: its handlers.
        name: of the run; the experiment is ``MLFLOW_EXPERIMENT_NAME``, or ``monai-transfer``.

    Returns:
        whether it is logged: not without the variable, in no process but the first, and not without a history.

    Raises:
        UserError: it shall be logged, and MLflow is not installed.
    """
    history = next((handler for handler in handlers if isinstance(handler, History)), None)
    if not os.environ.get(_VARIABLE) or rank() > 0 or history is None:
        return False
    if find_spec("mlflow") is None:
        raise UserError(f"{_VARIABLE} is set and mlflow is absent: pip install 'monai-transfer[mlflow]', or unset it.")
    from monai.handlers import MLFlowHandler  # here: it imports mlflow, which takes seconds

    path = history.path

    def log(engine: Engine) -> None:
        line = read_history(path)[-1]
        for group, figures in (("loss", line["losses"]), ("validation", line["metrics"])):
            for figure, value in figures.items():
                key = _ODD.sub("_", f"{group}/{figure}")
                handler.client.log_metric(handler.cur_run.info.run_id, key, value, step=line["step"])

    handler = MLFlowHandler(
        iteration_log=False,
        epoch_logger=log,
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "monai-transfer",
        run_name=name,
        close_on_complete=True,
    )
    handler.attach(trainer)
    return True
