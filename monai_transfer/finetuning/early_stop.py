"""Early stopping that remembers how long it has waited."""

from collections.abc import Mapping
from typing import Any

from monai.handlers import EarlyStopHandler


class EarlyStop(EarlyStopHandler):
    """MONAI's ``EarlyStopHandler`` with a state, so that a training that goes on stops where it would have stopped.

    Example:
        >>> from ignite.engine import Engine
        >>> scores = iter([0.5, 0.4])
        >>> stop = EarlyStop(patience=3, score_function=lambda engine: next(scores))
        >>> stop.set_trainer(Engine(lambda engine, batch: None))
        >>> validator = Engine(lambda engine, batch: None)
        >>> stop.attach(validator)
        >>> _ = validator.run([0], max_epochs=2)
        >>> stop.state_dict()["best_score"], stop.state_dict()["counter"]
        (0.5, 1)
    """

    def state_dict(self) -> dict[str, Any]:
        """The best score and the validations since; empty before there is a trainer."""
        state = {} if self._handler is None else dict(self._handler.state_dict())
        # a metric may be a NumPy number, which is read from no checkpoint
        return {name: value.item() if hasattr(value, "item") else value for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.

        Raises:
            RuntimeError: there is no trainer yet.
        """
        if self._handler is None:
            raise RuntimeError("EarlyStop has no trainer yet: call set_trainer first")
        self._handler.load_state_dict(state)
