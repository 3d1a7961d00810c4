"""What decides over the bits of a training: the states of the random generators, and what else its sums depend on.

Random transforms are not among them: :class:`~monai_transfer.datasets.DomainLoader` seeds them anew at each epoch, from
the seed and the number of the epoch.
"""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from monai_transfer.machine import versions
from monai_transfer.processes import world_size


def random_states() -> dict[str, Any]:
    """The global generators of torch (and of every GPU), NumPy and Python.

    Example:
        >>> states = random_states()
        >>> first = torch.rand(1), np.random.rand(), random.random()
        >>> set_random_states(states)
        >>> first == (torch.rand(1), np.random.rand(), random.random())
        True
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(words), gauss],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Take the generators back to :func:`random_states`; those of GPUs only where there are as many as then."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))


def circumstances(engine: Any) -> dict[str, str]:
    """What decides over the last bits of a sum: versions, device, threads and processes."""
    known = versions()
    names = ("monai-transfer", "monai", "torch", "numpy")
    device = engine.state.device
    return {
        **{name: str(known.get(name)) for name in names},
        "device": "cpu" if device is None else str(torch.device(device).type),
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }
