"""From the logits of an image to the probabilities of its classes."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax


def probabilities(logits: NDArray[np.floating], *, exclusive: bool, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities ``(n, classes)`` of logits ``(n, classes)``: softmax of classes, sigmoid of findings.

    Example:
        >>> probabilities(np.array([[0.0, 0.0]]), exclusive=True).tolist()
        [[0.5, 0.5]]
    """
    scaled = np.asarray(logits, np.float64) / temperature
    return np.asarray(softmax(scaled, axis=1) if exclusive else expit(scaled), np.float64)
