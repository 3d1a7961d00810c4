"""Files that are no weights are refused as what they are."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.weights import read_checkpoint
from monai_transfer.weights.checkpoint import python_objects


@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_onnx_is_told_by_its_bytes(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\x10graph")
    with pytest.raises(UserError, match="ONNX graph"):
        read_checkpoint(path)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickled_module_is_named(tmp_path, new_format):
    path = tmp_path / "mesh.pth"
    torch.save(nn.Sequential(nn.Conv3d(1, 2, 3)), path, _use_new_zipfile_serialization=new_format)
    assert python_objects(path) == "torch.nn.modules.container.Sequential"
    with pytest.raises(UserError, match=r"holds Python objects \(torch.nn.modules.container.Sequential\)"):
        read_checkpoint(path)


def test_safetensors_are_known_by_their_bytes(tmp_path):
    """Brainchop's files end in .pth."""
    save_file({"model.0.weight": torch.ones(2)}, tmp_path / "model.pth")
    assert read_checkpoint(tmp_path / "model.pth").tensors["model.0.weight"].tolist() == [1.0, 1.0]
    (tmp_path / "short.pth").write_bytes((10**6).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="damaged or not a PyTorch file"):
        read_checkpoint(tmp_path / "short.pth")


def test_plain_tensors_name_no_object(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"a": torch.zeros(2)}, path)
    assert python_objects(path) == ""
    (tmp_path / "noise").write_bytes(pickle.dumps(1)[:3])
    assert python_objects(tmp_path / "noise") == ""
