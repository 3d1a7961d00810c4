import numpy as np
import pytest
import scipy.sparse
import torch
from monai.networks.layers import AffineTransform

from monai_transfer.inference.resampling import NotSeparable, Taps, axis_steps, linear_matrix


def test_linear_interpolation_by_hand() -> None:
    matrix = linear_matrix(4, 3, 0.5, 0.25, mode="bilinear", padding="border").toarray()
    expected = [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0.25, 0.75]]
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_border_clamps_and_zeros_vanish() -> None:
    border = linear_matrix(5, 3, 1.0, -1.0, mode="bilinear", padding="border").toarray()
    zeros = linear_matrix(5, 3, 1.0, -1.0, mode="bilinear", padding="zeros").toarray()
    np.testing.assert_allclose(border, [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(zeros, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize(("scale", "offset"), [(0.7, 0.0), (-1.3, 11.2), (2.1, -0.8)])
def test_equal_to_grid_sample(mode: str, padding: str, scale: float, offset: float) -> None:
    values = torch.rand(1, 1, 12, 3, 3, dtype=torch.float64)
    theta = torch.eye(4, dtype=torch.float64)
    theta[0, 0], theta[0, 3] = scale, offset
    sampler = AffineTransform(mode=mode, padding_mode=padding, align_corners=False)
    expected = sampler(values, theta, (9, 3, 3))[0, 0, :, 1, 1]
    matrix = linear_matrix(9, 12, scale, offset, mode=mode, padding=padding)
    np.testing.assert_allclose(matrix @ values[0, 0, :, 1, 1].numpy(), expected.numpy(), atol=1e-12)


def test_taps_hold_the_matrix() -> None:
    matrix = linear_matrix(7, 5, -0.6, 4.2, mode="bilinear", padding="zeros")
    np.testing.assert_allclose(Taps.from_matrix(matrix).dense().numpy(), matrix.toarray(), atol=1e-6)
    assert Taps.from_matrix(scipy.sparse.eye_array(4, format="csr")).is_identity
    assert not Taps.from_matrix(matrix).is_identity


def test_three_taps_are_refused() -> None:
    with pytest.raises(NotSeparable):
        Taps.from_matrix(scipy.sparse.csr_array(np.ones((2, 3))))


def test_axis_steps() -> None:
    transform = np.array([[0, 2.0, 0, 1], [-1, 0, 0, 5], [0, 0, 0.5, 0], [0, 0, 0, 1]])
    axes, steps = axis_steps(transform)
    assert axes == (1, 0, 2)
    np.testing.assert_allclose(steps, [[2, 1], [-1, 5], [0.5, 0]])
    transform[0, 2] = 0.1
    with pytest.raises(NotSeparable):
        axis_steps(transform)
