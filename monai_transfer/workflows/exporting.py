"""A bundle's network as one file that runs without the bundle: TorchScript, or ONNX.

The file computes the logits of windows, any number at a time; loading, resampling and the sliding window stay with
whoever calls it, so the bundle's metadata and inference configuration travel inside the file. A file is kept only after
it gave the logits and the labels of the original network.
"""

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from monai_transfer.bundle.facts import config_file, inspect_bundle, parse_config
from monai_transfer.bundle.networks import spelled_out
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write, replacing
from monai_transfer.inference.pipeline import class_masks
from monai_transfer.networks.shortcuts import exportable
from monai_transfer.options import ExportFormat
from monai_transfer.text import line_of

logger = logging.getLogger(__name__)

ENDINGS: dict[ExportFormat, str] = {"torchscript": ".ts", "onnx": ".onnx"}

LARGEST_DIFFERENCE = 1e-3
"""Of the logits, or of the largest logit where that is above 1: float32 sums in another order differ by 1e-6 to 1e-5,
an operation that is converted wrongly by tenths."""

LEAST_EQUAL = 0.9999
"""Share of voxels that must have the same label: two classes may tie in a voxel, and not in one of ten thousand."""

BATCHES = (1, 3)
"""Windows at once with which a file is tried; it was traced with two, so neither number is one that it saw."""

