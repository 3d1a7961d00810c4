"""Volumes on disk: one reader, one writer, one idea of a grid, one rule for names."""

from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.volumes.monai_reader import VolumeReader, load_volumes
    from monai_transfer.volumes.reading import read_volume, write_volume
    from monai_transfer.volumes.volume import Reading, Volume

__all__ = ["Reading", "Volume", "VolumeReader", "load_volumes", "read_volume", "write_volume"]

__getattr__ = imported_late(
    __name__,
    {
        "Reading": "volume",
        "Volume": "volume",
        "VolumeReader": "monai_reader",
        "load_volumes": "monai_reader",
        "read_volume": "reading",
        "write_volume": "reading",
    },
)
