"""NRRD and MetaImage headers, as far as they must be known before ITK opens the file and believes them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_transfer.volumes.volume import damaged

_LONGEST_HEADER = 1 << 20
"""Bytes; the longest headers, of diffusion series with all their gradients, have a tenth of this."""

_LONGEST_LIST = 100_000
"""Slices; more in a pattern is a claim that no scan makes."""

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
        placed: whether it says how the volume lies in space.
        colour: whether it calls its voxels colours.
    """

    claimed: int
    data: tuple[Path, ...]
    offset: int
    encoding: str
    placed: bool
    colour: bool


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
        if line.startswith("#") or not colon or value.startswith("="):
            continue
        fields[name.strip().lower().replace(" ", "")] = value.strip()
        if value.strip().startswith("LIST"):
            fields["datafile"] = "\n".join(["LIST", *lines[number + 1 :]])
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        claimed = math.prod(sizes) * _NRRD_BYTES[fields["type"].lower()]
        encoding = _NRRD_ENCODINGS[fields["encoding"].lower()]
    except (KeyError, ValueError) as error:
        raise damaged(path, "its header is not one of NRRD") from error
    return TextHeader(
        claimed=claimed,
        data=_data_files(path, fields.get("datafile", "")),
        offset=match.end() if match and "datafile" not in fields else 0,
        encoding=encoding,
        placed=fields.get("space", "").lower() in _NRRD_SPACES and "spacedirections" in fields,
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
        fields[name.strip()] = value.strip()
        offset = end
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        bytes_each = _META_BYTES[fields["ElementType"].removesuffix("_ARRAY")]
        claimed = math.prod(sizes) * bytes_each * int(fields.get("ElementNumberOfChannels", 1))
        where = fields["ElementDataFile"]
    except (KeyError, ValueError) as error:
        raise damaged(path, "its header is not one of MetaImage") from error
    if where.startswith("LIST"):
        where = "\n".join(["LIST", *start[offset:].decode("utf-8", "replace").splitlines()])
    local = where.upper() == "LOCAL"
    return TextHeader(
        claimed=claimed,
        data=_data_files(path, "" if local else where),
        offset=offset if local else 0,
        encoding="zlib" if fields.get("CompressedData", "").lower() in ("true", "1") else "raw",
        placed=any(name in fields for name in ("TransformMatrix", "Rotation", "Orientation")),
        colour=False,
    )


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
