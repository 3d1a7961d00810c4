"""The file in which a bundle keeps its atlas."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from monai_transfer.adaptation import LabelAtlas
from monai_transfer.adaptation.atlas_file import atlas_of_tensors, read_atlas, write_atlas
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


def test_keeps_which_labels_have_a_place_and_which_go_on_beyond_the_border(tmp_path: Path) -> None:
    maps = [torch.zeros(1, 16, 16, dtype=torch.long) for _ in range(4)]
    for label, (x, y) in zip(maps, [(1, 1), (12, 2), (2, 12), (13, 13)], strict=True):
        label[0, 7:9], label[0, x : x + 2, y : y + 2] = 1, 2  # a vessel through the image, a lesion anywhere
    written = LabelAtlas(maps, classes=3)
    written.learn_lesions(maps)
    write_atlas(written, tmp_path / "anatomy.safetensors")
    atlas = read_atlas(tmp_path / "anatomy.safetensors")
    assert atlas.placed.tolist() == [True, False]
    assert atlas.reach[0].isfinite().tolist() == [[False, False], [True, True]]
    assert atlas.lesions[1, 2] == 4  # voxels


def test_one_that_was_written_without_them_is_read(file: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(file).items() if name in ("share", "usual", "sigma")}
    atlas = atlas_of_tensors(tensors)
    assert bool(atlas.placed.all())
    assert not bool(atlas.reach.isfinite().any())
    assert not bool(atlas.lesions.any())


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": torch.tensor(0.5)},
        {"share": torch.empty(0)},
        {"placed": torch.ones(3)},
        {"reach": torch.zeros(2, 3, 2)},
        {"reach": torch.full((2, 2, 2), torch.nan)},
        {"lesions": torch.zeros(2, 2)},
        {"lesions": torch.full((2, 3), torch.nan)},
        {"lesions": torch.full((2, 3), 3.0)},  # of a class that there is not
    ],
)
def test_tensors_of_other_shapes_are_refused(file: Path, wrong: dict[str, Tensor]) -> None:
    save_file({**load_file(file), **wrong}, file)
    with pytest.raises(UserError, match="these tensors are no atlas"):
        read_atlas(file, classes=3)
