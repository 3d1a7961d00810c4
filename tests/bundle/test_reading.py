"""Broken bundles: one sentence each, from the light reader or from the one that builds; never an internal error."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.networks import read_network
from monai_transfer.bundle.reading import Decision, read_bundle
from monai_transfer.errors import UserError
from tests.volumes.test_odd_files import MOST_MB, highest_mb

CONFIG: dict[str, Any] = {
    "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
    "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "LoadImaged", "keys": "image"}]},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
}
METADATA = {
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "modality": "CT"}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "liver"}}},
    }
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(CONFIG))
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    torch.save(torch.nn.Conv3d(1, 2, 1).state_dict(), folder / "models" / "model.pt")
    return folder


def _config(**changes: Any) -> Callable[[Path], None]:
    content = {name: value for name, value in {**CONFIG, **changes}.items() if value is not None}
    return lambda root: (root / "configs" / "inference.json").write_text(json.dumps(content)) and None


def _file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


def _weights(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda root: torch.save(make(), root / "models" / "model.pt")


def _folder_in_place(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return change


def _bomb(root: Path) -> None:
    with zipfile.ZipFile(root / "models" / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(50_000_000))


def _yaml_bomb(root: Path) -> None:
    (root / "configs" / "inference.json").unlink()
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]
    (root / "configs" / "inference.yaml").write_text("\n".join(lines))


INFERENCE = "configs/inference.json"
BROKEN: dict[str, Callable[[Path], Any]] = {
    "no inference": lambda root: (root / INFERENCE).unlink(),
    "no weights": lambda root: (root / "models" / "model.pt").unlink(),
    "inference is a folder": _folder_in_place(INFERENCE),
    "weights are a folder": _folder_in_place("models/model.pt"),
    "broken JSON": _file(INFERENCE, b'{"network_def": '),
    "not UTF-8": _file(INFERENCE, b'{"a": "\xff\xfe"}'),
    "empty file": _file(INFERENCE, b""),
    "a list": _file(INFERENCE, b"[1, 2]"),
    "nested deeply": _file(INFERENCE, b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "nested by 500": _file(INFERENCE, b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "a name twice": _file(INFERENCE, b'{"network_def": 1, "network_def": 2}'),
    "broken metadata": _file("configs/metadata.json", b"{"),
    "metadata is not an object": _file("configs/metadata.json", b'"text"'),
    "labels are not numbers": _file(
        "configs/metadata.json", b'{"network_data_format": {"outputs": {"pred": {"channel_def": {"x": "y"}}}}}'
    ),
    "YAML bomb": _yaml_bomb,
    "no network": _config(network_def=None),
    "network is a text": _config(network_def="UNet"),
    "no preprocessing": _config(preprocessing=None),
    "preprocessing is a number": _config(preprocessing=3),
    "preprocessing is empty": _config(preprocessing={"_target_": "Compose", "transforms": []}),
    "no inferer": _config(inferer=None),
    "reference to nothing": _config(network_def="@nothing"),
    "reference in a circle": _config(network_def="@a", a="@b", b="@a"),
    "a billion outputs": _config(network_def={**CONFIG["network_def"], "out_channels": 10**9}),
    "kernels of a million": _config(network_def={**CONFIG["network_def"], "kernel_size": 10**6}),
    "a network of terabytes": _config(
        network_def={"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "strides": [2]}
        | {"channels": [200_000, 200_000]}
    ),
    "unknown argument": _config(network_def={"_target_": "torch.nn.Conv3d", "colour": "red"}),
    "window of nothing": _config(inferer={"_target_": "SlidingWindowInferer", "roi_size": [16, 0, -3]}),
    "window as large as a house": _config(inferer={"_target_": "SlidingWindowInferer", "roi_size": [9000, 9000, 9000]}),
    "window of two axes": _config(inferer={"_target_": "SlidingWindowInferer", "roi_size": [16, 16]}),
    "window of no size": _config(inferer={"_target_": "SlidingWindowInferer", "roi_size": "big"}),
    "inferer is a number": _config(inferer=3),
    "overlap of 1": _config(inferer={"_target_": "SlidingWindowInferer", "roi_size": [16] * 3, "overlap": 1.0}),
    "weights of another shape": _weights(lambda: torch.nn.Conv3d(1, 3, 1).state_dict()),
    "weights of other names": _weights(lambda: {"a": torch.zeros(1), "b": torch.zeros(2)}),
    "weights with NaN": _weights(lambda: {"weight": torch.full((2, 1, 1, 1, 1), torch.nan), "bias": torch.zeros(2)}),
    "weights with infinity": _weights(
        lambda: {"weight": torch.ones(2, 1, 1, 1, 1), "bias": torch.tensor([0, torch.inf])}
    ),
    "weights that stand for terabytes": _weights(
        lambda: {"weight": torch.zeros(1).expand(10**6, 10**6), "bias": torch.zeros(2)}
    ),
    "pickled weights": _weights(lambda: torch.nn.Conv3d(1, 2, 1)),
    "weights are not a file of PyTorch": _file("models/model.pt", b"<html>"),
    "weights cut short": lambda root: (root / "models" / "model.pt").write_bytes(
        (root / "models" / "model.pt").read_bytes()[:500]
    ),
    "weight bomb": _bomb,
}


def test_a_sound_bundle(root: Path) -> None:
    bundle = read_bundle(root)
    assert bundle.label_names == {0: "background", 1: "liver"}
    assert (bundle.in_channels, bundle.out_channels, bundle.image_key) == (1, 2, "image")
    assert isinstance(read_network(root), torch.nn.Conv3d)
    facts = inspect_bundle(root)
    assert facts.foreign
    assert not facts.concerns
    assert (facts.modality, facts.out_channels, facts.label_names) == ("CT", 2, {0: "background", 1: "liver"})


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_bundle_is_one_sentence(root: Path, fault: str) -> None:
    BROKEN[fault](root)
    before = highest_mb(anew=True)
    with pytest.raises(UserError) as refusal:
        read_bundle(root, trust=True)
    assert highest_mb() - before < MOST_MB
    message = str(refusal.value)
    assert "\n" not in message
    assert str(root) in message
    assert len(message) < 800


def test_an_unknown_target_is_named(root: Path) -> None:
    _config(network_def={"_target_": "monai.networks.nets.NoSuchNet"})(root)
    with pytest.raises(UserError, match="NoSuchNet"):
        read_bundle(root)
    with pytest.raises(UserError, match="NoSuchNet"):
        read_bundle(root, trust=True)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_bundle_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for reader in (read_bundle, read_network, inspect_bundle):
        with pytest.raises(UserError, match="bundle"):
            reader(tmp_path / name)


def test_code_in_metadata_is_never_evaluated(root: Path) -> None:
    canary = root / "canary"
    path = root / "configs" / "metadata.json"
    path.write_text(json.dumps({**METADATA, "note": f"$open({str(canary)!r}, 'w')", "other": "%nowhere.json::x"}))
    read_bundle(root, trust=True)
    assert not canary.exists()


def test_overlapping_labels_have_no_background() -> None:
    assert Decision("softmax").drawn({0: "background", 1: "liver"}) == {1: "liver"}
    assert Decision("sigmoid", threshold=0.5).drawn({0: "edema", 1: "core"}) == {0: "edema", 1: "core"}
