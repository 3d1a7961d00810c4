"""What a bundle says about its inference: the sliding window, and how logits become labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, MapLabelValued, SaveImaged, Transform
from monai.utils import ensure_tuple_rep

from monai_transfer.errors import UserError

LARGEST_WINDOW = 512**3
"""Voxels of a window: a float32 image of it has 0.5 GB, and the feature maps of a network tens of times that."""


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


def require_sane(window: WindowSettings, config: Path) -> None:
    """Refuse windows that no network takes, and overlaps that leave no step.

    Raises:
        UserError: naming the configuration.
    """
    sizes = [size for size in window.roi_size if size != -1]  # -1 takes the whole axis
    if any(size < 1 for size in sizes) or math.prod(sizes) > LARGEST_WINDOW:
        shown = " × ".join(map(str, window.roi_size))
        raise UserError(
            f"{config} has an inferer with a roi_size of {shown} voxels: give each axis 1 to some hundreds."
        )
    overlaps = window.overlap if isinstance(window.overlap, tuple) else (window.overlap,)
    if not all(0 <= overlap < 1 for overlap in overlaps):
        raise UserError(
            f"{config} has an inferer with an overlap of {window.overlap}: give at least 0 and less than 1."
        )


@dataclass(frozen=True)
class Decision:
    """How logits become labels.

    Attributes:
        activation: ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        threshold: a class is present where its probability reaches this; None takes the largest class.
        nearest: restore by nearest neighbour (MONAI's ``nearest_interp=True``) instead of linearly.
        after: the bundle's own transforms of the finished label map, such as ``FillHolesd``.
        label_values: the value of each class in label maps; None where it is the class's number.
    """

    activation: str = "softmax"
    threshold: float | None = None
    nearest: bool = False
    after: tuple[Transform, ...] = ()
    label_values: tuple[int, ...] | None = None


def read_decision(post: Compose) -> Decision:
    """Read activation, threshold and interpolation off a bundle's postprocessing.

    The transforms that follow ``AsDiscreted``, save the one that writes, are kept to run on the finished label map.
    """
    steps = list(post.flatten().transforms) if isinstance(post, Compose) else [post]
    activation, threshold, nearest, after = "none", None, False, []
    discrete, values = False, None
    for step in steps:
        if isinstance(step, Activationsd):
            activation = "softmax" if step.softmax[0] else "sigmoid" if step.sigmoid[0] else "none"
        elif isinstance(step, Invertd):
            nearest = bool(step.nearest_interp[0])
        elif isinstance(step, AsDiscreted):
            discrete = True
            threshold = None if step.argmax[0] else step.threshold[0]
        elif discrete and isinstance(step, MapLabelValued):
            values = _class_values(step)
        elif discrete and not isinstance(step, SaveImaged):
            after.append(step)
    if not steps:
        activation = "softmax"
    if activation == "sigmoid" and threshold is None and not discrete:
        threshold = 0.5
    return Decision(activation, threshold, nearest, tuple(after), values)


def _class_values(step: MapLabelValued) -> tuple[int, ...]:
    """The value that a bundle gives each class in its label maps."""
    pairs = dict(zip(step.mapper.orig_labels, step.mapper.target_labels, strict=True))
    return tuple(int(pairs.get(number, number)) for number in range(max(map(int, pairs)) + 1))
