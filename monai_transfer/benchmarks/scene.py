"""A CT to measure on: an elliptic body in air with ellipsoid organs and noise, and the bundle that segments it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss

BACKBONES: dict[str, dict[str, Any]] = {
    "unet": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "channels": [16, 32, 64, 128],
        "strides": [2, 2, 2],
        "num_res_units": 1,
        "norm": "BATCH",
    },
    "resnet18": {
        "_target_": "FlexibleUNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "backbone": "resnet18",
        "pretrained": False,
        "decoder_channels": [128, 64, 32, 16, 16],
    },
    "pointwise": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "kernel_size": 1},
}

_WINDOW_HU = (-57, 250)
"""Intensities that become 0 and 1."""

_SOFT_HU, _ORGANS_HU, _RANGE_HU = -40, 40, 160
"""Intensity of the body, that from which the organs' rise, and by how much up to the last."""


def write_ct(path: Path, *, shape: Sequence[int], spacing: Sequence[float], classes: int, seed: int = 0) -> None:
    """Write a CT in HU (int16, LPS axes) as NIfTI, slice by slice.

    Args:
        path: the file.
        shape: voxels.
        spacing: millimetres.
        classes: number of classes, background included: there is an organ for each of the others.
        seed: of the organs' places and the noise.
    """
    rng = np.random.default_rng(seed)
    volume = np.empty(tuple(shape), dtype=np.int16, order="F")
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    for k, z in enumerate(np.linspace(-1, 1, shape[2])):
        inside, organ = anatomy(x, y, z, classes=classes)
        hounsfield = _hounsfield(inside, organ, classes) + rng.normal(0, 15, x.shape)
        volume[:, :, k] = np.clip(np.rint(hounsfield), -1024, 3071)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = [spacing[0] * shape[0] / 2, spacing[1] * shape[1] / 2, -700.0]
    image = nibabel.Nifti1Image(volume, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nibabel.save(image, path)


def anatomy(x: np.ndarray, y: np.ndarray, z: float | np.ndarray, *, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the body is, and which organ (0 for none), at coordinates from -1 to 1."""
    inside = (x / 0.82) ** 2 + (y / 0.6) ** 2 < 1
    organ = np.zeros(np.broadcast(x, y, z).shape, dtype=np.int16)
    angles = 2 * np.pi * np.arange(1, classes) / max(classes - 1, 1)
    size = 0.24 if classes < 20 else 0.12
    for number, angle in enumerate(angles, start=1):
        ring = 0.45 if classes < 20 else 0.2 + 0.35 * ((number * 0.618) % 1)
        centre = (ring * 1.1 * np.cos(angle), ring * 0.7 * np.sin(angle), 0.7 * np.sin(3 * angle))
        if np.abs(z - centre[2]).min() >= 2 * size:
            continue  # of many organs a slice meets few
        distance = ((x - centre[0]) / size) ** 2 + ((y - centre[1]) / size) ** 2 + ((z - centre[2]) / (2 * size)) ** 2
        organ[np.broadcast_to(distance < 1, organ.shape)] = number
    return inside, organ


def _hounsfield(inside: np.ndarray, organ: np.ndarray, classes: int) -> np.ndarray:
    tissue = np.where(organ > 0, _ORGANS_HU + _RANGE_HU * organ / max(classes - 1, 1), _SOFT_HU * inside)
    return np.where(inside, tissue, -1000)


def _scaled(hounsfield: np.ndarray) -> np.ndarray:
    low, high = _WINDOW_HU
    return (hounsfield - low) / (high - low)


def write_bundle(
    root: Path, *, classes: int, backbone: str, overlap: float, mode: str, roi: int, steps: int, seed: int = 0
) -> None:
    """Write a bundle like MONAI's spleen bundle, its network trained for a few steps so that labels look like labels.

    Args:
        root: the folder.
        classes: output channels.
        backbone: a key of ``BACKBONES``.
        overlap: of the windows.
        mode: ``"constant"`` or ``"gaussian"`` blending.
        roi: voxels of a window along each axis.
        steps: training steps; 0 leaves the weights random.
        seed: of the weights.
    """
    config = {
        "network_def": {**BACKBONES[backbone], "out_channels": classes},
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing()},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [roi] * 3,
            "sw_batch_size": 4,
            "overlap": overlap,
            "mode": mode,
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing()},
    }
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps(config, indent=2))
    names = {str(n): "background" if n == 0 else f"organ_{n}" for n in range(classes)}
    outputs = {"pred": {"num_channels": classes, "channel_def": names}}
    metadata = {"network_data_format": {"inputs": {"image": {"num_channels": 1}}, "outputs": outputs}}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=2))
    torch.manual_seed(seed)
    network = ConfigParser(config).get_parsed_content("network_def")
    if backbone == "pointwise":
        network.load_state_dict(_nearest_intensity(classes))
    else:
        _train(network, classes=classes, steps=steps, seed=seed)
    torch.save(network.state_dict(), root / "models" / "model.pt")


def _preprocessing() -> list[dict[str, Any]]:
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": _WINDOW_HU[0],
            "a_max": _WINDOW_HU[1],
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        },
        {"_target_": "EnsureTyped", "keys": "image"},
    ]


def _postprocessing() -> list[dict[str, Any]]:
    return [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "$__import__('os').environ['BENCHMARK_OUTPUT']",
            "output_dtype": "$__import__('numpy').uint8",
            "resample": False,
            "separate_folder": False,
            "output_postfix": "",
            "print_log": False,
        },
    ]


def _nearest_intensity(classes: int) -> dict[str, torch.Tensor]:
    """Weights under which a voxel has the class whose intensity is nearest: ``-(x - c)²/2d²`` without its ``x²``.

    ``d`` is the distance between neighbouring classes, so each class blends into its neighbours and, as with a trained
    network, only a few reach a share that matters in a voxel.
    """
    hounsfield = _hounsfield(np.ones(classes), np.arange(classes), classes)
    centre = torch.from_numpy(_scaled(hounsfield)).float()
    width = _RANGE_HU / (_WINDOW_HU[1] - _WINDOW_HU[0]) / max(classes - 1, 1)
    return {"weight": (centre / width**2).reshape(-1, 1, 1, 1, 1), "bias": -(centre**2) / (2 * width**2)}


def _train(network: torch.nn.Module, *, classes: int, steps: int, seed: int, size: int = 64) -> None:
    """Teach the network the anatomy on random cubes of it, in scaled intensities."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    network.train()
    for _ in range(steps):
        start, extent = rng.uniform(-1.1, 0.3, 3), rng.uniform(0.6, 0.8)
        grid = np.meshgrid(*(np.linspace(s, s + extent, size) for s in start), indexing="ij")
        inside, organ = anatomy(*grid, classes=classes)
        hounsfield = _hounsfield(inside, organ, classes) + rng.normal(0, 15, organ.shape)
        image = _scaled(hounsfield).clip(0, 1).astype(np.float32)
        loss = criterion(
            network(torch.from_numpy(image)[None, None]), torch.from_numpy(organ.astype(np.int64))[None, None]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
