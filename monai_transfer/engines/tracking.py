"""The figures of a training in MLflow, beside TensorBoard, where ``MLFLOW_TRACKING_URI`` says where MLflow is."""

import os
import re
from collections.abc import Iterable
from importlib.util import find_spec

from ignite.engine import Engine

from monai_transfer.engines.history import History, read_history
from monai_transfer.errors import UserError
from monai_transfer.processes import rank

_VARIABLE = "MLFLOW_TRACKING_URI"
_ODD = re.compile(r"[^\w\-./ ]", re.ASCII)
"""What MLflow refuses in the name of a figure; names of labels may hold anything."""


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
