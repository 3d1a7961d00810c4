import pytest
import torch
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d
from scipy.ndimage import convolve1d

from monai_transfer.transforms import MINDFeatures, MINDFeaturesd

X = torch.rand(1, 10, 11, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 9, 10), (2, 8, 9, 10)])
def test_shape_and_range(shape):
    features = MINDFeatures()(torch.rand(shape))
    assert features.shape == (shape[0] * 2 * (len(shape) - 1), *shape[1:])
    assert features.min() > 0
    assert features.max() == 1


def test_affine_maps_of_intensity_change_nothing():
    torch.testing.assert_close(MINDFeatures()(X), MINDFeatures()(3 - 7 * X), atol=1e-3, rtol=1e-3)


def test_formula_at_one_voxel():
    """Distances by scipy, in the middle of the image where the border plays no part."""
    image = X[0].double().numpy()
    kernel = gaussian_1d(torch.tensor(0.8), truncated=4.0).numpy()
    at, distances = (5, 5, 6), []
    for axis in range(3):
        for shift in (-1, 1):
            neighbour = torch.roll(X[0].double(), -shift, axis).numpy()
            squared = (image - neighbour) ** 2
            for each in range(3):
                squared = convolve1d(squared, kernel, axis=each, mode="constant")
            distances.append(squared[at])
    d = torch.tensor(distances)
    expected = torch.exp(-(d - d.min()) / d.mean())
    torch.testing.assert_close(MINDFeatures()(X)[:, *at].double(), expected, atol=1e-3, rtol=1e-3)


def test_constant_image_is_finite():
    assert torch.isfinite(MINDFeatures()(torch.ones(1, 5, 5, 5))).all()


def test_dictionary_keeps_meta_and_other_keys():
    image = MetaTensor(X.clone(), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    out = MINDFeaturesd("image")({"image": image, "label": X})
    assert out["image"].shape == (6, 10, 11, 12)
    assert torch.equal(out["image"].affine, image.affine)
    assert out["label"] is X
