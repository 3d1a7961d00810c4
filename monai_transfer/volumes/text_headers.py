"""NRRD and MetaImage headers, as far as they must be known before ITK opens the file and believes them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_transfer.volumes.volume import damaged

_LONGEST_HEADER = 1 << 20
"""Bytes; the longest headers, of diffusion series with all their gradients, have a tenth of this."""

_LONGEST_LIST = 10_000
"""Slices; more in a pattern is a claim that no scan makes."""

_LONGEST_LINE = 900
"""Characters of a field of NRRD: ITK quotes one that it does not understand into a place of 1024, without a look."""

_LONGEST_NAME = 250
"""Characters of the name of an object of MetaImage, for which ITK keeps 256."""

_LONGEST_AXIS = 1 << 31
"""Voxels; a number of thousands of digits would not even fit into a sentence."""

_MOST_AXES = 10
"""Of a MetaImage; ITK writes what it reads of more behind the end of its arrays, and the process dies."""

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    "signed long long int": 8,
    "float": 4,
    "double": 8,
}
_NRRD_ENCODINGS = {
    **dict.fromkeys(("gzip", "gz"), "gzip"),
    **dict.fromkeys(("bzip2", "bz2"), "bzip2"),
    **dict.fromkeys(("txt", "text", "ascii", "hex"), "text"),
    "raw": "raw",
}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}

_META_SIZES = ("ElementSpacing", "ElementSize")
_META_TURNS = ("TransformMatrix", "Rotation", "Orientation")
_META_NUMBERS = {
    **dict.fromkeys((*_META_SIZES, "Offset", "Position", "Origin", "CenterOfRotation"), 1),
    **dict.fromkeys(_META_TURNS, 2),
}
"""Fields with a number for each axis, or with one for each pair of axes."""

_NRRD_SPACES = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "lps", "ras", "las")
"""Spaces whose axes ITK knows; of any other it does not know left from right, and says nothing."""


@dataclass(frozen=True)
class TextHeader:
    """What a header claims.

    Attributes:
        claimed: bytes of voxels.
        data: the files that hold them.
        offset: where the voxels begin, where they are in the file of the header.
        encoding: ``raw``, ``gzip`` (a checksum of its own), ``zlib``, ``bzip2`` or ``text``.
        packed: bytes of packed voxels that it speaks of; 0 where it does not.
        placed: whether it says how the volume lies in space.
        colour: whether it calls its voxels colours.
    """

    claimed: int
    data: tuple[Path, ...]
    offset: int
    encoding: str
    placed: bool
    colour: bool = False
    packed: int = 0


def nrrd_header(path: Path) -> TextHeader:
    """Parse the header of an NRRD file.

    Raises:
        VolumeError: it is not an NRRD.
    """
    start = _start(path)
    match = re.search(rb"\r?\n\r?\n", start)
    lines = start[: match.start() if match else len(start)].decode("utf-8", "replace").splitlines()
    if not lines or not lines[0].startswith("NRRD000"):
        raise damaged(path, "its header is not one of NRRD")
    fields: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=1):
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment, or a key and its value
            continue
        if "datafile" not in fields and len(line) > _LONGEST_LINE and name != "content":
            raise damaged(path, "a line of its header is longer than any field of NRRD")
        if not colon:
            continue
        fields[name.strip().lower().replace(" ", "")] = value.strip()
        if value.strip().startswith("LIST"):
            fields["datafile"] = "\n".join(["LIST", *lines[number + 1 :]])
    try:
        sizes = _axes(fields["sizes"], int(fields["dimension"]))
        claimed = math.prod(sizes) * _NRRD_BYTES[fields["type"].lower()]
        encoding = _NRRD_ENCODINGS[fields["encoding"].lower()]
    except (KeyError, ValueError) as error:
        raise damaged(path, "its header is not one of NRRD") from error
    directions = re.findall(r"\([^()]*\)", fields.get("spacedirections", ""))  # "none" of an axis of channels
    return TextHeader(
        claimed=claimed,
        data=_data_files(path, fields.get("datafile", "")),
        offset=match.end() if match and "datafile" not in fields else 0,
        encoding=encoding,
        placed=fields.get("space", "").lower() in _NRRD_SPACES and len(directions) == 3,
        colour="color" in fields.get("kinds", "").lower(),
    )


def meta_header(path: Path) -> TextHeader:
    """Parse the header of a MetaImage.

    Raises:
        VolumeError: it is not a MetaImage.
    """
    fields: dict[str, str] = {}
    start, offset = _start(path), 0
    while offset < len(start) and "ElementDataFile" not in fields:
        end = start.find(b"\n", offset) + 1 or len(start)
        name, _, value = start[offset:end].decode("utf-8", "replace").partition("=")
        if name.strip() and fields.setdefault(name.strip(), value.strip()) != value.strip():
            raise damaged(path, f"its header says {name.strip()} twice")
        offset = end
    try:
        claimed = _meta_claim(fields)
        where = fields["ElementDataFile"]
    except (KeyError, ValueError) as error:
        raise damaged(path, "its header is not one of MetaImage") from error
    if where.startswith("LIST"):
        where = "\n".join(["LIST", *start[offset:].decode("utf-8", "replace").splitlines()])
    local = where.upper() == "LOCAL"
    packed = fields.get("CompressedData", "").lower() in ("true", "1")
    written = fields.get("BinaryData", "True").lower() in ("false", "0")
    return TextHeader(
        claimed=claimed,
        data=_data_files(path, "" if local else where),
        offset=max(int(fields.get("HeaderSize", 0)), offset if local else 0),
        encoding="zlib" if packed else "text" if written else "raw",
        placed=any(fields.get(name) for name in _META_TURNS) and any(fields.get(name) for name in _META_SIZES),
        packed=int(fields.get("CompressedDataSize") or 0) if packed else 0,
    )


def _meta_claim(fields: Mapping[str, str]) -> int:
    """Bytes of voxels; fields that do not agree are a ``ValueError``, for ITK takes them as they stand."""
    axes, channels = int(fields["NDims"]), int(fields.get("ElementNumberOfChannels", 1))
    if not 1 <= axes <= _MOST_AXES or channels < 1 or len(fields.get("Name", "")) > _LONGEST_NAME:
        raise ValueError("NDims, ElementNumberOfChannels or Name")
    if fields.get("ObjectType", "Image") != "Image" or int(fields.get("HeaderSize", 0)) < -1:
        raise ValueError("ObjectType or HeaderSize")
    int(fields.get("CompressedDataSize") or 0)
    for name, count in _META_NUMBERS.items():
        numbers = [float(number) for number in fields.get(name, "").split()]
        if numbers and (len(numbers) != axes**count or not all(map(math.isfinite, numbers))):
            raise ValueError(name)
        if name in _META_SIZES and min(numbers, default=1) <= 0:
            raise ValueError(name)
    sizes = _axes(fields["DimSize"], axes)
    return math.prod(sizes) * _META_BYTES[fields["ElementType"].removesuffix("_ARRAY")] * channels


def _axes(value: str, count: int) -> list[int]:
    """So many lengths of axes; others, or less than none and more than any, are a ``ValueError``."""
    sizes = [int(size) for size in value.split()]
    if len(sizes) != count or not all(0 <= size <= _LONGEST_AXIS for size in sizes):
        raise ValueError(value)
    return sizes


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LONGEST_HEADER)


def _data_files(header: Path, value: str) -> tuple[Path, ...]:
    """The files beside a header: one, a numbered pattern (``slice%03d.raw 1 20 1``) or a list."""
    if not value:
        return (header,)
    names: Sequence[str] = [value]
    first, *rest = value.split("\n")
    words = value.split()
    if first.startswith("LIST"):
        names = [name.strip() for name in rest if name.strip()]
    elif "%" in words[0] and len(words) >= 3 and re.fullmatch(r"[^%]*%0?\d*d[^%]*", words[0]):
        first_number, last, step = (int(word) for word in (*words[1:3], *(words[3:4] or ["1"])))
        numbers = range(first_number, last + 1, max(1, step))
        names = [words[0] % number for number in numbers[:_LONGEST_LIST]]
    return tuple(header.parent / name for name in names)
