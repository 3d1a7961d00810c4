"""How many threads a command takes and how they wait, settled before torch is imported, which asks once.

Threads of OpenMP that wait for each other spin, as if the machine were theirs. Where another program has one of two
cores, every loop of a network then waits for it: a test that takes seconds alone took eleven minutes of processor time.
So threads sleep while they wait, and a command that can choose takes the cores that are free when it begins.
"""

import os
from collections.abc import Sequence

_CHOOSING = {"segment", "evaluate"}
"""Commands whose results do not depend on the number of threads. The gradients of a training do, in their last bits,
and a training that is resumed has to go on with as many as it began with."""


def settle_threads(words: Sequence[str]) -> None:
    """Set what OpenMP reads from the environment; what the user has set stays.

    Args:
        words: the command line.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # GNU's OpenMP, as in torch for Linux
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel's and LLVM's, milliseconds
    command = next((word for word in words if not word.startswith("-")), "")
    if command in _CHOOSING and "OMP_NUM_THREADS" not in os.environ:
        from monai_transfer.machine import free_cores

        os.environ["OMP_NUM_THREADS"] = str(free_cores())
