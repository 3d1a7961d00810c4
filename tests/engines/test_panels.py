"""Panels show contours where they are."""

from unittest.mock import Mock

import numpy as np
import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys as Keys

from monai_transfer.engines.history import LABEL_COLOUR, PREDICTION_COLOUR, ContourPanels, draw_panel


def test_the_slice_with_most_foreground_is_drawn_with_both_contours() -> None:
    image = np.zeros((12, 10, 5), dtype=np.float32)
    image[..., 3] = np.arange(120).reshape(12, 10)
    label = np.zeros(image.shape)
    label[2:6, 2:6, 3] = 1
    label[2:3, 2:3, 1] = 1
    prediction = np.zeros(image.shape)
    prediction[7:11, 5:9, 3] = 2
    panel = draw_panel(image, prediction, label)
    assert panel.shape == (10, 12, 3)
    assert panel.std() > 0.1
    drawn = {tuple(colour) for colour in panel.reshape(-1, 3).tolist()}
    assert {LABEL_COLOUR, PREDICTION_COLOUR} <= drawn


def test_without_a_label_the_prediction_chooses() -> None:
    prediction = np.zeros((6, 6, 3))
    prediction[1:4, 1:4, 2] = 1
    panel = draw_panel(np.random.default_rng(0).normal(size=(6, 6, 3)), prediction, None)
    assert (panel == np.asarray(PREDICTION_COLOUR)).all(axis=-1).any()


def test_a_case_on_its_native_grid_is_left_out() -> None:
    """The image stays on the working grid, so there is nothing to draw the contours on."""
    writer, evaluator = Mock(), Engine(lambda engine, batch: batch)
    ContourPanels(writer, evaluator).attach(Engine(lambda engine, batch: None))
    native = {Keys.IMAGE: torch.rand(1, 8, 8, 8), Keys.PRED: torch.ones(2, 9, 9, 9), Keys.LABEL: torch.ones(2, 9, 9, 9)}
    evaluator.run([[native]])
    assert not writer.add_image.called
