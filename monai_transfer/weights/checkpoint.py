"""Read the tensors of a weights file, whatever wraps them, without ever running code from it."""

import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.files import read_object
from monai_transfer.machine import require_memory
from monai_transfer.text import plain

WRAPPERS = ("state_dict", "model_state_dict", "network_weights", "model", "network", "net", "teacher", "student", "ema")
"""Keys under which trainers put a network's tensors, best first: Lightning and MedicalNet, nnU-Net, MONAI, …."""

SUFFIXES = (".pt", ".pth", ".pth.tar", ".ckpt", ".model", ".bin", ".safetensors")


_MOST_UNFOLDED = 4
"""So many times its own size a file may hold, for weights that somebody compressed; random values hardly shrink."""

_SHIPPED_AS_STATE = "take the network's state_dict() as .pt or .safetensors from where the file comes"
_HARMLESS = ("torch._utils", "torch.storage", "torch._tensor", "collections", "numpy")
"""Modules whose names stand in the pickle of plain tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file.

    Attributes:
        path: the file.
        tensors: by the name that the file gives them.
        wrapper: the key of the file under which they lay, ``""`` for a flat file.
        label_names: names of the classes by index, where a bundle gives them.
        origin: what the network was pretrained on, where the file says so.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> torch.save({"state_dict": {"conv.weight": torch.zeros(4, 1, 3, 3)}, "epoch": 7}, path)
        >>> checkpoint = read_checkpoint(path)
        >>> checkpoint.wrapper, list(checkpoint.tensors)
        ('state_dict', ['conv.weight'])
    """

    path: Path
    tensors: Mapping[str, Tensor]
    wrapper: str = ""
    label_names: Mapping[int, str] = field(default_factory=dict)
    origin: str = ""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a ``.pt``, ``.pth`` or ``.safetensors`` file, or the ``models/model.pt`` of a bundle folder.

    Raises:
        UserError: the file is absent, damaged, holds no tensors, or is a pickle that needs more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        return _read_bundle(path)
    if not path.is_file():
        raise UserError(f"There is no weights file {path}: give a file, a bundle folder or a name of `weights list`.")
    if kind := other_kind(path):
        raise UserError(f"{path} is refused, {kind}.")
    safe = path.suffix == ".safetensors" or is_safetensors(path)
    content = _read_safetensors(path) if safe else _read_pickle(path)
    wrapper, tensors = _unwrap(content)
    if not tensors:
        keys = ", ".join(sorted(str(key) for key in content)[:6]) if isinstance(content, Mapping) else ""
        raise UserError(f"{path} holds no tensors ({keys or type(content).__name__}): it is not a weights file.")
    return Checkpoint(path=path, tensors=tensors, wrapper=wrapper, origin=_origin(path) if safe else "")


def _read_bundle(folder: Path) -> Checkpoint:
    models = [folder / "models" / name for name in ("model.pt", "model.safetensors")]
    path = next((model for model in models if model.is_file()), None)
    if path is None:
        raise UserError(f"The folder {folder} is not a bundle with weights: models/model.pt is missing.")
    content = read_checkpoint(path)
    return Checkpoint(path, content.tensors, content.wrapper, bundle_label_names(folder), content.origin)


def bundle_label_names(folder: Path) -> dict[int, str]:
    """Return the class names of a bundle by index, from its metadata; empty where it names none.

    Raises:
        UserError: the metadata is not JSON.
    """
    metadata = folder / "configs" / "metadata.json"
    if not metadata.is_file():
        return {}
    content = read_object(metadata, remedy="make the bundle anew")
    try:
        names = content["network_data_format"]["outputs"]["pred"]["channel_def"]
        return {int(index): plain(str(name)) for index, name in names.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): fetch it again.") from error
    return tensors


def _origin(path: Path) -> str:
    """What the header of a safetensors file says of it."""
    with safe_open(path, framework="pt") as file:
        return plain(str((file.metadata() or {}).get("pretrained_on", "")))


