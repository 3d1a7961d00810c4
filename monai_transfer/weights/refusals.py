"""What a file is that cannot be read as tensors, told from its first bytes and its opcodes; nothing of it is run."""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_SHIPPED_AS_STATE = "take the network's state_dict() as .pt or .safetensors from where the file comes"
_HARMLESS = ("torch._utils", "torch.storage", "torch._tensor", "collections", "numpy")
"""Modules whose names stand in the pickle of plain tensors."""


def other_kind(path: Path) -> str:
    """What the file is where it is no checkpoint of PyTorch, with what to do, or ``""``.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.onnx"
        >>> _ = path.write_bytes(bytes([8, 7, 18, 7]) + b"pytorch")
        >>> other_kind(path).split(":")[0]
        'it is an ONNX graph'
    """
    with path.open("rb") as file:
        start = file.read(64)
    if path.suffix.lower() == ".onnx" or _is_onnx(start):
        return f"it is an ONNX graph: {_SHIPPED_AS_STATE}"
    if start.startswith(b"\x89HDF\r\n"):
        return f"it is an HDF5 file, as Keras writes it: {_SHIPPED_AS_STATE}"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                return f"it is a TorchScript program: {_SHIPPED_AS_STATE}"
    return ""


def is_safetensors(path: Path) -> bool:
    """Whether the file is one of safetensors, whatever its name: brainchop's end in ``.pth``.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> path = Path(tempfile.mkdtemp()) / "model.pth"
        >>> save_file({"weight": torch.zeros(1)}, path)
        >>> is_safetensors(path)
        True
    """
    with path.open("rb") as file:
        start = file.read(9)
    # the length of the header, and the header, which is JSON
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8


def python_objects(path: Path) -> str:
    """The first Python object beyond tensors that opening the file would make, ``module.Name``, or ``""``."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
                if name is None:
                    return ""
                with archive.open(name) as inside:
                    return next(_globals(inside), "")
        with path.open("rb") as file:
            for _ in range(5):  # the old format is a number, a version, the system, and then the object itself
                if found := next(_globals(file), ""):
                    return found
    except (ValueError, OSError, IndexError, UnicodeDecodeError, zipfile.BadZipFile, NotImplementedError):
        pass  # no pickle, or one cut short
    return ""


def _is_onnx(start: bytes) -> bool:
    """A protobuf message whose first field is a small format version and whose second is the producer's name."""
    return len(start) > 3 and start[0] == 0x08 and 1 <= start[1] <= 32 and start[2] in (0x12, 0x3A, 0x42)


def _globals(file: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE"):
            texts = [*texts[-1:], str(argument)]
        name = ""
        if opcode.name in ("GLOBAL", "INST"):
            name = str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL" and len(texts) == 2:
            name = ".".join(texts)
        module = name.rpartition(".")[0]
        if module and module != "torch" and not module.startswith(_HARMLESS):
            yield name
