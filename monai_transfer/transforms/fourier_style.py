"""Fourier style transfer (FDA)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from torch import Tensor

from monai_transfer.transforms.random_intensity import RandIntensity, RandIntensityMap
from monai_transfer.transforms.reference_pool import Reference, ReferencePool, check_channels

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class RandFourierStyle(RandIntensity):
    r"""Replaces the low frequencies' amplitude by that of a target image, and keeps all phases.

    .. math:: y = \mathcal{F}^{-1}\left( \left[ M_\beta |\mathcal{F} r| + (1 - M_\beta) |\mathcal{F} x| \right]
       e^{i \angle \mathcal{F} x} \right)

    :math:`M_\beta` is 1 where every frequency is at most :math:`\beta` of the sampling rate (so the cube holds
    :math:`2 \beta` of each axis), and :math:`r` the reference, resized to the image. Yang and Soatto, *FDA: Fourier
    Domain Adaptation for Semantic Segmentation*, CVPR 2020.

    Args:
        references: target images, preprocessed as the source's (see :class:`ReferencePool`).
        prob: probability to act.
        beta: range of the share of the spectrum's half width, in ``[0, 0.5]``; 0 exchanges the mean alone.
        load: turns a file into an image ``(channels, *spatial)``.

    Example:
        >>> target = torch.full((1, 8, 8), 5.0)
        >>> changed = RandFourierStyle([target], prob=1.0, beta=(0.0, 0.0))(torch.rand(1, 8, 8))
        >>> round(float(changed.mean()), 3)
        5.0
    """

    def __init__(
        self,
        references: Sequence[Reference],
        prob: float = 0.5,
        *,
        beta: tuple[float, float] = (0.01, 0.1),
        load: Callable[[Any], Any] | None = None,
    ) -> None:
        if not 0 <= beta[0] <= beta[1] <= 0.5:
            raise ValueError(f"beta must be two rising numbers in [0, 0.5], not {beta}")
        super().__init__(prob)
        self.pool = ReferencePool(references, load)
        self.beta = beta
        self.width = 0.0
        self.reference = torch.zeros(0)

    def draw(self, image: Tensor) -> None:
        """Draw the reference and the width of the exchanged spectrum."""
        self.reference = self.pool.draw(self.R)
        self.width = float(self.R.uniform(*self.beta))

    def apply(self, image: Tensor) -> Tensor:
        """Exchange amplitudes."""
        check_channels(image, self.reference)
        size, axes = tuple(image.shape[1:]), tuple(range(1, image.ndim))
        reference = self.reference.to(image.device)
        if reference.shape[1:] != image.shape[1:]:
            reference = F.interpolate(reference[None], size, mode=_MODES[len(size)], align_corners=False)[0]
        spectrum, style = torch.fft.fftn(image, dim=axes), torch.fft.fftn(reference, dim=axes)
        low = torch.ones(size, dtype=torch.bool, device=image.device)
        for axis, length in enumerate(size):
            near = torch.fft.fftfreq(length, device=image.device).abs() <= self.width
            low &= near.reshape([-1 if other == axis else 1 for other in range(len(size))])
        amplitude = torch.where(low, style.abs(), spectrum.abs())
        # amplitudes are even and phases odd, as of a real image: what is imaginary here is rounding
        changed: Tensor = torch.fft.ifftn(torch.polar(amplitude, spectrum.angle()), dim=axes).real
        return changed.contiguous()


class RandFourierStyled(RandIntensityMap):
    """Dictionary version of :class:`RandFourierStyle`; all keys share the reference.

    Example:
        >>> data = {"t1": torch.rand(1, 8, 8), "t2": torch.rand(1, 8, 8)}
        >>> changed = RandFourierStyled(["t1", "t2"], [torch.rand(1, 6, 6)], prob=1.0).set_random_state(0)(data)
        >>> {key: tuple(image.shape) for key, image in changed.items()}
        {'t1': (1, 8, 8), 't2': (1, 8, 8)}
    """

    def __init__(
        self,
        keys: KeysCollection,
        references: Sequence[Reference],
        prob: float = 0.5,
        *,
        beta: tuple[float, float] = (0.01, 0.1),
        load: Callable[[Any], Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandFourierStyle(references, 1.0, beta=beta, load=load), prob, allow_missing_keys)
