"""Unpacking gzip files whose checksums hold, in memory that was asked for and no more."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_transfer.volumes.volume import VolumeError, damaged

_PIECE = 1 << 20
"""Bytes unpacked at a time: small against any volume, large against the cost of a call."""

_SURPLUS = 1 << 20
"""Bytes that may follow the voxels: some programs pad their files, and a bomb does not stop here."""


def unpacked_start(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of what a gzip file holds, or fewer where it holds fewer."""
    start = bytearray()
    for piece in _pieces(path, most=size):
        start += piece
        if len(start) >= size:
            break
    return bytes(start[:size])


def unpacked(path: Path, size: int, *, offset: int = 0) -> NDArray[np.uint8]:
    """Unpack ``size`` bytes and verify the checksums of the whole file.

    Args:
        path: a gzip file of one or more members.
        size: bytes that it should hold.
        offset: where in the file the gzip stream begins.

    Raises:
        VolumeError: the file is no gzip, is cut off, holds much more than ``size``, or a checksum is wrong.
    """
    data = np.empty(size, np.uint8)
    found = 0
    for piece in _pieces(path, offset=offset):
        kept = piece[: max(0, size - found)]
        data[found : found + len(kept)] = np.frombuffer(kept, np.uint8)
        found += len(piece)
        if found > size + _SURPLUS:
            raise damaged(path, "it unpacks to more bytes than its header speaks of")
    if found < size:
        raise damaged(path, f"it unpacks to {found} of {size} bytes")
    return data


def _pieces(path: Path, *, offset: int = 0, most: int = _PIECE) -> Iterator[bytes]:
    """Unpack member after member; zlib itself compares each member's size and checksum at its end."""
    with path.open("rb") as file:
        file.seek(offset)
        member, packed = zlib.decompressobj(wbits=31), file.read(_PIECE)
        while packed:
            try:
                piece = member.decompress(packed, most)
            except zlib.error as error:
                if "incorrect data check" in str(error) or "incorrect length check" in str(error):
                    message = f"{path} has a wrong checksum: the file is damaged, so copy or export it again."
                    raise VolumeError("checksum", message) from error
                raise damaged(path, str(error)) from error
            if piece:
                yield piece
            packed = member.unconsumed_tail
            if member.eof:
                packed = _next_member(member.unused_data, file.read(_PIECE))
                if packed:
                    member = zlib.decompressobj(wbits=31)
            elif not packed:
                packed = file.read(_PIECE)
        yield member.decompress(b"")  # what zlib held back when the last input was used up
        if not member.eof:
            raise damaged(path, "it ends before its checksum")


def _next_member(rest: bytes, following: bytes) -> bytes:
    """What follows a member; zeros are padding, as tapes and block devices add them."""
    packed = rest + following
    return b"" if not packed.strip(b"\0") else packed
