"""A smooth random bias field from a coarse grid."""

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from torch import Tensor

from monai_transfer.transforms.draws import RandIntensity, RandIntensityMap

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class RandSmoothBias(RandIntensity):
    r"""Multiplies the image by a smooth random field, as the coils of an MR scanner do.

    .. math:: y = (x - \min x) \, e^{b} + \min x, \qquad b = \mathrm{interpolate}(\sigma z), \quad z \sim N(0, 1)

    on a coarse grid of ``points`` per axis; :math:`\sigma` is drawn from ``std``. The minimum is held, so that the
    transform can follow a normalisation that leaves negative values. All channels share the field. It does the
    work of MONAI's ``RandBiasField``, whose Legendre polynomials are evaluated at every voxel, by one interpolation.

    Args:
        prob: probability to act.
        std: range of the standard deviation of the field's logarithm.
        points: points of the coarse grid per axis, at least 2.

    Example:
        >>> image = torch.ones(1, 8, 8)
        >>> image[0, 0, 0] = -1
        >>> changed = RandSmoothBias(prob=1.0, std=(0.3, 0.3)).set_random_state(0)(image)
        >>> float(changed.min()), bool(changed.std() > image.std())
        (-1.0, True)
    """

    def __init__(self, prob: float = 0.7, std: tuple[float, float] = (0.0, 0.5), *, points: int = 4) -> None:
        if points < 2:
            raise ValueError(f"points must be at least 2, not {points}")
        super().__init__(prob)
        self.std = std
        self.points = points
        self.grid = torch.zeros(0)

    def draw(self, image: Tensor) -> None:
        """Draw the coarse grid."""
        noise = self.R.normal(size=(1, 1, *(self.points,) * (image.ndim - 1)))
        self.grid = torch.from_numpy(noise * self.R.uniform(*self.std)).float()

    def apply(self, image: Tensor) -> Tensor:
        """Multiply by the interpolated field."""
        mode = _MODES[image.ndim - 1]
        grid = self.grid.to(image.device)
        field = F.interpolate(grid, tuple(image.shape[1:]), mode=mode, align_corners=True)[0]
        # normalised images have negative values, whose sign a plain product would stretch the wrong way
        floor = image.min()
        return (image - floor) * field.exp() + floor


class RandSmoothBiasd(RandIntensityMap):
    """Dictionary version of :class:`RandSmoothBias`; all keys share the field.

    Example:
        >>> data = {"t1": torch.rand(1, 8, 8), "t2": torch.rand(1, 8, 8)}
        >>> changed = RandSmoothBiasd(["t1", "t2"], prob=1.0).set_random_state(0)(data)
        >>> {key: tuple(image.shape) for key, image in changed.items()}
        {'t1': (1, 8, 8), 't2': (1, 8, 8)}
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.7,
        std: tuple[float, float] = (0.0, 0.5),
        *,
        points: int = 4,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandSmoothBias(1.0, std, points=points), prob, allow_missing_keys)
