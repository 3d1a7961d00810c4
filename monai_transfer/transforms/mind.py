"""MIND features: structure without intensity, as the network's input."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor
from torch import Tensor

from monai_transfer.networks.mind import mind_descriptor


class MINDFeatures(Transform):
    """The :func:`~monai_transfer.networks.mind.mind_descriptor` of every voxel.

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
        features = mind_descriptor(image[None], distance=self.distance, sigma=self.sigma)[0]
        return MetaTensor(features).copy_meta_from(data) if isinstance(data, MetaTensor) else features


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
