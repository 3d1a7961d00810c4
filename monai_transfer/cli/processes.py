"""A command under ``torchrun``: the first process does it, the others train with it."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from monai_transfer.errors import UserError
from monai_transfer.machine import launched

_TRAINING = {"adapt", "finetune", "train"}
"""Commands in which the processes train one network together."""

_SHARED = {"segment"}
"""Commands of which every process does its share by itself; any other would be done by each of them."""


def run_once(command: Callable[[], Any], words: Sequence[str]) -> Any:
    """Do a command, by one process of those that were started together.

    Args:
        command: does it.
        words: the command line.

    Raises:
        UserError: the command is none that several processes can do.
    """
    name = next((word for word in words if not word.startswith("-")), "")
    if launched() == 1 or not name or name in _SHARED or "--help" in words:
        return command()
    if name not in _TRAINING:
        raise UserError(f"{name} is the work of one process: start it without torchrun.")
    from monai_transfer.bundle.training import follow, send_home

    if os.environ.get("RANK") != "0":
        follow()
        return 0
    try:
        return command()
    finally:
        send_home()
