"""A bundle as TorchScript and as ONNX: the same logits for any number of windows, without this package or PyTorch."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.reading import Decision, read_bundle
from monai_transfer.bundle.trust import remember
from monai_transfer.errors import UserError
from monai_transfer.networks.shortcuts import exportable
from monai_transfer.workflows import exporting
from monai_transfer.workflows.adaptation import adapt, choose_domains, plan_from
from monai_transfer.workflows.exporting import export_bundle, parity

ROI = (32, 32, 32)
NETWORKS = ("unet", "unet_with_structure", "resnet18", "vgg16_bn", "densenet121")
HEAVY = tuple(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS[1:])


def spread(network: nn.Module) -> nn.Module:
    """Weights whose logits differ from voxel to voxel, so that equal labels say something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.Conv3d) and isinstance(module.weight, nn.Parameter):
            nn.init.kaiming_normal_(module.weight)
    return network.eval()


def a_bundle(root: Path, name: str) -> Path:
    definition = network_definition(name, classes=4)
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": list(ROI), "sw_batch_size": 1, "overlap": 0.25}
    load = {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}
    inference = {
        "bundle_root": ".",
        "network_def": definition,
        "preprocessing": {"_target_": "Compose", "transforms": [load]},
        "inferer": inferer,
    }
    formats = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 4}}}
    (root / "configs" / "inference.json").write_text(json.dumps(inference))
    (root / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": formats}))
    network = spread(ConfigParser({"network": definition}).get_parsed_content("network"))
    torch.save(network.state_dict(), root / "models" / "model.pt")
    remember(root)
    return root


@pytest.mark.parametrize("name", ["unet", *HEAVY])
def test_torchscript_computes_the_same(tmp_path: Path, name: str) -> None:
    exported = export_bundle(a_bundle(tmp_path / "bundle", name), format="torchscript")
    assert exported.file == tmp_path / "bundle" / "models" / "model.ts"
    assert exported.largest_difference < 1e-3
    assert exported.equal_labels > 0.9999
    extra = {"metadata.json": "", "inference.json": ""}
    network = torch.jit.load(str(exported.file), _extra_files=extra)
    assert network(torch.zeros(5, 1, *ROI)).shape == (5, 4, *ROI)
    assert json.loads(extra["metadata.json"])["network_data_format"]["outputs"]["pred"]["num_channels"] == 4
    assert "preprocessing" in json.loads(extra["inference.json"])
    assert "model/extra/inference.json" in zipfile.ZipFile(exported.file).namelist()  # where MONAI Deploy reads it


WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = sys.modules["monai"] = None
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
logits = session.run(["logits"], {"image": numpy.load(sys.argv[2])})[0]
numpy.save(sys.argv[3], logits)
assert "preprocessing" in json.loads(session.get_modelmeta().custom_metadata_map["inference"])
"""


@pytest.mark.parametrize("name", [pytest.param("unet", marks=pytest.mark.slow), *HEAVY])
def test_onnx_runs_without_pytorch(tmp_path: Path, name: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    root = a_bundle(tmp_path / "bundle", name)
    exported = export_bundle(root, format="onnx", output=tmp_path / "network.onnx")
    assert exported.largest_difference < 1e-3
    assert exported.equal_labels > 0.9999
    windows = np.random.default_rng(1).normal(size=(5, 1, *ROI)).astype(np.float32)
    given, taken = tmp_path / "windows.npy", tmp_path / "logits.npy"
    np.save(given, windows)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, exported.file, given, taken], check=True)
    network = torch.jit.load(export_bundle(root).file)
    np.testing.assert_allclose(np.load(taken), network(torch.from_numpy(windows)).detach().numpy(), atol=1e-3)


@pytest.mark.slow
def test_an_adapted_bundle_makes_the_round_trip(domains: Path, tmp_path: Path) -> None:
    where = choose_domains(domains / "ct", domains / "mr")
    made = adapt(
        where, plan_from(where, device="cpu", steps=2, spacing=(8.0, 8.0, 8.0)), tmp_path / "made", oracle=False
    )
    for kind in ("torchscript", "onnx"):
        exported = export_bundle(made.bundle.root, format=kind)
        assert exported.file.is_file()
        assert exported.largest_difference < 1e-3
        assert exported.equal_labels > 0.9999


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_bundle(tmp_path / "bundle", "unet")
    (before,) = (root / "models").iterdir()
    other = nn.Conv3d(1, 4, 1)
    write: Any = exporting._WRITERS["torchscript"]
    monkeypatch.setitem(exporting._WRITERS, "torchscript", lambda _, *given: write(other, *given))
    with pytest.raises(UserError, match="logits differ"):
        export_bundle(root)
    assert list((root / "models").iterdir()) == [before]


@pytest.mark.parametrize(("threshold", "equal"), [(None, 1.0), (0.5, 1.0), (0.9, 0.0)])
def test_overlapping_labels_are_compared_at_the_threshold_of_the_bundle(
    tmp_path: Path, threshold: float | None, equal: float
) -> None:
    read = read_bundle(a_bundle(tmp_path / "bundle", "unet"))
    decision = Decision() if threshold is None else Decision("sigmoid", threshold)
    read.network.forward = lambda windows: torch.full((len(windows), 4, *ROI), 2.1)  # a probability of 0.891
    difference, same = parity(
        replace(read, decision=decision), (1, *ROI), lambda windows: np.full((len(windows), 4, *ROI), 2.3, np.float32)
    )  # of 0.909
    assert difference == pytest.approx(0.2 / 2.1, abs=1e-6)
    assert same == equal


def test_bad_input_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_bundle(tmp_path / "bundle", "unet")
    with pytest.raises(UserError, match="a file is in the way"):
        export_bundle(root, output=root / "configs" / "inference.json" / "model.ts")
    with monkeypatch.context() as patch:
        patch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"monai-transfer\[onnx\]"):
            export_bundle(root, format="onnx")
    config = root / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["inferer"]["roi_size"] = [-1, -1, -1]
    config.write_text(json.dumps(content))
    with pytest.raises(UserError, match="as large as the image"):
        export_bundle(root)


@pytest.mark.parametrize("size", [32, 64])
def test_shortcuts_are_those_of_monai(size: int) -> None:
    definition = network_definition("resnet18", classes=2) | {"decoder_channels": [8, 8, 8, 8, 8]}
    network = spread(ConfigParser({"network": definition}).get_parsed_content("network"))
    image = torch.randn(1, 1, size, size, size)
    with torch.no_grad():
        torch.testing.assert_close(exportable(network)(image), network(image), rtol=0, atol=0)
    assert exportable(network).state_dict().keys() == network.state_dict().keys()
