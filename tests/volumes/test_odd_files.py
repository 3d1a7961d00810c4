"""Odd, broken and hostile files at the one door: each is refused in one sentence, quickly and without taking memory."""

import bz2
import gzip
import lzma
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from monai_transfer.volumes import guards
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume, VolumeError

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 20], [0, 0, 3.0, -10], [0, 0, 0, 1]])
SHAPE = (6, 5, 4)
MOST_MB = 300
Make = Callable[[Path], Path]

SIZES, BITS, OFFSET, SLOPE, CODES = 40, 72, 108, 112, 252
PIXDIM, SROW = 76, 280
"""Where a NIfTI-1 header keeps its fields, in bytes."""


def voxels(shape: tuple[int, ...] = SHAPE, dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def content(array: np.ndarray | None = None, *patches: tuple[int, bytes], codes: tuple[int, int] = (1, 1)) -> bytes:
    image = nib.Nifti1Image(voxels() if array is None else array, AFFINE)
    image.set_qform(AFFINE, codes[0])
    image.set_sform(AFFINE, codes[1])
    data = bytearray(image.to_bytes())
    for offset, patch in patches:
        data[offset : offset + len(patch)] = patch
    return bytes(data)


def nifti(*patches: tuple[int, bytes], array: np.ndarray | None = None, codes: tuple[int, int] = (1, 1)) -> Make:
    return file("x.nii.gz", gzip.compress(content(array, *patches, codes=codes), mtime=0))


def plain(*patches: tuple[int, bytes], array: np.ndarray | None = None) -> Make:
    return file("x.nii", content(array, *patches))


def file(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def shape(*sizes: int) -> tuple[int, bytes]:
    return SIZES, struct.pack("<8h", len(sizes), *sizes, *([1] * (7 - len(sizes))))


def floats(offset: int, *values: float) -> tuple[int, bytes]:
    return offset, struct.pack(f"<{len(values)}f", *values)


def with_changed_end(change: Callable[[bytes], bytes]) -> Make:
    return file("x.nii.gz", change(gzip.compress(content(), mtime=0)))


def nrrd(data: bytes | None = None, **fields: str) -> Make:
    """An NRRD file; fields with an empty text are left out."""
    lines = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "6 5 4",
        "space directions": "(2,0,0) (0,2,0) (0,0,3)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(1,2,3)",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in lines.items() if value) + "\n"
    return file("x.nrrd", header.encode() + (voxels().tobytes() if data is None else data))


def mha(data: bytes | None = None, **fields: str) -> Make:
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 2",
        "DimSize": "6 5 4",
        "ElementType": "MET_SHORT",
    } | fields
    lines["ElementDataFile"] = lines.pop("ElementDataFile", "LOCAL")
    header = "".join(f"{name} = {value}\n" for name, value in lines.items() if value)
    return file("x.mha", header.encode() + (voxels().tobytes() if data is None else data))


def packed_mha(data: bytes, **fields: str) -> Make:
    return mha(data, **({"CompressedData": "True", "CompressedDataSize": str(len(data))} | fields))


def mgh(*patches: tuple[int, bytes], name: str = "x.mgz") -> Make:
    data = bytearray(nib.MGHImage(voxels(dtype=np.float32), AFFINE).to_bytes())
    for offset, patch in patches:
        data[offset : offset + len(patch)] = patch
    return file(name, gzip.compress(bytes(data), mtime=0) if name.endswith("z") else bytes(data))


def with_changed_header(make: Make, *change: bytes) -> Make:
    """The file with one piece of its header in place of another."""

    def changed(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(path.read_bytes().replace(*change, 1))
        return path

    return changed


def nifti2(*patches: tuple[int, bytes]) -> Make:
    image = nib.Nifti2Image(voxels(), AFFINE)
    image.set_sform(AFFINE, 1)
    data = bytearray(image.to_bytes())
    for offset, patch in patches:
        data[offset : offset + len(patch)] = patch
    return file("x.nii", bytes(data))


def extended(size: int) -> Make:
    """A NIfTI whose one extension claims to have so many bytes."""
    data = content(None, floats(OFFSET, 368.0))
    return file("x.nii", data[:348] + b"\1\0\0\0" + struct.pack("<2i", size, 6) + bytes(8) + data[352:])


def pair_cut_off(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(voxels(), AFFINE), folder / "x.hdr")
    os.truncate(folder / "x.img", 20)
    return folder / "x.hdr"


def socket_file(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "x.nii.gz"))
    return folder / "x.nii.gz"


