"""A bundle is trusted for a record outside of it, and for nothing that it says itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.trust import (
    UntrustedBundleError,
    is_foreign,
    remember,
    require_trust,
    state_folder,
    templates,
)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return BundleFolder.create("segmentation_transfer", tmp_path / "made").root


def _edit(root: Path) -> None:
    path = root / "configs" / "inference.json"
    path.write_text(path.read_text().replace('"batch_size": 1', '"batch_size": 2'))


def test_the_packaged_bundles_and_their_copies_are_trusted(made: Path) -> None:
    assert not any(is_foreign(folder) for folder in templates().values())
    assert not is_foreign(made)


def test_a_bundle_that_is_made_and_changed_here_stays_trusted(made: Path, tmp_path: Path) -> None:
    bundle = BundleFolder(made)
    bundle.change("inference", {"inferer#overlap": 0.25})
    assert not is_foreign(made)
    configs = {"inference": {**bundle.read("inference"), "note": "$numpy.float64"}}
    planned = BundleFolder.create("segmentation_transfer", tmp_path / "planned", configs=configs).root
    assert not is_foreign(planned)
    shutil.move(made, tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    assert not is_foreign(tmp_path / "moved")
    assert not is_foreign(tmp_path / "copied")


@pytest.mark.parametrize(
    "change",
    [
        _edit,
        lambda root: (root / "configs" / "other.yaml").write_text("a: 1"),
        lambda root: (root / "configs" / "train.json").unlink(),
        lambda root: (root / "configs" / "train.json").rename(root / "configs" / "finetune2.json"),
        lambda root: (root / "scripts").mkdir() or (root / "scripts" / "__init__.py").write_text(""),
    ],
)
def test_trust_ends_with_an_edit(made: Path, change: Callable[[Path], Any]) -> None:
    change(made)
    assert is_foreign(made)


def test_a_foreign_bundle_that_is_changed_here_stays_foreign(made: Path, tmp_path: Path) -> None:
    _edit(made)
    BundleFolder(made).change("inference", {"inferer#overlap": 0.25})
    assert is_foreign(made)
    assert is_foreign(BundleFolder.create(made, tmp_path / "copy").root)


def test_a_copy_of_a_foreign_bundle_with_our_configurations_stays_foreign(made: Path, tmp_path: Path) -> None:
    _edit(made)
    configs = {"inference": {**BundleFolder(made).read("inference"), "note": 1}}
    assert is_foreign(BundleFolder.create(made, tmp_path / "copy", configs=configs).root)


def test_nothing_inside_claims_trust(made: Path) -> None:
    path = made / "configs" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "generator": "monai-transfer", "trusted": True}))
    shutil.copytree(state_folder() if state_folder().is_dir() else made / "docs", made / "state")
    assert is_foreign(made)


def test_weights_and_documents_are_no_code(made: Path) -> None:
    (made / "docs" / "README.md").write_text("new")
    (made / "models").mkdir()
    (made / "models" / "model.pt").write_bytes(b"weights")
    assert not is_foreign(made)


def test_another_installation_does_not_know_it(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BundleFolder(made).change("inference", {"inferer#overlap": 0.25})
    record = next((state_folder() / "bundles").iterdir()).name
    monkeypatch.setenv("MONAI_TRANSFER_STATE", str(tmp_path / "other"))
    assert is_foreign(made)
    remember(templates()["segmentation_transfer"])
    (tmp_path / "other" / "bundles" / record).touch()  # a record of another key says nothing here
    assert is_foreign(made)


def test_the_key_is_the_users_alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_TRANSFER_STATE", str(tmp_path / "state"))
    assert remember(made)
    key = tmp_path / "state" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    assert remember(made)
    assert key.read_bytes() == before


def test_a_state_folder_that_cannot_be_written_is_told(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MONAI_TRANSFER_STATE", str(tmp_path / "file" / "state"))
    _edit(made)
    assert not remember(made)
    assert "count as foreign" in caplog.text
    assert is_foreign(made)


def test_the_refusal_lists_what_would_run(made: Path) -> None:
    _edit(made)
    with pytest.raises(UntrustedBundleError, match="--trust") as refusal:
        require_trust(made, lambda: ("inference: calls os.system",), trust=False)
    assert "os.system" in str(refusal.value)
    require_trust(made, lambda: ("inference: calls os.system",), trust=True)
    require_trust(made, tuple, trust=False)


HARMLESS = [
    {"_target_": "UNet", "spatial_dims": 3},
    {"_target_": "monai.networks.nets.UNet"},
    {"_target_": "torch.nn.Conv3d"},
    {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"},
    {"_target_": "FlexibleUNet", "pretrained": False},
    "$@network_def",
    "$len(@labels)",
    "$-1.5e3",
    "$torch.device('cpu')",
    "%network_def",
    "an ordinary text with $ and % in it",
]

HARMFUL = [
    {"_target_": "os.system", "command": "true"},
    {"_target_": "builtins.eval"},
    {"_target_": "monai.bundle.run"},
    {"_target_": "monai.bundle.scripts.run"},
    {"_target_": "run"},
    {"_target_": "monai.utils.module.instantiate"},
    {"_target_": "torch.load", "f": "x"},
    {"_target_": "torch.save"},
    {"_target_": "torch.hub.load"},
    {"_target_": "monai.data.PersistentDataset"},
    {"_target_": "@name"},
    {"_target_": ["UNet"]},
    {"_target_": "UNet", "_mode_": "debug"},
    {"_target_": "UNet", "_mode_": "callable"},
    {"_target_": "UNet", "_requires_": "$print()"},
    {"_target_": "UNet", "_requires_": "@other"},
    {"_target_": "LoadImaged", "keys": "image", "reader": "os.system"},
    {"_target_": "LoadImaged", "keys": "image", "reader": ["os.system"]},
    {"_target_": "SaveImaged", "writer": "os.system"},
    {"_target_": "SaveImaged", "output_dir": "/etc"},
    {"_target_": "PatchInferer", "merger_cls": "os.system"},
    {"_target_": "FlexibleUNet", "pretrained": True},
    {"_target_": "HoVerNet", "pretrained_url": "http://example.org"},
    {"_target_": "TorchVisiond", "name": "x"},
    {"_target_": "Lambdad", "func": "$lambda x: print(x)"},
    {"$print()": 1},
    "$import os",
    "$from os import system",
    "$__import__('os').system('true')",
    "$@network_def.__class__",
    "$len(@labels) or print()",
    "$@a(1)",
    "%/etc/passwd.json::x",
    "%other.yaml::x",
    "%../other.json",
]


@pytest.mark.parametrize("value", HARMLESS, ids=str)
def test_plain_parts_raise_no_concern(value: Any) -> None:
    assert concerns_of({"part": value}, "inference") == []


@pytest.mark.parametrize("value", HARMFUL, ids=str)
@pytest.mark.parametrize("wrap", [lambda v: {"part": v}, lambda v: {"a": [{"b": [v]}]}], ids=["flat", "deep"])
def test_code_is_a_concern(value: Any, wrap: Callable[[Any], Any]) -> None:
    assert concerns_of(wrap(value), "inference")


def test_concerns_are_one_printable_line_each() -> None:
    (line,) = concerns_of({"a": "$print('\x1b[2J\n" + "x" * 5000 + "')"}, "inference")
    assert line.isprintable()
    assert len(line) < 300


def test_scripts_are_a_concern(made: Path) -> None:
    (made / "scripts").mkdir()
    (made / "scripts" / "evil.py").write_text("raise SystemExit")
    assert any("evil.py" in line for line in inspect_bundle(made).concerns)


def test_the_packaged_inference_is_within_the_list() -> None:
    for folder in templates().values():
        assert concerns_of(json.loads((folder / "configs" / "inference.json").read_text()), "inference") == []
