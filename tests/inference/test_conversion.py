"""Networks that another runtime computes: the labels of PyTorch, one conversion, PyTorch where there is none."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.inference import Segmenter, SegmentOptions, conversion, predictor
from monai_transfer.inference.conversion import ConversionError, ConvertedNetwork
from monai_transfer.inference.predictor import Predictor
from monai_transfer.workflows.segmenting import segment

from .conftest import BANDS, UNET, MakeBundle, body, stock, write_nifti

RESNET: dict[str, Any] = {
    "_target_": "FlexibleUNet",
    "in_channels": 1,
    "out_channels": 4,
    "backbone": "resnet18",
    "decoder_channels": [16, 8, 8, 8, 8],
    "spatial_dims": 3,
}
WINDOW = (1, 8, 8, 8)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MONAI_TRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runtimes"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.PReLU(), nn.Conv3d(4, 3, 1)).eval()


class Unconvertible(nn.Module):
    """Leaves torch on its way, as no graph can."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        raise_if_traced = torch.jit.is_tracing() or torch.compiler.is_exporting()
        if raise_if_traced:
            raise RuntimeError("this network decides in Python")
        return windows.repeat(1, 4, 1, 1, 1)


def require(runtime: str) -> None:
    pytest.importorskip(conversion.PACKAGES[runtime])  # type: ignore[index]
    if runtime == "onnx":
        pytest.importorskip("onnxscript")


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("unet", "openvino"),
        ("unet", "onnx"),
        *(pytest.param("resnet18", runtime, marks=pytest.mark.slow) for runtime in ("openvino", "onnx")),
    ],
)
def test_labels_are_those_of_torch(make_bundle: MakeBundle, tmp_path: Path, name: str, runtime: str) -> None:
    require(runtime)
    definition, roi = (UNET, (16, 16, 16)) if name == "unet" else (RESNET, (32, 32, 32))
    root = make_bundle(smooth=False, network=definition, roi=roi)
    ct = write_nifti(tmp_path / "ct.nii.gz", body((45, 38, 29)))
    by_torch, converted = (
        Segmenter.from_bundle(root, device="cpu", options=SegmentOptions(runtime=which))  # type: ignore[arg-type]
        for which in ("torch", runtime)
    )
    expected, found = by_torch.segment(ct).labels, converted.segment(ct).labels
    assert (by_torch.predictor.used, converted.predictor.used) == ("torch", runtime)
    # untrained, the ResNet gives one label everywhere: that its logits are torch's was seen when it was converted
    assert name == "resnet18" or len(np.unique(expected)) > 1
    assert (found == expected).mean() >= 0.9999


@pytest.mark.parametrize("runtime", ["torch", "openvino", "onnx"])
def test_many_classes_equal_plain_monai(make_bundle: MakeBundle, tmp_path: Path, runtime: Any) -> None:
    """The slab of 117 classes against MONAI, which holds all their probabilities on the native grid."""
    if runtime != "torch":
        require(runtime)
    names = {str(n): f"organ_{n}" if n else "background" for n in range(117)}
    root = make_bundle(network={**BANDS, "out_channels": 117}, channels=names, overlap=0.25)
    ct = write_nifti(tmp_path / "ct.nii.gz", body((45, 38, 29)))
    expected, _ = stock(root, ct)
    segmenter = Segmenter.from_bundle(root, device="cpu", options=SegmentOptions(runtime=runtime, skip_empty=False))
    found = segmenter.segment(ct).labels
    assert segmenter.predictor.used == runtime
    assert len(np.unique(expected)) > 60
    assert (found == expected[0]).mean() >= 0.9999


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_a_network_is_converted_once(
    network: nn.Module, cache: Path, monkeypatch: pytest.MonkeyPatch, runtime: Any
) -> None:
    require(runtime)
    calls = []
    write = conversion._WRITERS[runtime]
    monkeypatch.setitem(conversion._WRITERS, runtime, lambda *given: (calls.append(given), write(*given)))
    windows = torch.randn(3, *WINDOW)
    for _ in range(2):
        converted = ConvertedNetwork(network, WINDOW, runtime=runtime, threads=1)
        with torch.no_grad():
            torch.testing.assert_close(converted(windows), network(windows), rtol=1e-4, atol=1e-4)
    assert len(calls) == 1
    with torch.no_grad():
        network[0].weight *= 2  # type: ignore[index, operator]
    ConvertedNetwork(network, WINDOW, runtime=runtime, threads=1)
    assert len(calls) == 2
    assert len(list(cache.iterdir())) == 2


