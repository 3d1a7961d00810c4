"""Small complete bundles, and the plain-MONAI run that everything is compared with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_transfer.bundle.trust import remember

CHANNELS = {"0": "background", "1": "fat", "2": "muscle", "3": "bone"}


def preprocessing(pixdim: tuple[float, ...] | None, extra: list[dict[str, Any]]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    ]
    if pixdim:
        steps.append({"_target_": "Spacingd", "keys": "image", "pixdim": list(pixdim), "mode": "bilinear"})
    steps.append(
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": -200,
            "a_max": 300,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        }
    )
    return {"_target_": "Compose", "transforms": [*steps, *extra]}


def configuration(
    *,
    network: dict[str, Any],
    roi: tuple[int, ...] = (16, 16, 16),
    overlap: float = 0.5,
    mode: str = "gaussian",
    pixdim: tuple[float, ...] | None = (1.5, 1.5, 2.0),
    extra: list[dict[str, Any]] | None = None,
    sigmoid: bool = False,
    nearest: bool = False,
) -> dict[str, Any]:
    return {
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "network_def": network,
        "preprocessing": preprocessing(pixdim, extra or []),
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(roi),
            "sw_batch_size": 2,
            "overlap": overlap,
            "mode": mode,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", **({"sigmoid": True} if sigmoid else {"softmax": True})},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": nearest,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", **({"threshold": 0.5} if sigmoid else {"argmax": True})},
            ],
        },
    }


UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 4,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
}
BANDS: dict[str, Any] = {
    "_target_": "torch.nn.Conv3d",
    "in_channels": 1,
    "out_channels": 4,
    "kernel_size": 3,
    "padding": 1,
}


def band_weights(classes: int, kernel: int = 3) -> dict[str, torch.Tensor]:
    """A smoothing convolution whose classes are bands of intensity: class c is nearest to c / (classes - 1)."""
    centres = torch.linspace(0, 1, classes)
    slope = 20 * centres
    weight = slope[:, None].repeat(1, kernel**3) / kernel**3
    return {"weight": weight.reshape(classes, 1, kernel, kernel, kernel), "bias": -10 * centres**2}


MakeBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    def make(*, seed: int = 0, smooth: bool = True, channels: dict[str, str] | None = None, **settings: Any) -> Path:
        root = tmp_path_factory.mktemp("bundle")
        config = configuration(network=settings.pop("network", BANDS if smooth else UNET), **settings)
        names = channels or CHANNELS
        metadata = {
            "version": "0.1.0",
            "generator": "monai-transfer",
            "network_data_format": {
                "inputs": {"image": {"num_channels": 1}},
                "outputs": {"pred": {"num_channels": len(names), "channel_def": names}},
            },
        }
        (root / "configs").mkdir()
        (root / "models").mkdir()
        (root / "configs" / "inference.json").write_text(json.dumps(config))
        (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
        torch.manual_seed(seed)
        parser = ConfigParser(config)
        network = parser.get_parsed_content("network_def")
        if smooth:
            network.load_state_dict(band_weights(network.out_channels, network.kernel_size[0]))
        torch.save(network.state_dict(), root / "models" / "model.pt")
        remember(root)  # what these tests make is not a bundle of a stranger
        return root

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle()


def stock(root: Path, image: Path) -> tuple[np.ndarray, np.ndarray]:
    """Plain MONAI: (labels, probabilities) on the native grid, channel first."""
    parser = ConfigParser()
    parser.read_config(root / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True))
    data = parser.get_parsed_content("preprocessing")({"image": str(image)})
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    activate, invert, *finish = parser.get_parsed_content("postprocessing").transforms
    data = invert(activate(data))
    probabilities = data["pred"].numpy().copy()
    for step in finish:
        data = step(data)
    return data["pred"].numpy(), probabilities


def body(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A CT-like volume: air, an ellipsoid of smoothly varying tissue, noise."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = sum((a / 0.8) ** 2 for a in axes)
    tissue = 50 + 250 * np.sin(3 * axes[0] + seed) * np.cos(2 * axes[-1])
    volume = np.where(radius < 1, tissue, -1000) + rng.normal(0, 10, shape)
    return volume.round().astype(np.int16)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    if affine is None:
        affine = np.array([[-0.9, 0, 0, 40], [0, -1.1, 0, 30], [0, 0, 1.7, -20], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "ct.nii.gz", body((45, 38, 29)))
