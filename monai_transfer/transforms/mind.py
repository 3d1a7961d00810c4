"""MIND features: structure without intensity, as the network's input."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor
from torch import Tensor


class MINDFeatures(Transform):
    r"""The modality independent neighbourhood descriptor of every voxel.

    With :math:`D_r(x) = G_\sigma * (I(x) - I(x + r))^2` the distance of the patch at :math:`x` from the patch at
    :math:`x + r`, for the direct neighbours :math:`r` of a voxel:

    .. math:: \mathrm{MIND}_r(x) = \exp\left(-\frac{D_r(x) - \min_{r'} D_{r'}(x)}{V(x)}\right), \qquad
       V(x) = \frac{1}{|R|} \sum_r D_r(x)

    where :math:`V` is kept within 0.001 and 1000 times its mean. It is unchanged by any affine map of intensities, and
    nearly so by a change of contrast. Heinrich et al., *MIND*, MedIA 2012.

    Args:
        distance: distance of the neighbours in voxels.
        sigma: width of the patch in voxels.

    Example:
        >>> image = torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> features = MINDFeatures()(image)
        >>> features.shape, bool(torch.allclose(features, MINDFeatures()(7 - 3 * image), atol=1e-4))
        (torch.Size([6, 8, 8, 8]), True)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's attribute)

    def __init__(self, *, distance: int = 1, sigma: float = 0.8) -> None:
        self.distance = distance
        self.sigma = sigma

    def __call__(self, data: Any) -> Tensor:
        """Features ``(channels * 2 * spatial_dims, *spatial)`` in ``(0, 1]`` of an image ``(channels, *spatial)``."""
        image: Tensor = convert_to_tensor(data, track_meta=False, dtype=torch.float32)
        distances = torch.stack([self._distance(image, *shift) for shift in self._shifts(image.ndim - 1)], dim=1)
        variance = distances.mean(1, keepdim=True)
        # flat regions (air) have no variance: dividing by it would make structure of nothing
        typical = float(variance.mean())
        variance = variance.clamp(max(typical * 1e-3, 1e-12), max(typical * 1e3, 1e-12))
        features = torch.exp(-(distances - distances.amin(1, keepdim=True)) / variance).flatten(0, 1)
        return MetaTensor(features).copy_meta_from(data) if isinstance(data, MetaTensor) else features

    def _shifts(self, spatial_dims: int) -> list[tuple[int, int]]:
        return [(axis + 1, sign * self.distance) for axis in range(spatial_dims) for sign in (-1, 1)]

    def _distance(self, image: Tensor, axis: int, shift: int) -> Tensor:
        index = (torch.arange(image.shape[axis], device=image.device) + shift).clamp(0, image.shape[axis] - 1)
        squared = (image - image.index_select(axis, index)).square()
        out: Tensor = GaussianFilter(image.ndim - 1, self.sigma).to(image.device)(squared[None])[0]
        return out


class MINDFeaturesd(MapTransform):
    """Dictionary version of :class:`MINDFeatures`.

    Example:
        >>> MINDFeaturesd("image")({"image": torch.rand(1, 8, 8)})["image"].shape
        torch.Size([4, 8, 8])
    """

    backend = MINDFeatures.backend

    def __init__(
        self, keys: KeysCollection, *, distance: int = 1, sigma: float = 0.8, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.features = MINDFeatures(distance=distance, sigma=sigma)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the images under the keys by their features."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.features(d[key])
        return d