def test_a_result_that_is_still_looked_at_stays_as_it_is(network: nn.Module) -> None:
    require("openvino")
    converted = ConvertedNetwork(network, WINDOW, runtime="openvino", threads=1)
    windows = torch.randn(3, 1, *WINDOW)
    with torch.no_grad():
        expected = [network(window) for window in windows]
    kept = [converted(window)[:, :1] for window in windows]  # a view keeps the whole
    for found, logits in zip(kept, expected, strict=True):
        torch.testing.assert_close(found, logits[:, :1], rtol=1e-4, atol=1e-4)
    place = converted(windows[0]).data_ptr()
    assert converted(windows[1]).data_ptr() == place  # nobody looked: no memory was taken anew


def test_mirrored_windows_and_ensembles_are_computed_too(network: nn.Module) -> None:
    require("openvino")
    windows = torch.randn(2, *WINDOW)
    both = {which: Predictor([network, network], device=CPU, mirror_axes=(0,), runtime=which) for which in WHICH}
    for each in both.values():
        each.prepare(windows[:1], voxels=1)
    torch.testing.assert_close(both["openvino"](windows), both["torch"](windows), rtol=1e-4, atol=1e-4)


WHICH: tuple[Any, ...] = ("torch", "openvino")


def test_other_logits_are_refused(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    require("openvino")
    other = nn.Conv3d(1, 3, 3, padding=1)
    write = conversion._WRITERS["openvino"]
    monkeypatch.setitem(conversion._WRITERS, "openvino", lambda _, window, file: write(other, window, file))
    with pytest.raises(ConversionError, match="differ"):
        ConvertedNetwork(network, WINDOW, runtime="openvino", threads=1)


def test_torch_computes_what_cannot_be_converted(make_bundle: MakeBundle, tmp_path: Path) -> None:
    require("openvino")
    root = make_bundle()
    image = write_nifti(tmp_path / "ct.nii.gz", body((45, 38, 29)))
    segmenter = Segmenter.from_bundle(root, device="cpu", options=SegmentOptions(runtime="openvino"))
    segmenter.predictor.networks[0] = Unconvertible()
    segment([image], segmenter, tmp_path / "out")
    case = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"][0]
    assert (case["status"], case["runtime"]) == ("ok", "torch")
    (warning,) = [text for text in case["warnings"] if "PyTorch computes it" in text]
    assert "openvino cannot run this network" in warning


def test_a_cache_that_cannot_be_written_is_told(network: nn.Module, cache: Path) -> None:
    require("openvino")
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.write_text("a file is in the way")
    with pytest.raises(ConversionError, match="MONAI_TRANSFER_CACHE"):
        ConvertedNetwork(network, WINDOW, runtime="openvino", threads=1)


def test_auto_converts_for_large_cases_only(network: nn.Module) -> None:
    require("openvino")
    chosen = Predictor([network], device=CPU, runtime="auto")
    window = torch.zeros(1, *WINDOW)
    for voxels, used in ((predictor.WORTH_CONVERTING - 1, "torch"), (predictor.WORTH_CONVERTING, "openvino")):
        chosen.prepare(window, voxels=voxels)
        assert chosen.used == used


def test_a_runtime_has_to_be_installed_and_to_suit(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    require("openvino")
    with pytest.raises(UserError, match="--compile"):
        Predictor([network], device=CPU, runtime="openvino", compile=True)
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"monai-transfer\[onnx\]"):
        Predictor([network], device=CPU, runtime="onnx")
    monkeypatch.setattr(predictor, "WORTH_CONVERTING", 0)
    auto = Predictor([network], device=CPU, runtime="auto")
    auto.prepare(torch.zeros(1, *WINDOW), voxels=1)
    assert auto.used == "torch"


TWO_NETWORKS_THEN_CTRL_C = """
import os, signal, time
import torch
from torch import nn
from monai_transfer.inference.conversion import ConvertedNetwork

network = nn.Conv3d(1, 2, 3).eval()
first, second = (ConvertedNetwork(network, (1, 8, 8, 8), runtime="openvino", threads=1) for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, lambda number, frame: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
"""


def test_a_signal_is_heard_after_networks_that_ended(cache: Path) -> None:
    require("openvino")
    done = subprocess.run([sys.executable, "-c", TWO_NETWORKS_THEN_CTRL_C], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
