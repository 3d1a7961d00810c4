"""Reading one volume file as it is, and saying in one sentence what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from monai_transfer.volumes.grids import (
    is_degenerate,
    largest_shift,
    shear_of,
    spacing_of,
)

_NIBABEL = (".nii", ".nii.gz", ".mgz", ".mgh")


class VolumeFaultError(Exception):
    """A file is no usable 3D volume.

    Attributes:
        kind: a short word for programs.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Volume:
    """A scalar 3D volume.

    Attributes:
        voxels: ``(x, y, z)``, in the file's order and with its scaling applied.
        affine: voxel to world, RAS mm, ``(4, 4)``.
        warnings: what is odd about the file but can be used, as (kind, sentence).
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    warnings: tuple[tuple[str, str], ...] = ()


def read_volume(path: Path) -> Volume:
    """Read a NIfTI, MGH, NRRD or MetaImage file.

    Raises:
        VolumeFaultError: the file is missing, unreadable, not scalar, not 3D, empty or has no usable affine.
    """
    if not path.is_file():
        raise VolumeFaultError("missing", f"{path} does not exist: restore the file or take it off the list.")
    try:
        if path.name.lower().endswith(_NIBABEL):
            voxels, affine, warnings = _read_nibabel(path)
        else:
            voxels, affine, warnings = _read_itk(path)
    except VolumeFaultError:
        raise
    except MemoryError as error:
        message = f"{path} claims more voxels than fit into memory: crop or resample the scan, or export it again."
        raise VolumeFaultError("unreadable", message) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
        message = f"{path} cannot be read ({reason}): the file is damaged or cut off, so copy or export it again."
        raise VolumeFaultError("unreadable", message) from error
    if is_degenerate(affine):
        raise VolumeFaultError(
            "affine", f"{path} has an affine that is no grid in space (zero, flat or not finite): export it again."
        )
    return Volume(voxels, affine, (*warnings, *_odd_grid(path, affine)))


def _read_nibabel(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], list[tuple[str, str]]]:
    image = nib.load(path)
    dtype = image.get_data_dtype()
    _require_scalar(path, components=len(dtype.fields) if dtype.fields else 1, is_complex=dtype.kind == "c")
    shape = _require_3d(path, tuple(image.shape))
    voxels = np.asanyarray(image.dataobj).reshape(shape)
    return voxels, np.asarray(image.affine, np.float64), _odd_header(path, image)


def _read_itk(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], list[tuple[str, str]]]:
    image = SimpleITK.ReadImage(str(path))
    _require_scalar(path, components=image.GetNumberOfComponentsPerPixel(), is_complex=False)
    shape = _require_3d(path, image.GetSize())
    voxels = SimpleITK.GetArrayFromImage(image).T.reshape(shape)
    size = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(size, size)[:3, :3]
    affine[:3, :3] = direction * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = np.array(image.GetOrigin())[:3]
    return voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, []


def _require_scalar(path: Path, *, components: int, is_complex: bool) -> None:
    if components > 1:
        raise VolumeFaultError(
            "colour",
            f"{path} holds {components} values per voxel (a colour picture): give the scan itself in grey values.",
        )
    if is_complex:
        raise VolumeFaultError("complex", f"{path} holds complex numbers: export the magnitude image.")


def _require_3d(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if 0 in shape or not shape:
        raise VolumeFaultError("empty", f"{path} has no voxels (shape {_times(shape)}): export it again.")
    if any(size > 1 for size in shape[3:]):
        raise VolumeFaultError(
            "not_3d",
            f"{path} is {len(shape)}D ({_times(shape)}): split it into 3D volumes, one file each "
            "(channels as NAME_0000, NAME_0001).",
        )
    if len(shape) < 3 or 1 in shape[:3]:
        raise VolumeFaultError(
            "not_3d", f"{path} is a single slice ({_times(shape)}): give a volume with several slices."
        )
    return shape[0], shape[1], shape[2]


def _odd_header(path: Path, image: Any) -> list[tuple[str, str]]:
    if not isinstance(image, nib.Nifti1Pair):
        return []
    sform, qform = image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]
    if sform is None and qform is None:
        message = f"{path} does not say how it lies in space (no valid affine code): left and right may be swapped."
        return [("no_orientation", message)]
    if sform is None or qform is None or is_degenerate(sform) or is_degenerate(qform):
        return []
    shift = largest_shift(sform, qform, image.shape[:3])
    if shift > max(1.0, float(spacing_of(sform).min())):
        message = (
            f"{path} has two affines that are {shift:.1f} mm apart: its sform is used, other tools may use the qform."
        )
        return [("two_affines", message)]
    return []


def _odd_grid(path: Path, affine: NDArray[np.float64]) -> list[tuple[str, str]]:
    odd = []
    if shear_of(affine) > 1e-3:
        message = f"{path} has a sheared grid: it is resampled as it lies, but most viewers show it without the shear."
        odd.append(("sheared", message))
    spacing = spacing_of(affine)
    if spacing.min() < 0.05 or spacing.max() > 25:
        message = f"{path} has voxels of {_times(spacing.round(4).tolist())} mm: are its units millimetres?"
        odd.append(("spacing", message))
    return odd


def _times(sizes: Any) -> str:
    return "×".join(f"{size:g}" for size in sizes) or "none"
