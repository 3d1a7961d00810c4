"""How this package's random transforms draw, and how one draw serves several keys of a dictionary."""

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any, Self

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor


class RandIntensity(RandomizableTransform):
    """A random change of intensities in two steps: draw the parameters, then apply them.

    A subclass draws in :meth:`draw` (from ``self.R`` alone) and changes a plain float32 tensor in :meth:`apply`;
    meta data, dtype conversion and the decision whether to act at all are handled here.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's attribute)

    @abstractmethod
    def draw(self, image: Tensor) -> None:
        """Draw this call's parameters for an image ``(channels, *spatial)``."""

    @abstractmethod
    def apply(self, image: Tensor) -> Tensor:
        """Change a float32 image ``(channels, *spatial)`` with the parameters drawn last."""

    def generator(self) -> torch.Generator:
        """A torch generator on the CPU, seeded from ``self.R``."""
        return torch.Generator().manual_seed(int(self.R.randint(0, 2**31 - 1)))

    def randomize(self, data: Any) -> None:
        """Decide whether to act and, if so, draw the parameters for the image ``data``."""
        super().randomize(None)
        if self._do_transform:
            self.draw(convert_to_tensor(data, track_meta=False))

    def __call__(self, data: Any, randomize: bool = True) -> Tensor:
        """Change the image ``(channels, *spatial)`` with probability ``prob``.

        Args:
            data: array, tensor or ``MetaTensor``; 2D or 3D.
            randomize: ``False`` applies the parameters drawn last once more.
        """
        if randomize:
            self.randomize(data)
        image: Tensor = convert_to_tensor(data, track_meta=get_track_meta())
        if not self._do_transform:
            return image
        changed = self.apply(convert_to_tensor(image, track_meta=False, dtype=torch.float32))
        out: Tensor = convert_to_dst_type(changed, image, dtype=torch.float32)[0]
        return out


class RandIntensityMap(RandomizableTransform, MapTransform):
    """The dictionary version of a :class:`RandIntensity`: one draw, applied to every key."""

    backend = RandIntensity.backend

    def __init__(self, keys: KeysCollection, transform: RandIntensity, prob: float, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed the decision and the array transform's draws."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the images under the keys with the same parameters, with probability ``prob``."""
        d = dict(data)
        self.randomize(None)
        first = self.first_key(d)
        if self._do_transform and first != ():
            self.transform.randomize(d[first])
        for key in self.key_iterator(d):
            if self._do_transform:
                d[key] = self.transform(d[key], randomize=False)
            else:
                d[key] = convert_to_tensor(d[key], track_meta=get_track_meta())
        return d
