"""Reading volumes: NIfTI and MGH by nibabel, DICOM series, NRRD, MetaImage and the rest by ITK."""

import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import ITKReader
from monai.data.image_reader import correct_nifti_header_if_necessary
from monai.data.meta_tensor import MetaTensor

from monai_transfer.errors import UserError

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".gipl", ".vtk")


@dataclass(frozen=True)
class Volume:
    """An image as it lies in its file.

    Attributes:
        path: the file, or the folder of a DICOM series.
        array: voxels, channel first, (C, *native shape), in the file's number type unless it is scaled.
        affine: voxel to RAS millimetres, (4, 4).
        header: the NIfTI header, extensions included, that a label map on this grid should carry on.
    """

    path: Path
    array: np.ndarray
    affine: np.ndarray
    header: nibabel.Nifti1Header | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the native grid."""
        return tuple(self.array.shape[1:])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def tensor(self, *, keep_integers: bool = False, device: torch.device | str = "cpu") -> MetaTensor:
        """The image as MONAI's ``LoadImaged`` would hand it on, (C, *native shape).

        Args:
            keep_integers: keep integer voxels instead of making float32 of them.
            device: where the tensor shall live.
        """
        array = self.array
        if array.dtype not in (np.uint8, np.int8, np.int16, np.int32, np.float32):
            array = array.astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the voxels are never written to
            values = torch.from_numpy(array).to(device)
        if not keep_integers:
            values = values.to(torch.float32)
        affine = torch.from_numpy(self.affine.copy())
        meta = {
            "original_affine": self.affine.copy(),
            "spatial_shape": np.asarray(self.shape),
            "original_channel_dim": float("nan") if len(array) == 1 else -1,
            "filename_or_obj": str(self.path),
            "space": "RAS",
        }
        return MetaTensor(values, affine=affine, meta=meta)


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether the file name ends in one of ``suffixes``, whatever the case."""
    return path.name.lower().endswith(tuple(suffixes))


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM signature."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_volume(path: Path | Sequence[Path], *, series: str | None = None) -> Volume:
    """Read one image.

    Args:
        path: a file, a folder with a DICOM series, or one file per channel.
        series: UID of the DICOM series to read where a folder holds several.

    Raises:
        UserError: when the file is missing, broken, of an unknown format, or no volume of finite numbers.
    """
    if not isinstance(path, Path):
        return _stack([read_volume(p) for p in path])
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path.")
    try:
        by_nibabel = path.is_file() and has_suffix(path, NIBABEL_SUFFIXES)
        volume = _read_nibabel(path) if by_nibabel else _read_itk(path, series)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path} cannot be read ({reason[-1].strip()}); check or re-export the file.") from error
    _require_sound(volume)
    return volume


def _read_nibabel(path: Path) -> Volume:
    image = nibabel.load(path)
    if image.get_data_dtype().names:
        raise UserError(f"{path} is a colour (RGB) image; a volume of single numbers is needed.")
    if isinstance(image, nibabel.Nifti1Pair):
        image = correct_nifti_header_if_necessary(image)
        if has_suffix(path, (".gz",)):
            _unpack_quickly(path, image)
    array = np.asanyarray(image.dataobj)
    if array.dtype.kind == "f" or array.dtype.kind not in "iu":
        array = array.astype(np.float32, copy=False)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 4:
        raise UserError(f"{path} has {array.ndim} dimensions {array.shape}; three, or four with channels, are needed.")
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    header = image.header if isinstance(image, nibabel.Nifti1Pair) else None
    return Volume(path, array, np.array(image.affine, dtype=np.float64), header)


def _unpack_quickly(path: Path, image: Any) -> None:
    """Unpack a ``.nii.gz`` in one go into the image's array proxy, instead of in nibabel's small pieces."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<I", raw[-4:])
    proxy = image.dataobj
    needed = proxy.offset + int(np.prod(proxy.shape)) * proxy.dtype.itemsize
    if size != needed & 0xFFFFFFFF:
        return  # several members, or cut short: nibabel's way handles or names it
    data = zlib.decompress(raw, wbits=31, bufsize=needed)
    if len(data) != needed:
        return
    voxels = np.frombuffer(data, dtype=proxy.dtype, count=int(np.prod(proxy.shape)), offset=proxy.offset)
    array = voxels.reshape(proxy.shape, order="F")
    slope, inter = proxy.slope, proxy.inter
    if (slope, inter) != (1, 0):
        array = array.astype(np.float32) * np.float32(slope) + np.float32(inter)
    image._dataobj = array


def _read_itk(path: Path, series: str | None) -> Volume:
    if path.is_dir() and series is None and not any(is_dicom(p) for p in path.iterdir() if p.is_file()):
        raise UserError(f"{path} holds no DICOM files; name a volume or a folder of volumes.")
    reader = ITKReader(series_name=series or "")
    array, meta = reader.get_data(reader.read([str(path)]))
    affine = np.array(meta["affine"], dtype=np.float64)
    rank = affine.shape[0] - 1
    if array.ndim == rank + 1 and array.shape[-1] in (3, 4) and array.dtype == np.uint8:
        raise UserError(f"{path} is a colour (RGB) image; a volume of single numbers is needed.")
    array = np.moveaxis(array, -1, 0) if array.ndim == rank + 1 else array[None]
    return Volume(path, np.ascontiguousarray(array.T).T, affine)


def _stack(volumes: Sequence[Volume]) -> Volume:
    first = volumes[0]
    for other in volumes[1:]:
        if other.shape != first.shape or not np.allclose(other.affine, first.affine, atol=1e-3):
            raise UserError(f"{other.path} lies on another grid than {first.path}; resample it to the same grid.")
    return Volume(first.path, np.concatenate([v.array for v in volumes]), first.affine, first.header)


def _require_sound(volume: Volume) -> None:
    if len(volume.shape) < 2 or 0 in volume.shape:
        raise UserError(f"{volume.path} has the shape {volume.shape}; a 3D volume is needed.")
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array.sum(dtype=np.float64)):
        bad = int((~np.isfinite(volume.array)).sum())
        if bad:
            raise UserError(f"{volume.path} holds {bad} voxels that are no finite numbers (NaN or Inf); replace them.")
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-12:
        raise UserError(f"{volume.path} has an affine that cannot be inverted; correct its header.")
