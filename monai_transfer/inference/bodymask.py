"""Where a volume holds a body: a mask that would rather keep air than lose tissue."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from monai_transfer.inference.windows import Start, WindowPlan

BLOCK = 4
MARGIN = 8
SHARE = 0.05


def body_mask(image: torch.Tensor) -> np.ndarray:
    """Blocks of a volume that may hold tissue.

    A block of 4×4×4 voxels is empty when it is both dark (its brightest voxel lies in the lowest 5 % of the range of
    intensities) and flat (its voxels differ by less than 5 % of that range), in every channel. That is true of air in
    a windowed CT and of masked background; tissue has noise and texture, and so has the air of many MR scans, which
    then counts as body. Empty blocks that body surrounds (lungs, bowel) count as body, and so does a margin of two
    blocks.

    Args:
        image: the preprocessed volume, (C, X, Y, Z).

    Returns:
        bool, (ceil(X / 4), ceil(Y / 4), ceil(Z / 4)).
    """
    kernel = tuple(min(BLOCK, n) for n in image.shape[1:])
    highest = F.max_pool3d(image[None].float(), kernel, BLOCK, ceil_mode=True)[0]
    lowest = -F.max_pool3d(-image[None].float(), kernel, BLOCK, ceil_mode=True)[0]
    floor = lowest.amin(dim=(1, 2, 3), keepdim=True)
    tolerance = SHARE * (highest.amax(dim=(1, 2, 3), keepdim=True) - floor)
    body = ((highest - floor > tolerance) | (highest - lowest > tolerance)).any(dim=0).cpu().numpy()
    filled = ndimage.binary_fill_holes(body)
    return np.asarray(ndimage.binary_dilation(filled, iterations=MARGIN // BLOCK))


def wanted_windows(image: torch.Tensor, plan: WindowPlan) -> Callable[[Start], bool]:
    """A test that tells whether the window at a start touches the body.

    Args:
        image: the padded volume, (C, *plan.shape).
        plan: the windows.
    """
    mask = body_mask(image)

    def wanted(start: Start) -> bool:
        part = tuple(slice(s // BLOCK, -(-(s + r) // BLOCK)) for s, r in zip(start, plan.roi, strict=True))
        return bool(mask[part].any())

    return wanted
