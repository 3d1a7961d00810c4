"""A network of this package in the words of MONAI: the same both ways, and nothing else is taken for it."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from monai_transfer.bundle.facts import inspect_bundle, parse_config
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.networks import (
    NETWORKS,
    WITH_STRUCTURE,
    network_definition,
    read_network,
    recognised,
    spelled_out,
)
from monai_transfer.bundle.trust import UntrustedBundleError
from monai_transfer.networks import StructureUNet, exportable


def content(channels: int = 1, dims: int = 3) -> dict[str, Any]:
    definition = network_definition(WITH_STRUCTURE, classes=3, channels=channels, spatial_dims=dims)
    return {"imports": ["$import torch"], "network_def": definition, "network": "$@network_def.to(@device)"}


@pytest.mark.parametrize(("channels", "dims"), [(1, 3), (2, 3), (1, 2)])
def test_monai_builds_the_same_network(channels: int, dims: int) -> None:
    torch.manual_seed(0)
    words = spelled_out(content(channels, dims))
    assert "monai_transfer" not in json.dumps(words)
    assert recognised(json.loads(json.dumps(words))) == content(channels, dims)
    ours, plain = (
        ConfigParser(each).get_parsed_content("network_def").eval() for each in (content(channels, dims), words)
    )
    assert repr(plain.structure) == repr(exportable(ours).structure), "layer by layer, to the last number"
    torch.nn.init.normal_(ours.model[0].conv.weight, std=0.1)
    plain.load_state_dict(ours.state_dict())
    image = torch.randn(1, channels, *(32,) * dims)
    with torch.no_grad():
        torch.testing.assert_close(plain(image), ours(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != WITH_STRUCTURE])
def test_every_other_network_stays_as_it_is(name: str) -> None:
    given = {"network_def": network_definition(name, classes=3)}
    assert spelled_out(given) == given == recognised(given)


def edit(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(words: dict[str, Any]) -> None:
        *parents, last = place.split("#")
        inner: Any = words
        for name in parents:
            inner = inner[int(name) if isinstance(inner, list) else name]
        inner[int(last) if isinstance(inner, list) else last] = value

    return change


EDITS = {
    "another layer": edit("structure#4", {"_target_": "torch.nn.Sigmoid"}),
    "another quotient": edit("structure#3#submodule", "$torch.nn.Identity()"),
    "code for a layer": edit("structure#5", {"_target_": "os.system", "command": "true"}),
    "no U-Net": edit("unet", "$@other"),
    "a U-Net of other channels": edit("unet#in_channels", 8),
    "channels that are no number": edit("unet#in_channels", "7"),
    "four dimensions": edit("unet#spatial_dims", 4),
    "dimensions that are no whole number": edit("unet#spatial_dims", 3.0),
    "another expression": edit("network_def", "$torch.nn.Sequential(@unet)"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_what_was_edited_is_not_taken_for_it(kind: str) -> None:
    words = copy.deepcopy(spelled_out(content()))
    EDITS[kind](words)
    assert recognised(words) == words


@pytest.mark.parametrize("name", ["spatial_dims", "in_channels"])
def test_a_definition_of_references_stays_as_it_is(name: str) -> None:
    given = content()
    given["network_def"][name] = "@number"
    assert spelled_out(given) == given


def test_names_are_read_without_waiting_for_torch(tmp_path: Path) -> None:
    configs = {"inference": {**BundleFolder(made(tmp_path)).read("inference"), **content()}}
    bundle = BundleFolder.create("segmentation_transfer", tmp_path / "bundle", configs=configs)
    code = (
        "import sys; from monai_transfer.bundle.facts import inspect_bundle\n"
        f"inspect_bundle({str(bundle.root)!r}); assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bundle_holds_it_in_words_and_is_read_by_its_name(tmp_path: Path) -> None:
    configs = {"inference": {**BundleFolder(made(tmp_path)).read("inference"), **content()}}
    bundle = BundleFolder.create("segmentation_transfer", tmp_path / "bundle", configs=configs)
    written = bundle.read("inference")
    assert "monai_transfer" not in json.dumps(written)
    assert parse_config(bundle.root / "configs" / "inference.json") == configs["inference"]
    assert type(read_network(bundle.root)) is StructureUNet


def test_a_foreign_bundle_of_it_needs_no_trust_but_an_edited_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {"inference": {**BundleFolder(made(tmp_path)).read("inference"), **content()}}
    bundle = BundleFolder.create("segmentation_transfer", tmp_path / "bundle", configs=configs)
    monkeypatch.setenv("MONAI_TRANSFER_STATE", str(tmp_path / "elsewhere"))
    facts = inspect_bundle(bundle.root)
    assert (facts.foreign, facts.concerns) == (True, ())
    assert type(read_network(bundle.root)) is StructureUNet
    bundle.change("inference", {"structure#5": {"_target_": "os.system", "command": "true"}})
    assert "inference, structure#5: calls os.system" in inspect_bundle(bundle.root).concerns
    with pytest.raises(UntrustedBundleError, match=r"calls os\.system"):
        read_network(bundle.root)


def made(tmp_path: Path) -> Path:
    return BundleFolder.create("segmentation_transfer", tmp_path / "plain").root
