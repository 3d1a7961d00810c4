"""A handler that other parts of a configuration refer to, at its place among the handlers."""

from typing import Any

from ignite.engine import Engine


class Attached:
    """Attaches a handler that stands under an id of its own.

    A reference by place (``@train#handlers#0``) means another handler as soon as somebody inserts one, as MONAI Label
    does with its checkpoint loader; and MONAI Label reads every entry of the list as an object with a ``_target_``, so
    the bare reference cannot stand there either.

    Args:
        handler: what is attached.

    Example:
        >>> from ignite.handlers import EMAHandler
        >>> import torch
        >>> average = EMAHandler(torch.nn.Linear(1, 1), momentum=0.02)
        >>> Attached(average).attach(Engine(lambda engine, batch: None))
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        """Attach the handler to ``engine``."""
        self.handler.attach(engine)
