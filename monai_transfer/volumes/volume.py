"""What a volume is: its name as a file and, once it is read, voxels on a grid in the world with what is odd about them.

A grid is an affine, voxel to RAS millimetres, and a shape. Options name this module and are checked before anything
that takes long is imported, so nibabel, torch and MONAI are imported where they are needed.
"""

import re
import warnings
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monai_transfer.errors import UserError

if TYPE_CHECKING:
    import nibabel as nib
    import torch
    from monai.data.meta_tensor import MetaTensor

_TORCH_TYPES = (np.uint8, np.int8, np.int16, np.int32, np.float32)
"""What torch takes over without a copy; 64-bit integers would double the memory for nothing."""


VOLUME_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
"""File name endings that are read as volumes; of a NIfTI pair the header stands for both."""

_CHANNEL = re.compile(r"_(\d{4})$")

GRID_TOLERANCE_MM = 0.5
"""How far apart two grids may place the same voxel and still count as one grid, mm; never more than a quarter voxel."""

_SMALLEST_MM, _LARGEST_MM = 1e-6, 1e6
"""Voxels of a nanometre, and distances of a kilometre, come from headers full of noise and not from a scanner."""


class VolumeError(UserError):
    """A file is not a usable volume.

    Attributes:
        kind: a short word for programs, such as ``missing``, ``unreadable``, ``affine`` or ``too_large``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def damaged(path: Path, reason: str) -> VolumeError:
    """The error of a file that is cut off or was changed on its way."""
    message = f"{path} cannot be read ({reason}): the file is damaged or cut off, so copy or export it again."
    return VolumeError("unreadable", message)


@dataclass(frozen=True)
class Note:
    """Something odd about a file that can be used all the same.

    Attributes:
        kind: a short word for programs.
        message: one sentence that names the file.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Reading:
    """How strictly files are read; the defaults never guess.

    Attributes:
        assume_affine: take a file's own guess where it does not say how it lies in space.
        allow_irregular: resample unevenly spaced DICOM slices onto an even grid.
        keep_header_text: keep the free text of a NIfTI header, which may name the patient.
        pictures: read PNG, JPEG, BMP and radiographs in DICOM too, for networks that need no place in space.

    Example:
        >>> Reading(assume_affine=True).keep_header_text
        False
    """

    assume_affine: bool = False
    allow_irregular: bool = False
    keep_header_text: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class Volume:
    """An image as it lies in its file.

    Attributes:
        path: the file, or the folder of a DICOM series; the first of several channels.
        array: voxels, channel first, ``(C, *native shape)``, in the file's number type unless it is scaled; floating
            point numbers are float32.
        affine: voxel to RAS millimetres, ``(4, 4)``, float64.
        header: the NIfTI header that a label map on this grid carries on.
        notes: what is odd about the file.
        files: the DICOM files of its slices, in their order; empty for other formats.

    Example:
        >>> volume = Volume(Path("scan.nii"), np.zeros((1, 4, 5, 6), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))
        >>> volume.shape, volume.voxel_ml
        ((4, 5, 6), 0.002)
    """

    path: Path
    array: NDArray[Any]
    affine: NDArray[np.float64]
    header: "nib.Nifti1Header | None" = field(default=None, repr=False)
    notes: tuple[Note, ...] = ()
    files: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the native grid."""
        return tuple(self.array.shape[1:])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def meta(self) -> dict[str, Any]:
        """What MONAI's readers say about an image with its channels first."""
        return {
            "affine": self.affine.copy(),
            "original_affine": self.affine.copy(),
            "spatial_shape": np.asarray(self.shape),
            # MONAI's own readers say NaN of a file without a channel axis
            "original_channel_dim": float("nan") if len(self.array) == 1 else -1,
            "filename_or_obj": str(self.path),
            "space": "RAS",
        }

    def let_voxels_go(self) -> None:
        """Give back the memory of the voxels, whoever holds this volume: from now on they read as NaN.

        What lies on its grid can still be written.

        Example:
            >>> volume = Volume(Path("scan.nii"), np.ones((1, 4, 5, 6), np.int16), np.eye(4))
            >>> volume.let_voxels_go()
            >>> volume.shape, volume.array[0, 0, 0, 0]
            ((4, 5, 6), np.float32(nan))
        """
        gone = np.broadcast_to(np.float32("nan"), self.array.shape)
        object.__setattr__(self, "array", gone)  # frozen for all who read it; and none does after this

    def tensor(self, *, keep_integers: bool = False, device: "torch.device | str" = "cpu") -> "MetaTensor":
        """The image as MONAI's ``LoadImaged`` would hand it on, ``(C, *native shape)``.

        Args:
            keep_integers: keep integer voxels instead of making float32 of them.
            device: where the tensor shall live.
        """
        import torch  # here, for `check` reads volumes and should not wait for torch and MONAI
        from monai.data.meta_tensor import MetaTensor

        array = self.array if self.array.dtype in _TORCH_TYPES else self.array.astype(np.float32)
        # The voxels are never written to. The filter names its message and stays: one that is put aside again would
        # take along what another thread is being told of its own case meanwhile.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        values = torch.from_numpy(array).to(device)
        if not keep_integers:
            values = values.to(torch.float32)
        meta = self.meta
        return MetaTensor(values, affine=torch.from_numpy(meta.pop("affine")), meta=meta)

    def turned_like(self, affine: NDArray[np.float64]) -> "Volume":
        """The volume with its axes swapped and flipped into the orientation of ``affine``; nothing is resampled."""
        import nibabel as nib

        turn = nib.orientations.ornt_transform(nib.io_orientation(self.affine), nib.io_orientation(affine))
        if len(self.shape) != 3 or np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
            return self
        array = np.stack([nib.orientations.apply_orientation(channel, turn) for channel in self.array])
        turned = self.affine @ nib.orientations.inv_ornt_aff(turn, self.shape)
        return replace(self, array=array, affine=turned, header=None)

    def cropped(self, box: tuple[slice, ...]) -> "Volume":
        """A copy of the voxels in a box, where they lie in space.

        Example:
            >>> volume = Volume(Path("scan.nii"), np.zeros((1, 4, 5, 6), np.int16), np.diag([1.0, 1.0, 2.0, 1.0]))
            >>> volume.cropped((slice(0, 4), slice(1, 3), slice(2, 6))).affine[:3, 3].tolist()
            [0.0, 1.0, 4.0]
        """
        affine, corner = self.affine.copy(), [part.start for part in box]
        affine[:, 3] = affine @ [*corner, *[0] * (3 - len(box)), 1]  # a picture of two axes lies in space too
        return replace(self, array=self.array[(slice(None), *box)].copy(), affine=affine, header=None, files=())


