"""N4 bias field correction by SimpleITK, as a MONAI transform."""

from collections.abc import Hashable, Mapping

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch import Tensor


class N4BiasCorrection(Transform):
    """Divides out the slowly varying field of an MR scanner's coils (Tustison et al., IEEE TMI 2010).

    The field is estimated on a grid shrunk by ``shrink`` inside the Otsu foreground and applied to the full image.

    Args:
        shrink: factor by which the estimation grid is coarser than the image, at least 1.
        iterations: greatest number of iterations at each of the fitting levels.

    Example:
        >>> x, y, z = torch.meshgrid(*[torch.linspace(-1, 1, 24)] * 3, indexing="ij")
        >>> ball = 100.0 * ((x**2 + y**2 + z**2) < 0.6)
        >>> corrected = N4BiasCorrection(shrink=2, iterations=(10,))((ball * (1 + 0.4 * x))[None])[0]
        >>> inside = ball > 0
        >>> bool(corrected[inside].std() < (ball * (1 + 0.4 * x))[inside].std())
        True
    """

    def __init__(self, shrink: int = 4, iterations: tuple[int, ...] = (30, 30, 20)) -> None:
        self.shrink = shrink
        self.iterations = iterations

    def __call__(self, image: Tensor) -> Tensor:
        """Correct every channel of ``(channels, *spatial)``."""
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        corrected = torch.stack([self._correct(channel) for channel in plain])
        return (
            MetaTensor(corrected, meta=image.meta, applied_operations=image.applied_operations)
            if isinstance(image, MetaTensor)
            else corrected
        )

    def _correct(self, channel: Tensor) -> Tensor:
        values = channel.cpu().numpy().astype(np.float32)
        if not values.max() > values.min():
            return channel
        # N4 works on logarithms: every value must be above zero
        full = sitk.GetImageFromArray(values - values.min() + 1e-3)
        shrunk = sitk.Shrink(full, [min(self.shrink, size // 4 or 1) for size in full.GetSize()])
        mask = sitk.OtsuThreshold(shrunk, 0, 1, 200)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(list(self.iterations))
        n4.Execute(shrunk, mask)
        field = sitk.GetArrayFromImage(sitk.Exp(n4.GetLogBiasFieldAsImage(full)))
        return torch.from_numpy(values / field).to(channel)


class N4BiasCorrectiond(MapTransform):
    """Dictionary version of :class:`N4BiasCorrection`.

    Example:
        >>> constant = {"image": torch.ones(1, 8, 8, 8)}
        >>> bool((N4BiasCorrectiond("image")(constant)["image"] == 1).all())
        True
    """

    def __init__(
        self,
        keys: KeysCollection,
        shrink: int = 4,
        iterations: tuple[int, ...] = (30, 30, 20),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = N4BiasCorrection(shrink, iterations)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Correct each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
