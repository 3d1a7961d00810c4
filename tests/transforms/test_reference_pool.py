import nibabel as nib
import numpy as np
import pytest
import torch

from monai_transfer.errors import UserError
from monai_transfer.transforms import ReferencePool


def test_reads_files_once_and_takes_tensors(tmp_path):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), 7.0, np.float32), np.eye(4)), path)
    state = np.random.RandomState(0)
    pool = ReferencePool([path])
    image = pool.draw(state)
    assert image.shape == (1, 3, 4, 5)
    assert (image == 7).all()
    path.unlink()
    assert pool.draw(state) is image
    assert ReferencePool([torch.ones(1, 2, 2)]).draw(state).dtype == torch.float32


def test_own_preprocessing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    assert ReferencePool([path], load=lambda name: np.ones((1, 2, 2))).draw(np.random.RandomState(0)).sum() == 4


def test_draws_all_of_them():
    pool = ReferencePool([torch.full((1, 1), float(i)) for i in range(4)])
    state = np.random.RandomState(0)
    assert {pool.draw(state).item() for _ in range(50)} == {0.0, 1.0, 2.0, 3.0}


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="at least one"):
        ReferencePool([])
    with pytest.raises(UserError, match=r"gone\.nii"):
        ReferencePool([tmp_path / "gone.nii"]).draw(np.random.RandomState(0))
