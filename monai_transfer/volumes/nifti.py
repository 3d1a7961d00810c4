"""NIfTI and MGH files: the header is read first, and the voxels when it claims nothing impossible."""

import io
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from monai_transfer.volumes.guards import (
    GZIP_RATIO,
    degenerate,
    require_file,
    require_grey,
    require_room,
    require_voxels,
    unpacked,
    unpacked_start,
    unplaced,
)
from monai_transfer.volumes.volume import Note, Reading, Volume, damaged, is_degenerate, largest_shift, spacing_of

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
MGH_SUFFIXES = (".mgh", ".mgz")

_TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
"""Where scanners and scripts write freely, names of patients included."""

_SCALED_AT_ONCE = 1 << 22
"""Voxels that are scaled in float64 at a time: exact as nibabel is, without its memory."""


def read_nifti(path: Path, reading: Reading) -> Volume:
    """Read a NIfTI file, packed or not, or a pair of header and image.

    Raises:
        VolumeError: the file is damaged, makes impossible claims, holds no grey values or does not say how it lies.
    """
    where, packed = _image_file(path), path.name.lower().endswith(".gz")
    header = _nifti_header(path, packed=packed)
    shape, dtype = tuple(int(size) for size in header.get_data_shape()), header.get_data_dtype()
    require_grey(path, components=len(dtype.names or "1"), is_complex=dtype.kind == "c")
    require_voxels(path, shape)
    offset = int(header.get_data_offset())
    slope, inter = header.get_slope_inter()
    scaled = (slope or 1.0, inter or 0.0) != (1.0, 0.0)
    raw = _raw_voxels(where, shape, dtype, offset, packed=packed, converted=scaled or dtype.kind == "f")
    array = _scaled(raw, float(slope), float(inter or 0.0)) if scaled else _native(raw)
    affine, notes = _nifti_affine(path, header, shape, reading)
    if not math.isfinite(float(header["scl_slope"])):
        notes.append(Note("slope", f"{path} has a slope that is not a number: its voxels are taken as stored."))
    if len(shape) > 4:
        notes.append(Note("axes", f"{path} has {len(shape)} axes, some of length one, which plain MONAI keeps."))
    return Volume(path, _channels_first(array), affine, _carried(header, reading), tuple(notes))


def read_mgh(path: Path, reading: Reading) -> Volume:
    """Read an MGH file of FreeSurfer, packed or not.

    Raises:
        VolumeError: the file is damaged, makes impossible claims or does not say how it lies.
    """
    packed = path.name.lower().endswith(".mgz")
    kind = nib.freesurfer.mghformat.MGHHeader
    start = _start(path, kind.template_dtype.itemsize, packed=packed)
    header = kind.from_fileobj(io.BytesIO(start))
    shape = tuple(int(size) for size in header.get_data_shape())
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        raise damaged(path, f"its voxels are of the unknown type {error}") from error
    require_voxels(path, shape)
    raw = _raw_voxels(path, shape, dtype, header.get_data_offset(), packed=packed, converted=dtype.kind == "f")
    stored = np.frombuffer(start[: kind.template_dtype.itemsize], kind.template_dtype)[0]
    notes = [] if stored["goodRASFlag"] == 1 else [unplaced(path, reading)]
    return Volume(path, _channels_first(_native(raw)), np.array(header.get_affine(), np.float64), None, tuple(notes))


def _image_file(path: Path) -> Path:
    """The file that holds the voxels: that of the header, or the other one of a pair."""
    name = path.name.lower()
    if name.endswith((".hdr", ".img")):
        upper = path.suffix.isupper()
        for suffix in (".hdr", ".img"):
            require_file(path.with_suffix(suffix.upper() if upper else suffix))
        return path.with_suffix(".IMG" if upper else ".img")
    return path


def _nifti_header(path: Path, *, packed: bool) -> nib.Nifti1Header:
    """Parse the header, extensions included, from no more bytes than it may take."""
    if path.name.lower().endswith(".img"):
        path = path.with_suffix(".HDR" if path.suffix.isupper() else ".hdr")
    pair = path.name.lower().endswith(".hdr")
    start = _start(path, 540, packed=packed)
    nifti2 = start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 540, the size of its header
    kinds = (nib.nifti2.Nifti2PairHeader, nib.nifti1.Nifti1PairHeader) if pair else (nib.Nifti2Header, nib.Nifti1Header)
    kind = kinds[0 if nifti2 else 1]
    size = kind.template_dtype.itemsize
    if len(start) < size:
        raise damaged(path, "it ends within its header")
    stored = kind(start[:size], check=False)
    # a voxel size of zero is mended to 1 mm by the check: a guess, where the qform is all that says how the file lies
    if stored["sform_code"] <= 0 < stored["qform_code"] and 0 in stored["pixdim"][1 : 1 + min(3, stored["dim"][0])]:
        raise degenerate(path, "a qform")
    try:
        header = kind(start[:size], check=True)
        if pair:
            return header
        extended = int(header.get_data_offset())
        require_room(path, extended, stored=path.stat().st_size, ratio=GZIP_RATIO if packed else 1)
        return kind.from_fileobj(io.BytesIO(_start(path, extended, packed=packed)), check=True)
    except (HeaderDataError, WrapStructError, ValueError, ArithmeticError) as error:
        raise damaged(path, f"its header is not one of NIfTI, {error}") from error