Compute = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how near it comes to the network.

    Attributes:
        file: the file.
        format: ``"torchscript"`` or ``"onnx"``.
        window: channels and voxels of one window, as the file takes it behind the batch.
        largest_difference: between the logits of both.
        equal_labels: share of voxels with the same label, or labels where they may overlap.
    """

    file: Path
    format: ExportFormat
    window: tuple[int, ...]
    largest_difference: float
    equal_labels: float

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self) | {"file": str(self.file), "window": list(self.window)}


def export_bundle(
    bundle: str | Path, *, format: ExportFormat = "torchscript", output: str | Path | None = None, trust: bool = False
) -> Exported:
    """Write the network of a bundle as one file, and see that it computes the same.

    Args:
        bundle: the bundle's folder.
        format: ``"torchscript"`` runs in PyTorch, also from C++; ``"onnx"`` in ONNX Runtime and others.
        output: the file; by default ``models/model.ts`` or ``models/model.onnx`` of the bundle.
        trust: let a bundle that was not made here run whatever code it names.

    Raises:
        UserError: the bundle names no fixed window, the network cannot be exported, a package is missing, the file
            cannot be written, or it computes something else.
    """
    if inspect_bundle(bundle).diagnoses:
        raise UserError(f"{bundle} names the class of an image; export takes bundles that segment.")
    require_exporters(format)
    read = read_bundle(bundle, trust=trust)
    file = Path(output).expanduser() if output else read.root / "models" / f"model{ENDINGS[format]}"
    window = window_shape(read)
    network = exportable(read.network)
    if read.finder is not None:
        logger.warning(
            "%s looks in the box around what %s finds; the file holds the network that looks there, so export the "
            "other too.",
            read.root,
            read.finder.root,
        )
    try:
        with replacing(file) as stream, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing speaks of Python values, exporting of its own deprecations
            stream.write(_contents(network, torch.zeros(2, *window), read, format, file.name))
            stream.flush()
            difference, equal = parity(read, window, _OPENERS[format](Path(stream.name)))
            if difference > LARGEST_DIFFERENCE or equal < LEAST_EQUAL:
                raise UserError(
                    f"{read.root} was not exported: the {format} file's logits differ by {difference:.2g} and "
                    f"{100 * (1 - equal):.2g} % of its labels; take another --format."
                )
    except OSError as error:
        raise cannot_write(file, error) from error
    return Exported(file, format, window, difference, equal)


def require_exporters(format: ExportFormat) -> None:
    """See that a format can be written and checked.

    Raises:
        UserError: a package is missing.
    """
    needed = ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ()
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--format onnx needs the package {package}: pip install 'monai-transfer[onnx]'.")


def window_shape(bundle: InferenceBundle) -> tuple[int, ...]:
    """Channels and voxels of a window as the network takes it, (C, *roi); the flat axis of a 2D network is left out.

    Raises:
        UserError: the window takes the whole of an axis, so there is no one shape.
    """
    roi = bundle.window.roi_size
    if any(size < 1 for size in roi):
        raise UserError(f"{bundle.root} has a window as large as the image: give its inferer a roi_size in voxels.")
    return (bundle.in_channels or 1, *(size for size in roi if len(roi) == 2 or size > 1))


def parity(bundle: InferenceBundle, window: tuple[int, ...], compute: Compute) -> tuple[float, float]:
    """The largest difference of logits, and the share of equal labels, on windows of smooth random texture."""
    random, differences, equal = np.random.default_rng(0), [], []
    for count in BATCHES:
        noise = random.normal(size=(count, *window)).astype(np.float32)
        smooth = ndimage.gaussian_filter(noise, (0, 0, *(4.0,) * (len(window) - 1)))
        windows = smooth / smooth.std() + 0.1 * noise  # a preprocessed image: regions, some noise, variance one
        with torch.no_grad():
            expected = bundle.network(torch.from_numpy(windows)).numpy()
        found = compute(windows)
        if found.shape != expected.shape:
            return float("inf"), 0.0
        differences.append(float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max())))
        ours, its = (class_masks(torch.from_numpy(logits), bundle.decision) for logits in (expected, found))
        equal.append(float((ours == its).all(1).float().mean()))
    return max(differences), min(equal)


def _contents(
    network: nn.Module, windows: torch.Tensor, bundle: InferenceBundle, format: ExportFormat, name: str
) -> bytes:
    try:
        return _WRITERS[format](network, windows, bundle, name)
    except OSError:
        raise
    except Exception as error:  # any of the exporter's own
        raise UserError(
            f"{bundle.root} cannot be exported as {format} ({line_of(error)}): take another --format."
        ) from error


def _write_torchscript(network: nn.Module, windows: torch.Tensor, bundle: InferenceBundle, name: str) -> bytes:
    # the names under which MONAI's ckpt_export keeps them, and under which MONAI Deploy looks for them
    extra = {f"{name}.json": text for name, text in _configurations(bundle).items()}
    traced = torch.jit.trace(network, windows, check_trace=False)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        # MONAI Deploy looks for the configurations under the file's own name, which torch gives to the archive's folder
        named = Path(folder) / name
        torch.jit.save(traced, str(named), _extra_files=extra)
        return named.read_bytes()


def _write_onnx(network: nn.Module, windows: torch.Tensor, bundle: InferenceBundle, name: str) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists the operations of torchvision, which is absent
    program = torch.onnx.export(
        network,
        (windows,),
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    program.model.metadata_props.update(_configurations(bundle))
    contents: bytes = program.model_proto.SerializeToString()
    return contents


def _configurations(bundle: InferenceBundle) -> dict[str, str]:
    """Name -> text of what a caller needs to know: labels and shapes, preprocessing and window."""
    files = {name: config_file(bundle.root, name) for name in ("metadata", "inference")}
    return {name: json.dumps(spelled_out(parse_config(path))) for name, path in files.items() if path}


def _open_torchscript(file: Path) -> Compute:
    network = torch.jit.load(str(file)).eval()  # type: ignore[no-untyped-call]

    def compute(windows: np.ndarray) -> np.ndarray:
        result: np.ndarray = network(torch.from_numpy(windows)).numpy()
        return result

    return compute


def open_onnx(file: Path) -> Compute:
    """What a file of ONNX computes, for any number of windows."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def compute(windows: np.ndarray) -> np.ndarray:
        result: np.ndarray = session.run(None, {"image": windows})[0]
        return result

    return compute


_WRITERS: dict[ExportFormat, Callable[[nn.Module, torch.Tensor, InferenceBundle, str], bytes]] = {
    "torchscript": _write_torchscript,
    "onnx": _write_onnx,
}
_OPENERS: dict[ExportFormat, Callable[[Path], Compute]] = {"torchscript": _open_torchscript, "onnx": open_onnx}