def bomb(folder: Path) -> Path:
    """A small header, and then zeros for ever: 400 MB in 2 MB."""
    packer = zlib.compressobj(1, wbits=31)
    data = packer.compress(content())
    for _ in range(400):
        data += packer.compress(bytes(1 << 20))
    return file("x.nii.gz", data + packer.flush())(folder)


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.nii.gz")
    return folder / "x.nii.gz"


def directory(folder: Path) -> Path:
    (folder / "x.nii.gz").mkdir()
    return folder / "x.nii.gz"


def link(target: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / "x.nii.gz").symlink_to(target)
        return folder / "x.nii.gz"

    return make


def colours(kind: str) -> np.ndarray:
    return np.zeros(SHAPE, [(name, "u1") for name in kind])


def pair_without_image(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(voxels(), AFFINE), folder / "x.hdr")
    (folder / "x.img").unlink()
    return folder / "x.hdr"


def detached(target: str, kind: str) -> Make:
    def make(folder: Path) -> Path:
        os.mkfifo(folder / "pipe")
        return nrrd(b"", data_file=target)(folder) if kind == "nrrd" else mha(b"", ElementDataFile=target)(folder)

    return make


PACKED = zlib.compress(voxels().tobytes(order="F"))
HOLES = voxels(dtype=np.float32)
HOLES[1, 2, 3] = np.nan
ENDLESS = voxels(dtype=np.float32)
ENDLESS[1, 2, 3] = np.inf
NAN = float("nan")

