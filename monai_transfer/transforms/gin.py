"""Global intensity non-linear augmentation (GIN)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from torch import Tensor

from monai_transfer.transforms.random_intensity import RandIntensity, RandIntensityMap

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class RandGIN(RandIntensity):
    r"""Passes the image through a shallow convolutional network with random weights, and mixes it with the input.

    With :math:`g` the random network (kernels of 1 or 3 voxels, leaky ReLU between the layers) and
    :math:`\alpha \sim U(0, 1)`:

    .. math:: y = \frac{\alpha g(x) + (1 - \alpha) x}{\lVert \alpha g(x) + (1 - \alpha) x \rVert_F}
       \lVert x \rVert_F

    Ouyang et al., *Causality-inspired Single-source Domain Generalization for Medical Image
    Segmentation*, IEEE TMI 2022.

    Args:
        prob: probability to act.
        layers: number of convolutions, at least 1.
        channels: channels between the layers.
        kernel_sizes: odd sizes to draw from, one draw per layer.
        alpha: range of the weight of the random network's output.

    Example:
        >>> image = torch.rand(1, 8, 8, 8)
        >>> changed = RandGIN(prob=1.0).set_random_state(0)(image)
        >>> changed.shape, bool(torch.isclose(changed.norm(), image.norm(), rtol=1e-3))
        (torch.Size([1, 8, 8, 8]), True)
    """

    def __init__(
        self,
        prob: float = 0.5,
        *,
        layers: int = 4,
        channels: int = 2,
        kernel_sizes: tuple[int, ...] = (1, 3),
        alpha: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if layers < 1 or any(size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"layers must be at least 1 and kernel sizes odd, not {layers} and {kernel_sizes}")
        super().__init__(prob)
        self.layers = layers
        self.channels = channels
        self.kernel_sizes = kernel_sizes
        self.alpha = alpha
        self.share = 1.0
        self.weights: list[tuple[Tensor, Tensor]] = []

    def draw(self, image: Tensor) -> None:
        """Draw the kernels and biases of every layer, and alpha."""
        generator = self.generator()
        inner = [self.channels] * (self.layers - 1)
        widths = [image.shape[0], *inner, image.shape[0]]
        self.weights = []
        for wide_in, wide_out in pairwise(widths):
            size = (int(self.R.choice(self.kernel_sizes)),) * (image.ndim - 1)
            kernel = torch.randn((wide_out, wide_in, *size), generator=generator)
            self.weights.append((kernel, torch.randn(wide_out, generator=generator)))
        self.share = float(self.R.uniform(*self.alpha))

    def apply(self, image: Tensor) -> Tensor:
        """Run the random network, mix, and restore the Frobenius norm."""
        convolve = _CONVOLUTIONS[image.ndim - 1]
        hidden = image[None]
        for number, (kernel, bias) in enumerate(self.weights):
            if number:
                hidden = F.leaky_relu(hidden)
            padding = kernel.shape[-1] // 2
            hidden = convolve(hidden, kernel.to(image.device), bias.to(image.device), padding=padding)
        mixed = torch.lerp(image, hidden[0], self.share)
        out: Tensor = mixed * (image.norm() / (mixed.norm() + 1e-5))
        return out


class RandGINd(RandIntensityMap):
    """Dictionary version of :class:`RandGIN`; all keys share the random network.

    Example:
        >>> data = {"t1": torch.rand(1, 8, 8), "t2": torch.rand(1, 8, 8)}
        >>> changed = RandGINd(["t1", "t2"], prob=1.0).set_random_state(0)(data)
        >>> {key: tuple(image.shape) for key, image in changed.items()}
        {'t1': (1, 8, 8), 't2': (1, 8, 8)}
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        *,
        layers: int = 4,
        channels: int = 2,
        kernel_sizes: tuple[int, ...] = (1, 3),
        alpha: tuple[float, float] = (0.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandGIN(1.0, layers=layers, channels=channels, kernel_sizes=kernel_sizes, alpha=alpha)
        super().__init__(keys, transform, prob, allow_missing_keys)
