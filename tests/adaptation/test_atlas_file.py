"""The file in which a bundle keeps its atlas."""

from pathlib import Path

import pytest
import torch

from monai_transfer.adaptation import LabelAtlas
from monai_transfer.adaptation.atlas_file import read_atlas, write_atlas
from monai_transfer.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    label = torch.zeros(1, 12, 12, dtype=torch.long)
    label[0, 2:6, 2:6], label[0, 8:10, 8:10] = 1, 2
    write_atlas(LabelAtlas([label] * 3, classes=3), tmp_path / "anatomy.safetensors")
    return tmp_path / "anatomy.safetensors"


def test_is_read_as_it_was_written(file: Path) -> None:
    atlas = read_atlas(file, classes=3)
    assert atlas.usual.tolist() == [16, 4]
    assert float(atlas.share.max()) <= 1.0
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_of_other_labels_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match=r"anatomy\.safetensors knows 2 labels, the bundle 4: remove it"):
        read_atlas(file, classes=5)


@pytest.mark.parametrize("damage", [b"", b"\x80\x04.", b"x" * 100])
def test_damaged_is_refused(file: Path, damage: bytes) -> None:
    file.write_bytes(damage)
    with pytest.raises(UserError, match="not a readable atlas"):
        read_atlas(file)
