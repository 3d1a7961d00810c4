import numpy as np
import pytest

from monai_transfer.errors import UserError
from monai_transfer.evaluation.matching import read_single
from monai_transfer.figures.slices import OverlayCase
from tests.conftest import WriteVolume


def test_pictures_show_the_first_of_several_channels(write_volume: WriteVolume) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 5, 4, 3)).astype(np.float32)
    image = write_volume("image.nii.gz", voxels)
    label = write_volume("label.nii.gz", np.ones((6, 5, 4), np.uint8))
    assert np.array_equal(OverlayCase.read("a", image, label_names={}, truth=label).image, voxels[..., 0])
    with pytest.raises(UserError, match="give one volume a file"):
        read_single(image)
