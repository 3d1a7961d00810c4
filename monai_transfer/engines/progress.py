"""What is seen of a training while it runs: a bar in the terminal, panels of validation cases in TensorBoard."""

import os
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from skimage.segmentation import find_boundaries

from monai_transfer.processes import rank
from monai_transfer.progress import LINES, tell_progress

PREDICTION_COLOUR = (1.0, 0.55, 0.0)

LABEL_COLOUR = (0.0, 0.8, 1.0)


class TrainingProgress:
    """Shows step, loss and the time left of a whole training run.

    Args:
        title: what is being trained.

    Example:
        >>> trainer = Engine(lambda engine, batch: {Keys.LOSS: 0.0})
        >>> TrainingProgress("adapting").attach(trainer)  # silent where standard error is not a terminal
        >>> trainer.run([0, 1]).iteration
        2
    """

    def __init__(self, title: str = "training") -> None:
        self.title = title
        self._bar: Progress | None = None

    def attach(self, engine: Engine) -> None:
        """Open the bar when training starts and close it however training ends."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)

    def _open(self, engine: Engine) -> None:
        console = Console(stderr=True)
        if not console.is_terminal or rank() > 0 or LINES in os.environ:
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        total = engine.state.max_epochs * engine.state.epoch_length
        self._task = self._bar.add_task(self.title, total=total, loss="–", completed=engine.state.iteration)
        self._bar.start()

    def _advance(self, engine: Engine) -> None:
        if self._bar is not None:
            loss = float(engine.state.output[Keys.LOSS])
            self._bar.update(self._task, completed=engine.state.iteration, loss=f"{loss:.3f}")
        elif LINES in os.environ and rank() == 0:
            total = engine.state.max_epochs * engine.state.epoch_length
            loss = float(engine.state.output[Keys.LOSS])
            tell_progress(self.title, engine.state.iteration, total, loss=round(loss, 6))

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _close_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error


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
