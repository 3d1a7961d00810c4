"""What is kept of a run to be looked at: its learning curves, and panels of its validation cases."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys
from skimage.segmentation import find_boundaries
from torch import Tensor

from monai_transfer.engines.trainer import LOSSES
from monai_transfer.errors import UserError
from monai_transfer.files import write_text
from monai_transfer.processes import average_figures, rank

_VARIABLE = "MLFLOW_TRACKING_URI"

_ODD = re.compile(r"[^\w\-./ ]", re.ASCII)
"""What MLflow refuses in the name of a figure; names of labels may hold anything."""


PREDICTION_COLOUR = (1.0, 0.55, 0.0)

LABEL_COLOUR = (0.0, 0.8, 1.0)


class History:
    """Appends one line per epoch: the step, the mean of every named loss, and the newest validation metrics.

    An epoch that the budget ends early has its line too.

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
        engine.add_event_handler(Events.TERMINATE, self._write_rest)

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

    def _write_rest(self, engine: Engine) -> None:
        """What was learnt in an epoch that is not finished, because the time is up."""
        if self._steps:
            self._write(engine)

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


class ContourPanels:
    """Writes one panel per validation case: label contours in cyan, prediction contours in orange.

    The slice is the one with the most foreground along the last axis (of the label where there is one, else of the
    prediction). A case that was restored to its native grid is left out, for its image stays on the working grid. A
    handler of the trainer, whose step the panels carry.

    Args:
        summary_writer: a TensorBoard writer.
        evaluator: the validating engine; its outputs are decollated one-hot maps or label maps.
        cases: how many cases to show.

    Example:
        >>> from unittest.mock import Mock
        >>> writer, evaluator, trainer = Mock(), Engine(lambda engine, batch: batch), Engine(lambda engine, batch: None)
        >>> ContourPanels(writer, evaluator).attach(trainer)
        >>> case = {Keys.IMAGE: torch.rand(1, 8, 8), Keys.PRED: torch.ones(1, 8, 8)}
        >>> _ = evaluator.run([[case]])
        >>> writer.add_image.call_args.args[0], writer.add_image.call_args.args[1].shape
        ('validation/case_0', (8, 8, 3))
    """

    def __init__(self, summary_writer: Any, evaluator: Engine, *, cases: int = 2) -> None:
        self.summary_writer = summary_writer
        self.evaluator = evaluator
        self.cases = cases

    def attach(self, engine: Engine) -> None:
        """Draw after each validation case of the trainer ``engine``."""
        if self.summary_writer is None:  # one of several processes, and not the one that writes
            return
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self, engine)

    def __call__(self, engine: Engine, trainer: Engine) -> None:
        """Draw the cases of this iteration while there is room."""
        first = engine.state.iteration - 1
        if first % engine.state.epoch_length >= self.cases:
            return
        for offset, output in enumerate(engine.state.output):
            image = _array(output[Keys.IMAGE])[0]
            prediction = _label_map(output[Keys.PRED])
            label = _label_map(output[Keys.LABEL]) if output.get(Keys.LABEL) is not None else None
            if prediction.shape != image.shape or (label is not None and label.shape != image.shape):
                continue
            panel = draw_panel(image, prediction, label)
            name = f"validation/case_{(first + offset) % engine.state.epoch_length}"
            self.summary_writer.add_image(name, panel, trainer.state.iteration, dataformats="HWC")


def draw_panel(image: np.ndarray, prediction: np.ndarray, label: np.ndarray | None) -> np.ndarray:
    """An RGB picture ``(height, width, 3)`` in ``[0, 1]`` of the slice with the most foreground.

    Args:
        image: ``(x, y)`` or ``(x, y, z)``.
        prediction: label map of the same shape.
        label: label map of the same shape, or ``None``.
    """
    reference = prediction if label is None or not label.any() else label
    if image.ndim == 3:
        index = int(np.argmax((reference > 0).sum(axis=(0, 1))))
        image, prediction = image[..., index], prediction[..., index]
        label = None if label is None else label[..., index]
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    panel = np.repeat(grey[..., None], 3, axis=-1)
    if label is not None:
        panel[find_boundaries(label.astype(np.int32), mode="inner")] = LABEL_COLOUR
    panel[find_boundaries(prediction.astype(np.int32), mode="inner")] = PREDICTION_COLOUR
    return np.ascontiguousarray(np.flip(np.swapaxes(panel, 0, 1), axis=0))


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().float().numpy()
    return array


def _label_map(tensor: torch.Tensor) -> np.ndarray:
    """``(classes, *spatial)`` one-hot or ``(1, *spatial)`` labels -> ``(*spatial)`` labels."""
    array = _array(tensor)
    label_map: np.ndarray = array[0] if len(array) == 1 else array.argmax(axis=0)
    return label_map
