"""Figures are drawn of the label maps that the scores are computed on."""

from tests.evaluation.conftest import dataset, write

__all__ = ["dataset", "write"]
