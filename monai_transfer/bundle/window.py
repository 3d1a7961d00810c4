"""The sliding window that a bundle asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from monai.utils import ensure_tuple_rep


@dataclass(frozen=True)
class WindowSettings:
    """What a bundle says about its sliding window, with the names of ``SlidingWindowInferer``.

    Attributes:
        roi_size: voxels of a window along each axis; -1 takes the whole axis.
        overlap: share of a window that the next one covers again, in [0, 1), one for all axes or one each.
        mode: ``"gaussian"`` or ``"constant"`` blending.
        sigma_scale: standard deviation of the gaussian as a share of the window.
        padding_mode: how a volume smaller than the window is padded.
        cval: the value of constant padding.
        batch: windows per forward pass that the bundle asks for.
    """

    roi_size: tuple[int, ...]
    overlap: float | tuple[float, ...] = 0.25
    mode: str = "constant"
    sigma_scale: float | tuple[float, ...] = 0.125
    padding_mode: str = "constant"
    cval: float = 0.0
    batch: int = 1

    def in_3d(self) -> "WindowSettings":
        """The same settings with a third axis of one voxel where there are two."""
        if len(self.roi_size) == 3:
            return self
        overlap = self.overlap if isinstance(self.overlap, float) else (*self.overlap, 0.0)
        sigma = self.sigma_scale if isinstance(self.sigma_scale, float) else (*self.sigma_scale, 0.125)
        return replace(self, roi_size=(*self.roi_size, 1), overlap=overlap, sigma_scale=sigma)

    @classmethod
    def of(cls, inferer: object, *, spatial_dims: int = 3) -> "WindowSettings":
        """Read the settings of a ``SlidingWindowInferer`` (or of an inferer with the same attributes).

        An inferer without a window, such as ``SimpleInferer``, sees the whole volume at once.
        """
        roi = getattr(inferer, "roi_size", None)
        if roi is None:
            return cls(roi_size=(-1, -1, -1))
        across = getattr(inferer, "spatial_dim", None)  # SliceInferer: a 2D network slice by slice
        if across is not None and not isinstance(roi, int) and len(roi) == 2:
            roi = (*roi[:across], 1, *roi[across:])
        overlap, sigma = getattr(inferer, "overlap", 0.25), getattr(inferer, "sigma_scale", 0.125)
        return cls(
            roi_size=tuple(
                int(n or -1) for n in ensure_tuple_rep(roi, spatial_dims if isinstance(roi, int) else len(roi))
            ),
            overlap=tuple(overlap) if isinstance(overlap, Sequence) else float(overlap),
            mode=str(getattr(inferer, "mode", "constant")),
            sigma_scale=tuple(sigma) if isinstance(sigma, Sequence) else float(sigma),
            padding_mode=str(getattr(inferer, "padding_mode", "constant")),
            cval=float(getattr(inferer, "cval", 0.0)),
            batch=int(getattr(inferer, "sw_batch_size", 1)),
        )
