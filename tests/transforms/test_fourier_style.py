import numpy as np
import pytest
import torch

from monai_transfer.errors import UserError
from monai_transfer.transforms import RandFourierStyle

G = torch.Generator().manual_seed(0)
X = torch.rand(1, 9, 12, 8, generator=G)
R = torch.rand(1, 9, 12, 8, generator=G) * 3 + 1


def test_beta_zero_exchanges_the_mean_alone():
    y = RandFourierStyle([R], 1.0, beta=(0.0, 0.0)).set_random_state(0)(X)
    assert y.mean().item() == pytest.approx(R.mean().item(), rel=1e-5)
    torch.testing.assert_close(y - y.mean(), X - X.mean(), atol=1e-5, rtol=1e-4)


def test_whole_spectrum_has_the_reference_amplitude_and_own_phase():
    y = RandFourierStyle([R], 1.0, beta=(0.5, 0.5)).set_random_state(0)(X)[0].numpy()
    np.testing.assert_allclose(np.abs(np.fft.fftn(y)), np.abs(np.fft.fftn(R[0].numpy())), rtol=1e-3, atol=1e-3)


def test_against_numpy_with_a_shifted_cube():
    beta = 0.2
    y = RandFourierStyle([R], 1.0, beta=(beta, beta)).set_random_state(0)(X)[0].numpy()
    own, style = (np.fft.fftshift(np.fft.fftn(a[0].numpy())) for a in (X, R))
    amplitude = np.abs(own)
    cube = tuple(slice(n // 2 - int(beta * n), n // 2 + int(beta * n) + 1) for n in own.shape)
    amplitude[cube] = np.abs(style)[cube]
    expected = np.fft.ifftn(np.fft.ifftshift(amplitude * np.exp(1j * np.angle(own))))
    assert np.abs(expected.imag).max() < 1e-6
    np.testing.assert_allclose(y, expected.real, atol=1e-5)


def test_itself_as_reference_changes_nothing():
    y = RandFourierStyle([X], 1.0).set_random_state(0)(X)
    torch.testing.assert_close(y, X, atol=1e-5, rtol=1e-4)


def test_reference_of_another_size_and_two_dimensions():
    y = RandFourierStyle([torch.rand(2, 20, 30)], 1.0).set_random_state(0)(torch.rand(2, 16, 17))
    assert y.shape == (2, 16, 17)


def test_mistakes():
    with pytest.raises(UserError, match="channels"):
        RandFourierStyle([torch.rand(2, 4, 4)], 1.0)(torch.rand(1, 4, 4))
    with pytest.raises(ValueError, match="beta"):
        RandFourierStyle([R], beta=(0.1, 0.6))
