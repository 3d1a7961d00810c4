"""Linear resampling along the axes, plane by plane, from whatever number type the file holds."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import AFFINE_TOL
from monai.transforms import Spacingd
from monai.utils import LazyAttr

from monai_transfer.inference.grids import axis_steps
from monai_transfer.inference.taps import NotSeparable, Taps, linear_matrix


def lerp_rows(image: torch.Tensor, taps: Taps) -> torch.Tensor:
    """Interpolate along the last axis but one: (..., size, M) -> (..., N, M)."""
    if taps.is_identity:
        return image
    lower = image.index_select(-2, taps.lower).mul_(taps.lower_weight[:, None])
    return lower.addcmul_(image.index_select(-2, taps.upper), taps.upper_weight[:, None])


class ColumnResizer:
    """Interpolates along the last axis by products with small matrices, for the matrix is a narrow band.

    Args:
        taps: the interpolation.
        block: outputs per matrix.
    """

    def __init__(self, taps: Taps, *, block: int = 64) -> None:
        self.size = len(taps)
        self.identity = taps.is_identity
        self.blocks: list[tuple[slice, slice, torch.Tensor]] = []
        for start in range(0, self.size, block):
            part = slice(start, min(start + block, self.size))
            restricted, needed = taps.restrict(part)
            self.blocks.append((part, needed, restricted.dense().T.contiguous()))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., N)."""
        if self.identity:
            return image
        flat = image.reshape(-1, image.shape[-1])
        out = torch.empty(len(flat), self.size, device=image.device)
        for part, needed, matrix in self.blocks:
            torch.mm(flat[:, needed], matrix, out=out[:, part])
        return out.view(*image.shape[:-1], self.size)


def interpolate(image: torch.Tensor, taps: Sequence[Taps]) -> torch.Tensor:
    """Interpolate a volume along each of its axes without a full-size copy of it.

    The planes across the axis that lies slowest in memory are blended one at a time, then resized within the plane.

    Args:
        image: (C, X, Y, Z) of any number type and memory layout.
        taps: the interpolation of each spatial axis.

    Returns:
        (C, X', Y', Z') in float32; its memory layout follows that of ``image``.
    """
    taps = [t.to(image.device) for t in taps]
    order = sorted(range(3), key=lambda axis: -image.stride(axis + 1))
    slow, rows, columns = (taps[axis] for axis in order)
    planes = image.permute(0, *(axis + 1 for axis in order))
    out = torch.empty(image.shape[0], len(slow), len(rows), len(columns), device=image.device)
    resize = ColumnResizer(columns)
    steps = zip(*(t.tolist() for t in (slow.lower, slow.upper, slow.lower_weight, slow.upper_weight)), strict=True)
    for n, (lower, upper, lower_weight, upper_weight) in enumerate(steps):
        plane = planes[:, lower].to(torch.float32, copy=True)
        plane *= lower_weight
        if upper_weight:
            plane.add_(planes[:, upper].to(torch.float32), alpha=upper_weight)
        out[:, n] = resize(lerp_rows(plane, rows))
    return out.permute(0, *(1 + order.index(axis) for axis in range(3)))


def spacing(data: dict, transform: Spacingd) -> dict:
    """Do what ``transform`` does to the images in ``data``, in float32 and plane by plane where its axes allow it.

    The metadata and the trace come from MONAI's transform itself (it is asked for a pending operation and the
    operation is then carried out here), so that inverting works as usual.
    """
    result = dict(data)
    for key in transform.key_iterator(result):
        try:
            result[key] = _resample(data[key], transform({key: data[key]}, lazy=True)[key])
        except (NotSeparable, NotImplementedError):
            result[key] = transform({key: data[key]})[key]
    return result


def _resample(image: MetaTensor, pending: MetaTensor) -> MetaTensor:
    (operation,) = pending.pending_operations
    info = operation["extra_info"]
    xform = np.asarray(operation[LazyAttr.AFFINE], dtype=float)
    shape_out = [int(n) for n in operation[LazyAttr.SHAPE]]
    shape_in = [int(n) for n in image.shape[1:]]
    axes, steps = axis_steps(xform)
    identity = np.eye(len(xform))
    unchanged = shape_in == shape_out and (
        np.allclose(xform, identity, atol=AFFINE_TOL)
        or np.allclose(image.affine, pending.peek_pending_affine(), atol=AFFINE_TOL)
    )
    if unchanged or axes != (0, 1, 2):
        raise NotSeparable("MONAI's own transform is the shortest way")
    mode, padding = str(info["mode"]), str(info["padding_mode"])
    taps = [
        Taps.from_matrix(linear_matrix(n_out, n_in, scale, offset, mode=mode, padding=padding))
        for n_out, n_in, (scale, offset) in zip(shape_out, shape_in, steps, strict=True)
    ]
    trace = {k: v for k, v in operation.items() if k not in (LazyAttr.AFFINE, LazyAttr.SHAPE)} | {"lazy": False}
    result = MetaTensor(interpolate(image.as_tensor(), taps), meta=dict(image.meta))
    result.affine = pending.peek_pending_affine()
    result.applied_operations = [*image.applied_operations, trace]
    return result
