"""Random deformations of an image and its labels, in one resampling."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandAffineGrid, RandomizableTransform, Resample
from monai.transforms.utils import create_grid
from monai.utils import TransformBackends, ensure_tuple_rep
from torch import Tensor


class RandDeformd(RandomizableTransform, MapTransform):
    r"""Rotates, scales and shifts images and their labels, and stretches their parts against each other.

    The window is divided into ``cells`` equal parts along each axis, and each part is stretched or compressed by a
    factor of its own, :math:`f \sim U(1 - s, 1 + s)`; the middle of the window stays where it is. What MONAI's
    ``RandGridDistortiond`` and ``RandAffined`` do one after the other is one interpolation here: images stay as sharp,
    and borders of labels as exact, as a single one leaves them. Voxels from beyond the window repeat its border.

    Args:
        keys: of tensors ``(channels, *spatial)``, 2D or 3D, all of one spatial shape.
        prob: probability to rotate, scale and shift.
        rotate: greatest angle about each axis, in radians.
        scale: greatest relative change of length along each axis.
        shift: greatest shift along each axis, in voxels; of a mean length where they are longer than wide.
        stretch: greatest relative change of length of a part, :math:`s < 1`.
        stretch_prob: probability to stretch the parts.
        cells: parts along each axis.
        spacing: lengths of a voxel, in which bodies turn without being sheared; ``None`` for cubes.
        mode: ``"bilinear"`` or ``"nearest"``, one for all keys or one for each.
        allow_missing_keys: as in MONAI.

    Example:
        >>> deform = RandDeformd(["image", "label"], stretch=0.3, stretch_prob=1.0, mode=["bilinear", "nearest"])
        >>> image = torch.linspace(0, 1, 32).expand(1, 32, 32)
        >>> out = deform.set_random_state(0)({"image": image, "label": (image > 0.5).float()})
        >>> bool(((out["image"] > 0.52) <= (out["label"] > 0)).all())  # both went the same way
        True
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's attribute)

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.9,
        rotate: float = 0.0,
        scale: float = 0.0,
        shift: float = 0.0,
        stretch: float = 0.0,
        stretch_prob: float = 0.7,
        cells: int = 4,
        spacing: Sequence[float] | None = None,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= stretch < 1:
            raise ValueError(f"stretch must be at least 0 and below 1, not {stretch}")
        self.affine = RandAffineGrid([rotate] * 3, None, [shift] * 3, [scale] * 3)
        self.stretch = stretch
        self.stretch_prob = stretch_prob
        self.cells = cells
        self.lengths: np.ndarray | None = None
        if spacing is not None and len(set(spacing)) > 1:
            self.lengths = np.array(spacing) / np.prod(spacing) ** (1 / len(spacing))
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        # float32: MONAI's usual float64 takes twice the time, for less than a thousandth of a voxel
        self.resample = Resample(padding_mode="border", dtype=np.float32)
        self.factors: np.ndarray | None = None

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed the decisions, the factors of the parts, and MONAI's affine grid."""
        super().set_random_state(seed, state)
        self.affine.set_random_state(seed, state)
        return self

    def randomize(self, data: Any) -> None:
        """Decide whether to act, and draw for a tensor ``data``."""
        super().randomize(None)
        self.affine.randomize()
        self.factors = None
        if self.stretch and self.R.uniform() < self.stretch_prob:
            self.factors = self.R.uniform(1 - self.stretch, 1 + self.stretch, size=(data.ndim - 1, self.cells))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Deform the tensors under the keys alike."""
        d = dict(data)
        first = self.first_key(d)
        if first == ():
            return d
        self.randomize(d[first])
        grid = self._grid(tuple(d[first].shape[1:]), d[first].device)
        for key, mode in self.key_iterator(d, self.mode):
            d[key] = self.resample(d[key], grid, mode=mode)
        return d

    def _grid(self, shape: tuple[int, ...], device: torch.device) -> Tensor | None:
        """From where each voxel is taken, in voxels from the middle of the window; ``None`` where nothing is done."""
        if not self._do_transform and self.factors is None:
            return None
        grid: Tensor = create_grid(shape, device=device, dtype=np.float32, backend=TransformBackends.TORCH)
        if self._do_transform:
            grid = self._moved(grid)
        if self.factors is None:
            return grid
        factors = torch.from_numpy(self.factors).to(grid)
        return torch.stack([_stretched(*each) for each in zip(grid, factors, shape, strict=False)])

    def _moved(self, grid: Tensor) -> Tensor:
        moved: Tensor
        if self.lengths is None:
            moved = self.affine(grid=grid, randomize=False)
            return moved
        lengths = torch.tensor([*self.lengths, 1.0]).to(grid).reshape(-1, *[1] * (grid.ndim - 1))
        moved = self.affine(grid=grid * lengths, randomize=False) / lengths
        return moved


def _stretched(place: Tensor, factors: Tensor, size: int) -> Tensor:
    """Coordinates from the middle of ``size`` voxels, each part of which is as long as its factor makes it."""
    length, parts = size / len(factors), len(factors)
    begins = torch.arange(parts, device=place.device) * length - size / 2
    moved = torch.nn.functional.pad((factors * length).cumsum(0), (1, 0))
    moved = moved - (moved[parts // 2] + moved[(parts + 1) // 2]) / 2
    part = ((place + size / 2) / length).long().clamp(0, parts - 1)
    return moved[part] + factors[part] * (place - begins[part])