def _start(path: Path, size: int, *, packed: bool) -> bytes:
    if packed:
        return unpacked_start(path, size)
    with path.open("rb") as file:
        return file.read(size)


def _raw_voxels(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int, *, packed: bool, converted: bool
) -> NDArray[Any]:
    """The voxels as they are stored; those of an unpacked file stay on the disk until they are looked at."""
    count = math.prod(shape)
    size, working = offset + count * dtype.itemsize, count * 4 if converted else 0
    require_room(path, size, stored=path.stat().st_size, ratio=GZIP_RATIO if packed else 1, working=working)
    if packed:
        data = unpacked(path, size)
        return np.frombuffer(data, dtype, count, offset).reshape(shape, order="F")
    # a large volume of which a part is wanted, or that is refused later, is then never read whole
    return np.memmap(path, dtype, "r", offset, shape, order="F")


def _native(raw: NDArray[Any]) -> NDArray[Any]:
    """In the machine's byte order; floating point numbers become float32."""
    wanted = np.dtype(np.float32) if raw.dtype.kind == "f" else raw.dtype.newbyteorder("=")
    return np.asarray(raw).astype(wanted, copy=False)


def _scaled(raw: NDArray[Any], slope: float, inter: float) -> NDArray[np.float32]:
    scaled = np.empty(raw.shape, np.float32, order="F")
    flat, given = scaled.reshape(-1, order="F"), raw.reshape(-1, order="F")
    for start in range(0, flat.size, _SCALED_AT_ONCE):
        piece = slice(start, start + _SCALED_AT_ONCE)
        flat[piece] = given[piece].astype(np.float64) * slope + inter
    return scaled


def _channels_first(array: NDArray[Any]) -> NDArray[Any]:
    """``(C, x, y, z)``; a fourth axis of length one is not a channel axis."""
    array = array.reshape(array.shape[:4], order="F")
    return array[None] if array.ndim <= 3 else np.moveaxis(array, -1, 0)


def _nifti_affine(
    path: Path, header: nib.Nifti1Header, shape: tuple[int, ...], reading: Reading
) -> tuple[NDArray[np.float64], list[Note]]:
    """A coded sform wins, then a coded qform; a coded one that is damaged is never replaced by another."""
    sform, qform = _coded(path, header, "sform"), _coded(path, header, "qform")
    if sform is None and qform is None:
        return np.array(header.get_base_affine(), np.float64), [unplaced(path, reading)]
    affine = sform if sform is not None else qform
    assert affine is not None
    if is_degenerate(affine):
        raise degenerate(path, "an sform" if sform is not None else "a qform")
    notes = []
    if sform is not None and qform is not None and not is_degenerate(qform):
        shift = largest_shift(sform, qform, shape[:3])
        if shift > max(1.0, float(spacing_of(sform).min())):
            message = (
                f"{path} has two affines that are {shift:.1f} mm apart: its sform is used, other tools may differ."
            )
            notes.append(Note("two_affines", message))
    # MONAI compares in the same way, and then takes the qform, coded or not, in place of the sform.
    if sform is not None and not np.allclose(header.get_zooms()[:3], spacing_of(sform)[: len(shape)]):
        message = (
            f"{path} has voxel sizes in its pixdim that are not its sform's: the sform is right, plain MONAI differs."
        )
        notes.append(Note("stale_pixdim", message))
    if header.get_xyzt_units()[0] in ("meter", "micron"):
        unit = header.get_xyzt_units()[0]
        notes.append(Note("units", f"{path} says that its unit is the {unit}: it is read as millimetres all the same."))
    return affine, notes


def _coded(path: Path, header: nib.Nifti1Header, name: str) -> NDArray[np.float64] | None:
    try:
        affine = getattr(header, f"get_{name}")(coded=True)[0]
    except (HeaderDataError, ValueError, ArithmeticError) as error:
        raise degenerate(path, f"a {name}") from error
    return None if affine is None else np.array(affine, np.float64)


def _carried(header: nib.Nifti1Header, reading: Reading) -> nib.Nifti1Header:
    """The header that results on this grid carry on, without free text unless that is wanted."""
    kind = nib.Nifti2Header if isinstance(header, nib.Nifti2Header) else nib.Nifti1Header
    carried = kind(endianness=header.endianness)
    for name in carried:
        if name not in ("magic", "vox_offset"):  # a pair's say that the voxels lie in another file
            carried[name] = header[name]
    carried.extensions = header.extensions
    if not reading.keep_header_text:
        carried.extensions = type(header.extensions)()
        for name in _TEXT_FIELDS:
            if name in carried:
                carried[name] = b""
    return carried
