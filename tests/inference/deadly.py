"""A bundle that no process survives on some images, and scans for it, one of which is such an image."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .conftest import write_nifti

BRIGHT = 2000.0


class Deadly(nn.Conv3d):
    """A convolution with a weakness: it ends its process where an image is brighter than tissue."""

    def forward(self, image: Tensor) -> Tensor:
        if float(image.max()) > BRIGHT:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)


def write_deadly_bundle(root: Path) -> Path:
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    network = {"_target_": "tests.inference.deadly.Deadly", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    load = {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}
    config = {
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": [load]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
    }
    labels = {"0": "background", "1": "liver"}
    data = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 2, "channel_def": labels}}}
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    (root / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": data}))
    state = {"weight": torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1), "bias": torch.zeros(2)}
    torch.save(state, root / "models" / "model.pt")
    return root


def write_scans(folder: Path, number: int, *, poison: int | None = None) -> Path:
    """Small scans ``case000`` and so on; the network does not survive number ``poison``."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for case in range(number):
        image = random.normal(0, 100, (16, 16, 16))
        if case == poison:
            image[0, 0, 0] = 2.5 * BRIGHT
        write_nifti(folder / f"case{case:03d}.nii.gz", image.astype(np.int16))
    return folder


def label_maps(folder: Path) -> dict[str, bytes]:
    """The bytes of each result."""
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}