def _read_pickle(path: Path) -> Any:
    _require_honest(path)
    try:
        # weights_only never unpickles; NumPy's numbers are let through, for they run no code
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is refused: {_reason(error, path)}.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnicodeDecodeError, IndexError) as error:
        with path.open("rb") as file:
            start = file.read(64)
        kind = "empty" if not start else "a web page" if start.lstrip()[:1] == b"<" else "damaged or cut short"
        if start.startswith(b"version https://git-lfs"):
            kind = "a Git LFS pointer, not the file itself"
        raise UserError(f"{path} is not a readable weights file (it is {kind}): fetch it again.") from error


def _require_honest(path: Path) -> None:
    """See that a file does not unfold into many times its size: PyTorch stores tensors as they are."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path} is not a readable weights file (it is damaged or cut short): fetch it again."
        ) from error
    here = path.stat().st_size
    if claimed > _MOST_UNFOLDED * here:
        raise UserError(
            f"{path} has {here / 1e6:.1f} MB and claims to hold {claimed / 1e6:.0f} MB: PyTorch writes no such file, "
            "and it is not opened; fetch it again."
        )
    require_memory(claimed, str(path), "free memory or use smaller weights")


def _numbers() -> list[Any]:
    """NumPy scalars and their types: nnU-Net keeps its scores so, and they run no code."""
    kinds = [kind for name in vars(np.dtypes) if isinstance(kind := getattr(np.dtypes, name), type)]
    scalar = np.float64(0).__reduce__()[0]
    old_name = (scalar, "numpy.core.multiarray.scalar")
    return [scalar, old_name, np.dtype, *(kind for kind in kinds if kind is not np.dtypes.ObjectDType)]


def _reason(error: pickle.UnpicklingError, path: Path) -> str:
    text = str(error)
    name = python_objects(path)
    for mark in ("Unsupported global: GLOBAL ", "Unsupported class ", "Trying to load unsupported GLOBAL "):
        if not name and mark in text:
            name = text.split(mark, 1)[1].split()[0].rstrip(".,")
    if name:
        return (
            f"it holds Python objects ({plain(name)}), not tensors alone, and could run any code when opened; "
            "save the network's state_dict() by itself, or as safetensors, where the file comes from"
        )
    return "it is damaged or not a PyTorch file; fetch it again"


def _unwrap(content: Any, wrapper: str = "", depth: int = 0) -> tuple[str, dict[str, Tensor]]:
    """Return the key path and the mapping of names to tensors that most looks like a network's state."""
    if not isinstance(content, Mapping):
        return wrapper, {}
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) * 2 > len(content) or depth > 2:
        return wrapper, tensors
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            inner, found = _unwrap(content[key], f"{wrapper}.{key}".lstrip("."), depth + 1)
            if found:
                return inner, found
    nested = [
        _unwrap(value, f"{wrapper}.{key}".lstrip("."), depth + 1)
        for key, value in content.items()
        if isinstance(value, Mapping) and "optim" not in str(key)
    ]
    return max([(wrapper, tensors), *nested], key=lambda found: len(found[1]))


def load_weights(network: nn.Module, checkpoint: Path) -> None:
    """Load the weights of a file into a network.

    Raises:
        UserError: the file is not a checkpoint of plain tensors, does not fit the network, or holds NaN or infinity.
    """
    tensors = read_checkpoint(checkpoint).tensors
    kinds = {name: (tensor.dtype, tensor.device) for name, tensor in network.state_dict().items()}
    try:  # taken over where they are of its kind: copied, they would be in memory twice
        network.load_state_dict(tensors, assign=kinds == {name: (t.dtype, t.device) for name, t in tensors.items()})
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{checkpoint} does not fit the bundle's network_def: {first}") from error
    # Looked for after loading: by then every tensor has a shape of the network, whatever the file claimed.
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{checkpoint} holds NaN or infinity, first in {name}: train the network again.")


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