REFUSED: dict[str, tuple[Make, str]] = {
    # more claimed than the file can hold
    "6 GB in a small gz": (nifti(shape(1500, 1500, 1333)), "unreadable"),
    "30 TB in a small gz": (nifti(shape(32000, 32000, 32000)), "unreadable"),
    "seven huge axes": (nifti(shape(32000, 32000, 32000, 32000, 32000, 32000, 32000)), "not_3d"),
    "6 GB in a small nii": (plain(shape(1500, 1500, 1333)), "unreadable"),
    "data offset of 1 GB": (nifti(floats(OFFSET, 1e9)), "unreadable"),
    "data offset without end": (nifti(floats(OFFSET, float("inf"))), "unreadable"),
    "data offset is not a number": (nifti(floats(OFFSET, NAN)), "unreadable"),
    "zeros for ever": (bomb, "unreadable"),
    "4.5 GB NRRD": (nrrd(sizes="1500 1500 1000"), "unreadable"),
    "4.5 GB gz NRRD": (nrrd(gzip.compress(b"short"), sizes="1500 1500 1000", encoding="gzip"), "unreadable"),
    "6 GB MHA": (mha(DimSize="1500 1500 1333"), "unreadable"),
    "6 GB packed MHA": (mha(zlib.compress(b"x"), DimSize="1500 1500 1333", CompressedData="True"), "unreadable"),
    "huge MGH": (mgh((4, struct.pack(">3i", 3000, 3000, 3000))), "unreadable"),
    # damaged on the way
    "empty file": (file("x.nii.gz", b""), "unreadable"),
    "empty nii": (file("x.nii", b""), "unreadable"),
    "no gzip": (file("x.nii.gz", content()), "unreadable"),
    "text": (file("x.nii", b"this is not a volume" * 50), "unreadable"),
    "gz cut in half": (with_changed_end(lambda data: data[: len(data) // 2]), "unreadable"),
    "gz without its checksum": (with_changed_end(lambda data: data[:-8]), "unreadable"),
    "wrong CRC": (with_changed_end(lambda data: data[:-8] + b"1234" + data[-4:]), "checksum"),
    "wrong size": (with_changed_end(lambda data: data[:-4] + b"1234"), "checksum"),
    "garbage behind the gz": (with_changed_end(lambda data: data + b"garbage"), "unreadable"),
    "nii cut off": (file("x.nii", content()[:-50]), "unreadable"),
    "header cut off": (file("x.nii", content()[:200]), "unreadable"),
    "wrong magic": (nifti((344, b"xxxx")), "unreadable"),
    "unknown number type": (nifti((70, struct.pack("<h", 999))), "unreadable"),
    "negative size": (nifti(shape(-5, 6, 6)), "empty"),
    "wrong CRC of NRRD": (nrrd(gzip.compress(voxels().tobytes())[:-8] + b"12345678", encoding="gzip"), "checksum"),
    "NRRD cut off": (nrrd(b"\0" * 100), "unreadable"),
    "NRRD of unknown type": (nrrd(type="quaternion"), "unreadable"),
    "NRRD of sizes that are not numbers": (nrrd(sizes="6 5 many"), "unreadable"),
    "NRRD in name only": (file("x.nrrd", b"hello"), "unreadable"),
    "MHA cut off": (mha(b"\0" * 100), "unreadable"),
    "MHA without sizes": (mha(DimSize=""), "unreadable"),
    "MHA in name only": (file("x.mha", b"hello"), "unreadable"),
    "MGH in name only": (file("x.mgz", gzip.compress(b"hello")), "unreadable"),
    "wrong CRC of MGH": (
        lambda folder: file("x.mgz", mgh()(folder).read_bytes()[:-8] + b"12345678")(folder),
        "checksum",
    ),
    "no axes": (nifti((SIZES, struct.pack("<h", 0))), "empty"),
    "nine axes": (nifti((SIZES, struct.pack("<h", 9))), "unreadable"),
    "voxels within the header": (nifti(floats(OFFSET, 100.0)), "unreadable"),
    "intercept is not a number": (nifti(floats(SLOPE, 1.0, NAN)), "unreadable"),
    "one bit a voxel": (nifti((70, struct.pack("<2h", 1, 1))), "unreadable"),
    "extension without end": (extended(2**31 - 1), "unreadable"),
    "extension of less than nothing": (extended(-16), "unreadable"),
    "NIfTI-2 of 2^120 voxels": (nifti2((16, struct.pack("<4q", 3, 2**40, 2**40, 2**40))), "unreadable"),
    "NIfTI-2 of negative size": (nifti2((16, struct.pack("<4q", 3, -(2**62), 5, 4))), "empty"),
    "pair cut off": (pair_cut_off, "unreadable"),
    "packed twice": (file("x.nii.gz", gzip.compress(gzip.compress(content()))), "unreadable"),
    "packed by another program": (file("x.nii.gz", lzma.compress(content())), "unreadable"),
    "a page in place of the file": (file("x.nii.gz", b"<html>404</html>" * 40), "unreadable"),
    "gz of an endless name": (file("x.nii.gz", b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 3_000_000), "unreadable"),
    "a bit of the gz turned": (
        with_changed_end(lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:]),
        "checksum",
    ),
    "NRRD of a line without end": (nrrd(kinds="x" * 3000), "unreadable"),  # ITK dies of it
    "NRRD of other axes": (nrrd(dimension="4"), "unreadable"),
    "NRRD of a size with 4000 digits": (nrrd(sizes="9" * 4000 + " 5 4"), "unreadable"),
    "NRRD of bytes to skip": (nrrd(byte_skip="1000000000"), "unreadable"),
    "NRRD packed by bzip2": (nrrd(bz2.compress(voxels().tobytes()) + bytes(4000), encoding="bzip2"), "unreadable"),
    "NRRD of flat axes": (nrrd(space_directions="(2,0,0) (2,0,0) (0,0,3)"), "unreadable"),
    "NRRD of numbers in letters": (nrrd(b"a b c " * 100, encoding="text"), "unreadable"),
    "NRRD of a billion files": (nrrd(b"", data_file="nowhere%03d.raw 1 1000000000 1"), "missing"),
    "MHA of 99 axes": (mha(NDims="99"), "unreadable"),  # ITK dies of it
    "MHA of a name without end": (mha(Name="x" * 300), "unreadable"),  # and of this
    "MHA of other axes": (mha(NDims="4"), "unreadable"),
    "MHA of fewer sizes": (mha(DimSize="6 5"), "unreadable"),
    "MHA of a short matrix": (mha(TransformMatrix="1 0 0"), "unreadable"),
    "MHA of a matrix that is not a number": (mha(TransformMatrix="nan 0 0 0 1 0 0 0 1"), "unreadable"),
    "MHA of flat axes": (mha(TransformMatrix="1 0 0 1 0 0 0 0 1"), "unreadable"),
    "MHA of no voxel size": (mha(ElementSpacing="0 1 1"), "unreadable"),
    "MHA of negative voxel size": (mha(ElementSpacing="-1 1 1"), "unreadable"),
    "MHA of a billion channels": (mha(ElementNumberOfChannels="1000000000"), "unreadable"),
    "MHA of bytes to skip": (mha(HeaderSize="1000000000"), "unreadable"),
    "MHA that says two things": (with_changed_header(mha(), b"NDims = 3", b"NDims = 3\nNDims = 2"), "unreadable"),
    "MHA of a mesh": (mha(ObjectType="Mesh"), "unreadable"),
    "packed MHA cut off": (packed_mha(PACKED[:-10]), "unreadable"),
    "wrong checksum of a packed MHA": (packed_mha(PACKED[:-4] + b"1234"), "checksum"),
    "packed MHA of other length": (packed_mha(PACKED, CompressedDataSize=str(len(PACKED) - 50)), "unreadable"),
    "packed MHA that does not say its length": (packed_mha(PACKED, CompressedDataSize=""), "unreadable"),
    "MGH of an unknown type": (mgh((20, struct.pack(">i", 99))), "unreadable"),
    "MGH of negative size": (mgh((4, struct.pack(">3i", -3, 3, 3))), "empty"),
    "MGH of a billion frames": (mgh((16, struct.pack(">i", 10**9))), "unreadable"),
    # no regular file
    "socket": (socket_file, "not_a_file"),
    "kernel's messages": (link("/proc/kmsg"), "unreadable"),
    "named pipe": (pipe, "not_a_file"),
    "directory": (directory, "not_a_file"),
    "device": (link("/dev/zero"), "not_a_file"),
    "link that leads nowhere": (link("nowhere.nii.gz"), "missing"),
    "link to itself": (link("x.nii.gz"), "missing"),
    "git-annex link": (link("../.git/annex/objects/xx/yy/MD5E-s1--z.nii.gz"), "missing"),
    "git-annex pointer": (file("x.nii.gz", b"/annex/objects/MD5E-s1--z.nii.gz\n"), "missing"),
    "LFS pointer": (file("x.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "missing"),
    "LFS pointer of NRRD": (file("x.nrrd", b"version https://git-lfs.github.com/spec/v1\n"), "missing"),
    "missing": (lambda folder: folder / "x.nii.gz", "missing"),
    "name too long": (lambda folder: folder / ("x" * 300 + ".nii.gz"), "missing"),
    "header without its image": (pair_without_image, "missing"),
    "NRRD of a missing file": (detached("nowhere.raw", "nrrd"), "missing"),
    "NRRD of a pipe": (detached("pipe", "nrrd"), "not_a_file"),
    "MHA of a pipe": (detached("pipe", "mha"), "not_a_file"),
    "unknown format": (file("x.txt", b"hello"), "format"),
    # no grid in space
    "sform is not a number": (nifti(floats(SROW, NAN)), "affine"),
    "sform without end": (nifti(floats(SROW + 4, float("inf"))), "affine"),
    "sform of 1e30": (nifti(floats(SROW, 1e30)), "affine"),
    "sform far away": (nifti(floats(SROW + 12, 1e30)), "affine"),
    "sform of rank 2": (nifti(floats(SROW + 32, *[0.0] * 4)), "affine"),
    "sform of zeros": (nifti(floats(SROW, *[0.0] * 12)), "affine"),
    "qform is not a number": (nifti(floats(256, NAN, NAN, NAN), codes=(1, 0)), "affine"),
    "qform of 1e30": (nifti(floats(PIXDIM + 4, 1e30), codes=(1, 0)), "affine"),
    "qform without voxel sizes": (nifti(floats(PIXDIM + 4, 0.0, 0.0, 0.0), codes=(1, 0)), "affine"),
    "qform of no rotation": (nifti(floats(256, 0.9, 0.9, 0.9), codes=(1, 0)), "affine"),
    "sform of 1e-8": (nifti(floats(SROW, 1e-8, 0, 0, 0, 0, 1e-8, 0, 0, 0, 0, 1e-8)), "affine"),
    "MGH of no directions": (mgh((42, struct.pack(">9f", *[0.0] * 9))), "affine"),
    "MGH of voxels that are not a number": (mgh((30, struct.pack(">3f", NAN, 1, 1))), "affine"),
    "negative codes": (nifti((CODES, struct.pack("<2h", -1, -2))), "no_orientation"),
    "NRRD without directions": (nrrd(space_directions="none none none"), "no_orientation"),
    "NRRD in the scanner's space": (nrrd(space="scanner-xyz"), "no_orientation"),
    "MHA without voxel sizes": (mha(ElementSpacing=""), "no_orientation"),
    "no codes": (nifti(codes=(0, 0)), "no_orientation"),
    "unknown codes": (nifti((CODES, struct.pack("<2h", 99, 99))), "no_orientation"),
    "NRRD without a space": (nrrd(space="", space_origin="", space_directions=""), "no_orientation"),
    "MHA without a matrix": (mha(TransformMatrix="", Offset=""), "no_orientation"),
    "MGH without a place": (mgh((28, b"\0\0")), "no_orientation"),
    # no grey values
    "RGB": (nifti(array=colours("RGB")), "colour"),
    "RGBA": (nifti(array=colours("RGBA")), "colour"),
    "NRRD in colours": (
        nrrd(
            b"\0" * 360,
            type="uchar",
            dimension="4",
            sizes="3 6 5 4",
            kinds="RGB-color domain domain domain",
            space_directions="none (2,0,0) (0,2,0) (0,0,3)",
        ),
        "colour",
    ),
    "MHA in colours": (mha(b"\0" * 360, ElementType="MET_UCHAR", ElementNumberOfChannels="3"), "colour"),
    "complex": (nifti(array=voxels(dtype=np.complex64)), "complex"),
    "complex128": (nifti(array=voxels(dtype=np.complex128)), "complex"),
    "complex in a plain file": (plain(array=voxels(dtype=np.complex64)), "complex"),
    "complex, the big end first": (nifti(array=voxels(dtype=np.dtype(">c8"))), "complex"),
    "NaN": (nifti(array=HOLES), "not_finite"),
    "infinite": (nifti(array=ENDLESS), "not_finite"),
    "slope of 1e38": (nifti(floats(SLOPE, 1e38, 0.0)), "not_finite"),
    "NaN in an NRRD": (nrrd(HOLES.tobytes(), type="float"), "not_finite"),
    "NaN in an MHA": (mha(HOLES.tobytes(), ElementType="MET_FLOAT"), "not_finite"),
    "1e300 in float64": (nifti(array=np.full(SHAPE, 1e300)), "not_finite"),
    # no volume
    "zero slices": (nifti(shape(6, 5, 0)), "empty"),
    "a picture as MHA": (
        mha(NDims="2", DimSize="6 5", ElementSpacing="1 1", TransformMatrix="1 0 0 1", Offset="0 0"),
        "not_3d",
    ),
    "single slice across": (nifti(array=voxels((6, 1, 4))), "not_3d"),
    "single slice": (nifti(array=voxels((6, 5, 1))), "not_3d"),
    "slices in time": (nifti(array=voxels((6, 5, 1, 3))), "not_3d"),
    "a line": (nifti(array=voxels((6,))), "not_3d"),
    "5D": (nifti(array=voxels((6, 5, 4, 2, 3))), "not_3d"),
    "a vector a voxel": (nifti(array=voxels((6, 5, 4, 1, 3))), "not_3d"),
}


def highest_mb(*, anew: bool = False) -> float:
    """The most memory that this process has held, C++ libraries included; ``anew`` counts from what it holds now."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    make, kind = REFUSED[name]
    path = make(tmp_path)
    before = highest_mb(anew=True)
    with pytest.raises(VolumeError) as refused:
        read_volume(path)
    assert highest_mb() - before < MOST_MB
    assert refused.value.kind == kind, str(refused.value)
    message = str(refused.value)
    assert path.name in message or "pipe" in message or "nowhere" in message or "x.img" in message
    assert "\n" not in message
    assert message.endswith(".")


READ: dict[str, tuple[Make, set[str]]] = {
    "sound": (nifti(), set()),
    "padded with zeros": (with_changed_end(lambda data: data + bytes(512)), set()),
    "several members": (
        file("x.nii.gz", b"".join(gzip.compress(content()[i : i + 100]) for i in range(0, len(content()), 100))),
        set(),
    ),
    "big endian": (
        file("x.nii", nib.Nifti1Image(voxels(), AFFINE).as_reoriented([[0, 1], [1, 1], [2, 1]]).to_bytes()),
        set(),
    ),
    "a fourth axis of one": (nifti(array=voxels((6, 5, 4, 1))), set()),
    "slope of zero": (nifti(floats(SLOPE, 0.0, 5.0)), set()),
    "slope is not a number": (nifti(floats(SLOPE, NAN, 0.0)), {"slope"}),
    "stale pixdim": (nifti(floats(PIXDIM + 4, 1.0, 1.0, 1.0), codes=(0, 1)), {"stale_pixdim"}),
    "sform alone": (nifti(codes=(0, 2)), set()),
    "qform alone": (nifti(codes=(3, 0)), set()),
    "NRRD": (nrrd(), set()),
    "packed NRRD": (nrrd(gzip.compress(voxels().tobytes(order="F")), encoding="gzip"), set()),
    "MHA": (mha(), set()),
    "MGH": (mgh(), set()),
    "plain MGH": (mgh(name="x.mgh"), set()),
    "slope without end": (nifti(floats(SLOPE, float("inf"), 0.0)), {"slope"}),
    "pixdim is not a number": (nifti(floats(PIXDIM + 4, NAN, NAN, NAN), codes=(0, 1)), {"stale_pixdim"}),
    "units of a micron": (nifti((123, b"\x03")), {"units"}),
    "NIfTI-2": (nifti2(), set()),
    "NRRD of big numbers first": (nrrd(voxels().astype(">i2").tobytes(order="F"), endian="big"), set()),
    "NRRD in text": (nrrd(b"7 " * 120, encoding="text", type="double", endian=""), set()),
    "NRRD with a long comment": (nrrd(content="x" * 3000), set()),
    "packed MHA": (packed_mha(PACKED), set()),
    "MHA in text": (mha(b"7 " * 120, BinaryData="False", ElementType="MET_DOUBLE"), set()),
    "upper case": (file("X.NII.GZ", gzip.compress(content())), set()),
}


@pytest.mark.parametrize("name", READ)
def test_odd_but_read(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, kinds = READ[name]
    volume = read_volume(make(tmp_path))
    assert volume.array.shape == (1, *SHAPE)
    assert {note.kind for note in volume.notes} == kinds
    if ".ni" in volume.path.name.lower():
        np.testing.assert_array_equal(volume.array[0], voxels())
        np.testing.assert_array_equal(volume.affine, AFFINE)
    assert capfd.readouterr() == ("", "")


def test_a_scan_larger_than_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (nifti(), plain(), nrrd(), mha(), mgh()):
        path = make(tmp_path)
        monkeypatch.setattr(guards, "free_memory", lambda: 100)
        with pytest.raises(VolumeError) as refused:
            read_volume(path)
        assert refused.value.kind == "too_large"


def test_guesses_only_where_they_are_asked_for(tmp_path: Path) -> None:
    for make in (nifti(codes=(0, 0)), nrrd(space="", space_origin="", space_directions=""), mha(TransformMatrix="")):
        path = make(tmp_path)
        with pytest.raises(VolumeError, match="--assume-affine"):
            read_volume(path)
        assert [n.kind for n in read_volume(path, reading=Reading(assume_affine=True)).notes] == ["no_orientation"]
    broken = nifti(floats(SROW, NAN))(tmp_path)
    with pytest.raises(VolumeError):
        read_volume(broken, reading=Reading(assume_affine=True))


def test_header_text_is_dropped(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(), AFFINE)
    image.header["descrip"] = b"John Doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"John Doe"))
    nib.save(image, tmp_path / "x.nii.gz")
    for keep in (False, True):
        header = read_volume(tmp_path / "x.nii.gz", reading=Reading(keep_header_text=keep)).header
        assert header is not None
        assert (header["descrip"] == b"John Doe", len(header.extensions) == 1) == (keep, keep)


def test_channels_of_other_orientation_are_turned(tmp_path: Path) -> None:
    first = nib.Nifti1Image(voxels(), AFFINE)
    nib.save(first, tmp_path / "a.nii.gz")
    nib.save(nib.as_closest_canonical(first), tmp_path / "b.nii.gz")
    stacked: Volume = read_volume([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    np.testing.assert_array_equal(stacked.array[0], stacked.array[1])
    assert [note.kind for note in stacked.notes] == ["orientation"]
    moved = AFFINE.copy()
    moved[0, 3] += 2
    nib.save(nib.Nifti1Image(voxels(), moved), tmp_path / "b.nii.gz")
    with pytest.raises(VolumeError, match="another grid"):
        read_volume([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])


def test_itk_is_only_asked_for_sound_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nrrd(sizes="1500 1500 1000")(tmp_path)
    monkeypatch.setattr(SimpleITK, "ReadImage", None)
    with pytest.raises(VolumeError, match="cannot hold"):
        read_volume(path)
