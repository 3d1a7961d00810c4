import argparse
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from monai_transfer.errors import UserError
from monai_transfer.weights import read_checkpoint

STATE = {"conv.weight": torch.arange(4.0).reshape(2, 2), "conv.bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("content", "wrapper"),
    [
        (STATE, ""),
        ({"state_dict": STATE, "epoch": 3}, "state_dict"),
        ({"model": STATE, "optimizer": {"state": {0: {"m": torch.ones(9)}}}}, "model"),
        ({"network": STATE}, "network"),
        ({"network_weights": STATE, "current_epoch": 9}, "network_weights"),
        ({"net": STATE, "trainer": {"iteration": 2}}, "net"),
        ({"checkpoint": {"state_dict": STATE}}, "checkpoint.state_dict"),
    ],
)
def test_wrappers(content, wrapper, tmp_path):
    torch.save(content, tmp_path / "file.pth")
    checkpoint = read_checkpoint(tmp_path / "file.pth")
    assert checkpoint.wrapper == wrapper
    assert set(checkpoint.tensors) == set(STATE)
    assert torch.equal(checkpoint.tensors["conv.weight"], STATE["conv.weight"])


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "file.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "file.safetensors").tensors["conv.bias"], torch.ones(2))


def test_numpy_scores_of_nnunet_are_read(tmp_path):
    content = {
        "network_weights": STATE,
        "_best_ema": np.float64(0.5),
        "logging": {"mean_fg_dice": [np.float32(0.25)], "epoch": np.int64(3)},
    }
    torch.save(content, tmp_path / "checkpoint_final.pth")
    assert read_checkpoint(tmp_path / "checkpoint_final.pth").wrapper == "network_weights"


def test_python_objects_are_refused_by_name(tmp_path):
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"refused: it holds Python objects \(argparse.Namespace\)"):
        read_checkpoint(tmp_path / "file.pth")


def test_code_never_runs(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": STATE, "bomb": Bomb()}, tmp_path / "file.pth")
    with pytest.raises(UserError, match="refused"):
        read_checkpoint(tmp_path / "file.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "a web page|refused"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer|refused"),
        (b"\x80\x02}", "damaged|refused"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files(content, words, suffix, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words if suffix == ".pth" else "fetch it again") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_cut_short(tmp_path):
    torch.save(STATE, tmp_path / "whole.pth")
    path = tmp_path / "cut.pth"
    path.write_bytes((tmp_path / "whole.pth").read_bytes()[:700])
    with pytest.raises(UserError, match="fetch it again"):
        read_checkpoint(path)


def test_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "file.pt")
    with pytest.raises(UserError, match=r"holds no tensors \(epoch\)"):
        read_checkpoint(tmp_path / "file.pt")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="There is no weights file"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(UserError, match=r"models/model.pt is missing"):
        read_checkpoint(tmp_path)


def test_bundle_names_its_classes(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "configs").mkdir()
    torch.save(STATE, tmp_path / "models" / "model.pt")
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "liver"}}}}}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    assert read_checkpoint(tmp_path).label_names == {0: "background", 1: "liver"}
    (tmp_path / "configs" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_checkpoint(tmp_path)
