"""A network converted for another runtime, once, and kept in the user's cache.

OpenVINO and ONNX Runtime compute the same network from a graph of their own format. Making it takes seconds and is done
once per weights, window shape and version; the folder that it lies in is named after all of these, so a changed bundle
is converted anew. Before a conversion is kept it has to give the logits of PyTorch on random windows.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.files import sweep, temporary_beside
from monai_transfer.inference.mapped import give_memory_back, let_pages_go
from monai_transfer.networks.shortcuts import exportable
from monai_transfer.options import Runtime
from monai_transfer.text import line_of
from monai_transfer.weights.fetching import cache_folder

PACKAGES: dict[Runtime, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
"""Runtime -> the package that computes."""

_FILES: dict[Runtime, str] = {"openvino": "network.xml", "onnx": "network.onnx"}

_LARGEST_DIFFERENCE = 1e-3
"""Between the logits of both sides, as a share of the largest. Float32 sums in another order differ by 1e-6 to 1e-5; an
operation that is converted wrongly differs by tenths."""

Compute = Callable[[np.ndarray], np.ndarray]
"""A window (1, C_in, *roi), float32 -> its logits (1, C, *roi)."""


class ConversionError(Exception):
    """A network cannot be run by another runtime; the message says why."""


def is_installed(runtime: Runtime) -> bool:
    """Whether the package of a runtime is there; ``torch`` always is."""
    return runtime not in PACKAGES or importlib.util.find_spec(PACKAGES[runtime]) is not None


def require_installed(runtime: Runtime) -> None:
    """See that a runtime can be used.

    Raises:
        UserError: its package is missing.
    """
    if not is_installed(runtime):
        raise UserError(
            f"--runtime {runtime} needs the package {PACKAGES[runtime]}: pip install 'monai-transfer[{runtime}]', or "
            "choose --runtime torch."
        )


class ConvertedNetwork:
    """A network that another runtime computes, for windows of one shape.

    Args:
        network: the network in PyTorch, in evaluation mode on the CPU.
        shape: of one window, (C_in, *roi).
        runtime: ``"openvino"`` or ``"onnx"``.
        threads: cores that it may use.
        bfloat16: let OpenVINO compute in bfloat16.

    Raises:
        ConversionError: the network cannot be converted, or gives other logits.
    """

    def __init__(
        self, network: nn.Module, shape: Sequence[int], *, runtime: Runtime, threads: int, bfloat16: bool = False
    ) -> None:
        try:
            file = _cached(network, tuple(shape), runtime)
            self.compute = _OPENERS[runtime](file, threads, bfloat16)
            let_pages_go(file.parent)  # the runtime has packed the weights anew
            give_memory_back()
        except Exception as error:  # any of torch's, the exporter's or the runtime's own
            if isinstance(error, ConversionError):
                raise
            raise ConversionError(f"{type(error).__name__}: {line_of(error)}") from error

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows (B, C_in, *roi) -> logits (B, C, *roi), one window after another: a graph has one shape."""
        parts = [torch.from_numpy(self.compute(_array(window[None]))) for window in windows]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _array(window: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(window.detach().numpy(), dtype=np.float32)


def runtimes_folder() -> Path:
    """Where converted networks are kept."""
    return cache_folder().parent / "runtimes"


def _cached(network: nn.Module, shape: tuple[int, ...], runtime: Runtime) -> Path:
    """The converted network in the user's cache, made where it is not there yet."""
    folder = runtimes_folder() / _key(network, shape, runtime)
    file = folder / _FILES[runtime]
    if file.is_file():
        return file
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        making = temporary_beside(folder)
        making.mkdir()
    except OSError as error:
        raise ConversionError(f"{folder.parent} cannot be written: set MONAI_TRANSFER_CACHE") from error
    try:
        _convert(network, shape, runtime, making / _FILES[runtime])
        with suppress(OSError):  # another process may have been first
            making.rename(folder)
        if not file.is_file():
            raise ConversionError(f"{folder} cannot be written: set MONAI_TRANSFER_CACHE")
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return file


def _key(network: nn.Module, shape: tuple[int, ...], runtime: Runtime) -> str:
    """A digest of all that the conversion depends on: architecture, weights, shape and versions."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    versions = [
        importlib.metadata.version(package) for package in ("torch", "monai", "monai-transfer", PACKAGES[runtime])
    ]
    digest.update(f"{runtime} {shape} {versions} folded".encode())
    return digest.hexdigest()[:32]


def _convert(network: nn.Module, shape: tuple[int, ...], runtime: Runtime, file: Path) -> None:
    """Write the converted network, after its logits were compared with those of PyTorch.

    Raises:
        ConversionError: they differ.
    """
    window = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing and exporting speak of Python values and of their own deprecations
        expected = network(window)
        if not isinstance(expected, torch.Tensor):
            raise ConversionError(f"it returns {type(expected).__name__} and not a tensor")
        _WRITERS[runtime](exportable(network), window, file)
        give_memory_back()  # the copies that an exporter makes, before the file is opened
        found = _OPENERS[runtime](file, torch.get_num_threads(), False)(_array(window))
    largest = float(expected.abs().max())
    difference = float((torch.from_numpy(found) - expected).abs().max())
    if not difference <= _LARGEST_DIFFERENCE * max(largest, 1e-6):
        raise ConversionError(f"its logits differ by {difference:.2g} from those of PyTorch, which reach {largest:.2g}")


def _write_openvino(network: nn.Module, window: torch.Tensor, file: Path) -> None:
    import openvino
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The frontend itself: openvino.convert_model around it reports each conversion to its makers over the network, and
    # silences the root logger where a conversion fails.
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(network, example_input=window)  # the frontend keeps no reference to it
    model = frontend.convert(frontend.load(decoder))
    place = model.inputs[0].get_node()
    place.set_element_type(openvino.Type.f32)
    place.set_partial_shape(openvino.PartialShape(list(window.shape)))  # one shape: plans for any are slower
    model.validate_nodes_and_infer_types()
    # normalisation becomes part of the weights here, and not in a further copy of them whenever the file is opened
    apply_moc_transformations(model, cf=True, smart_reshape=False)
    openvino.save_model(model, str(file), compress_to_fp16=False)


def _write_onnx(network: nn.Module, window: torch.Tensor, file: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists the operations of torchvision, which is absent
    torch.onnx.export(network, (window,), str(file), dynamo=True, external_data=True, verbose=False)


def _open_openvino(file: Path, threads: int, bfloat16: bool) -> Compute:
    import openvino

    core = openvino.Core()
    with _signal_stack_kept():
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # loads the plugin
    if bfloat16 and not capable:
        raise ConversionError("this processor has no bfloat16 for OpenVINO")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,  # one window at a time on all cores: two at a time would need twice the memory
        "ENABLE_CPU_PINNING": False,  # on a shared machine the core that a thread is bound to may be busy
    }
    core.set_property({"ENABLE_MMAP": True})  # pages of the file can be let go once the plugin has packed the weights
    compiled = core.compile_model(str(file), "CPU", settings)
    request = compiled.create_infer_request()
    shape = tuple(compiled.output(0).shape)
    last: list[Any] = []  # the array of the last result, and how often it is held when nobody else looks at it

    def compute(window: np.ndarray) -> np.ndarray:
        # results go where the last one was, but if somebody still looks at it to a place of their own
        if not last or sys.getrefcount(last[0]) > last[1]:
            last[:] = [np.empty(shape, np.float32)]
            request.set_output_tensor(openvino.Tensor(last[0], shared_memory=True))
            last.append(sys.getrefcount(last[0]))
        request.infer([window], share_inputs=True, share_outputs=True)
        result: np.ndarray = last[0]
        return result

    return compute


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Leave this thread the stack on which it takes signals.

    OpenVINO's plugin gives the thread another one while it is loaded, once for each core; when it goes it frees that
    one and puts back the one that it found. Of two that go in the order in which they came, the second puts back what
    the first has freed, and the next signal, such as Ctrl-C, is a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    system, found = ctypes.CDLL(None), _SignalStack()
    system.sigaltstack(None, ctypes.byref(found))
    try:
        yield
    finally:
        system.sigaltstack(ctypes.byref(found), None)


def _open_onnx(file: Path, threads: int, bfloat16: bool) -> Compute:
    import onnxruntime

    if bfloat16:
        raise ConversionError("ONNX Runtime computes in float32 here")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    # threads that spin while they wait take the cores of everything else that runs
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def compute(window: np.ndarray) -> np.ndarray:
        result: np.ndarray = session.run(None, {name: window})[0]
        return result

    return compute


_WRITERS: dict[Runtime, Callable[[nn.Module, torch.Tensor, Path], None]] = {
    "openvino": _write_openvino,
    "onnx": _write_onnx,
}
_OPENERS: dict[Runtime, Callable[[Path, int, bool], Compute]] = {"openvino": _open_openvino, "onnx": _open_onnx}