def spacing_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel size along each axis, ``(3,)``, mm."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def is_degenerate(affine: NDArray[np.float64]) -> bool:
    """Whether the affine is not finite, absurdly large or small, or maps the volume onto less than a space."""
    if not np.isfinite(affine).all() or np.abs(affine).max() > _LARGEST_MM:
        return True
    if (spacing_of(affine) < _SMALLEST_MM).any():
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / spacing_of(affine))) < 1e-3)


def shear_of(affine: NDArray[np.float64]) -> float:
    """Largest cosine between two axes of the grid; 0 when they are perpendicular."""
    axes = affine[:3, :3] / spacing_of(affine)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def to_ras(affine: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Values per voxel axis in the order left-right, back-front, feet-head."""
    import nibabel as nib

    order = np.argsort(nib.io_orientation(affine)[:, 0])
    x, y, z = (float(values[axis]) for axis in order)
    return x, y, z


def orientation_code(affine: NDArray[np.float64]) -> str:
    """``RAS``, ``LPS``, …: where the voxel axes point."""
    import nibabel as nib

    return "".join(str(code) for code in nib.orientations.aff2axcodes(affine))


def largest_shift(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """How far apart two affines place the same corner of a volume at most, mm."""
    sizes = (*shape, 1, 1)[:3]  # a picture of two axes lies in space too
    corners = np.array([[*corner, 1.0] for corner in product(*((0, size - 1) for size in sizes))])
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def same_grid(affine: NDArray[np.float64], reference: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether two affines place every voxel of a shape alike, up to :data:`GRID_TOLERANCE_MM`.

    Label maps that went through another program come back with rounded affines, but never a quarter voxel off.
    """
    tolerance = min(GRID_TOLERANCE_MM, float(spacing_of(reference).min()) / 4)
    return largest_shift(affine, reference, shape) <= tolerance


def is_volume(path: Path) -> bool:
    """Whether the file's name is that of a volume; hidden files (``._scan.nii.gz``) are not."""
    return not path.name.startswith(".") and path.name.lower().endswith(VOLUME_SUFFIXES)


def stem(path: Path) -> str:
    """The file's name without the ending of its format."""
    for suffix in VOLUME_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_segmentation(path: Path) -> bool:
    """Whether a file is named as 3D Slicer names label maps: ``scan.seg.nrrd``."""
    return path.name.lower().endswith(".seg.nrrd")


def label_stem(path: Path) -> str:
    """The name of the case that a label map belongs to: ``scan`` of ``scan.nii.gz`` and of ``scan.seg.nrrd``."""
    return path.name[: -len(".seg.nrrd")] if is_segmentation(path) else stem(path)


def without_channel(name: str) -> str:
    """``liver_007`` of ``liver_007_0001``; other names as they are."""
    return _CHANNEL.sub("", name)


def channel_of(name: str) -> int | None:
    """The channel's number at the end of an nnU-Net image's name, if there is one."""
    match = _CHANNEL.search(name)
    return int(match.group(1)) if match else None


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts ``case_2`` before ``case_10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part)


def list_volumes(folder: Path) -> list[Path]:
    """What bears the name of a volume in a folder, in natural order; none when the folder is absent.

    Links that lead nowhere are among them, for whoever reads them must say so: a subject that was not fetched would
    otherwise vanish without a word.
    """
    if not folder.is_dir():
        return []
    volumes = [path for path in folder.iterdir() if is_volume(path)]
    return sorted(volumes, key=lambda path: natural_key(path.name))
