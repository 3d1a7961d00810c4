"""A bundle's network as ONNX with eight-bit convolutions, and what that costs in Dice on labelled cases.

The ranges of the activations are read off windows that the network is given while it segments the cases in float32.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_transfer.bundle.reading import InferenceBundle
from monai_transfer.chatter import is_error
from monai_transfer.datasets import CaseDataset, read_dataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation.matching import label_dice
from monai_transfer.files import cannot_write, copy_file
from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.text import line_of
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading
from monai_transfer.workflows.exporting import export_bundle, open_onnx

LARGEST_LOSS = 0.01
"""Of the mean Dice: less than two trainings with different seeds differ by."""

_MOST_WINDOWS = 32
"""The ranges are the smallest and largest values in these windows; they are held in memory."""


@dataclass(frozen=True)
class Quantized:
    """A file that was written, and what it costs.

    Attributes:
        file: the file.
        window: channels and voxels of one window, as the file takes it behind the batch.
        cases: labelled cases on which both were scored.
        windows: of these cases, by which the ranges were set.
        dice: mean Dice of the network in float32, over cases and labels.
        dice_int8: of the file.
        labels: label -> mean Dice of both.
        equal_labels: share of voxels with the same label.
        size_ratio: bytes of the file for one of the float32 file.

    Example:
        >>> Quantized(Path("m.onnx"), (1, 64, 64, 64), 4, 32, 0.81, 0.806, {}, 0.999, 0.6).loss
        0.004
    """

    file: Path
    window: tuple[int, ...]
    cases: int
    windows: int
    dice: float
    dice_int8: float
    labels: dict[str, tuple[float, float]]
    equal_labels: float
    size_ratio: float

    @property
    def loss(self) -> float:
        """What the mean Dice falls by."""
        return round(self.dice - self.dice_int8, 6)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        labels = {name: {"dice": dice, "dice_int8": int8} for name, (dice, int8) in self.labels.items()}
        return asdict(self) | {"file": str(self.file), "window": list(self.window), "labels": labels, "loss": self.loss}


def export_int8(
    bundle: str | Path,
    data: str | Path,
    *,
    output: str | Path | None = None,
    largest_loss: float = LARGEST_LOSS,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    force: bool = False,
    trust: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Quantized:
    """Write the network of a bundle as ONNX with eight-bit convolutions, unless that costs too much Dice.

    Post-training static quantisation by ONNX Runtime, weights by channel, activations by layer (arXiv 1712.05877).

    Args:
        bundle: the bundle's folder.
        data: labelled cases, which set the ranges of the activations and on which both networks are scored.
        output: the file; by default ``models/model_int8.onnx`` of the bundle.
        largest_loss: of the mean Dice, above which nothing is written.
        reading: how strictly the cases are read.
        force: write it all the same.
        trust: let a bundle that was not made here run whatever code it names.
        say: called with the name of each case.

    Raises:
        UserError: a package or labelled cases are missing, network or labels do not allow it, or it costs too much.
    """
    dataset = read_dataset(data, reading=reading).labelled
    if not dataset.cases:
        raise UserError(f"{data} has no labelled cases: give --calibrate a data set with images and labels.")
    with tempfile.TemporaryDirectory() as folder:
        exact, small = Path(folder, "exact.onnx"), Path(folder, "int8.onnx")
        exported = export_bundle(bundle, format="onnx", output=exact, trust=trust)
        options = SegmentOptions(runtime="torch", reading=dataset.reading)
        segmenter = Segmenter.from_bundle(bundle, device="cpu", options=options, trust=trust)
        read = segmenter.bundle
        if not read.decision.exclusive:
            raise UserError(f"{read.root} has labels that overlap: --int8 is for labels that exclude each other.")
        with _windows_of(read.network) as windows:
            before = _segmented(segmenter, dataset, say=say)
        with _in_one_sentence(read):
            _quantize(exact, small, windows, {name for name, _ in read.network.named_buffers()})
            after = _segmented(
                Segmenter([replace(read, network=_Graph(small))], device="cpu", options=options), dataset
            )
        target = Path(output).expanduser() if output else read.root / "models" / "model_int8.onnx"
        measured = {**_compared(before, after), "size_ratio": small.stat().st_size / exact.stat().st_size}
        found = Quantized(target, exported.window, len(before), len(windows), **measured)
        if found.loss > largest_loss and not force:
            raise UserError(
                f"{read.root} was not exported: in eight bits its mean Dice on {found.cases} case(s) of {data} falls "
                f"from {found.dice:.3f} to {found.dice_int8:.3f}, by more than {largest_loss:g}; --force keeps it."
            )
        try:
            copy_file(small, target)
        except OSError as error:
            raise cannot_write(target, error) from error
    return found


class _Graph(nn.Module):
    """A file of ONNX in the place of a network."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.compute = open_onnx(file)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows (B, C_in, *roi) -> logits (B, C, *roi)."""
        return torch.from_numpy(self.compute(windows.contiguous().numpy()))


@dataclass(frozen=True)
class _Result:
    """Of a case: its label map, and label -> Dice."""

    labels: np.ndarray
    dice: dict[str, float]


@contextmanager
def _windows_of(network: nn.Module) -> Iterator[list[np.ndarray]]:
    """Some of the windows, (1, C_in, *roi), that a network is given in the block, from its beginning to its end."""
    kept: list[np.ndarray] = []
    random, seen = np.random.default_rng(0), 0

    def keep(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        for window in given[0]:
            # reservoir sampling: each window stays with the same chance, however many will come
            place = len(kept) if len(kept) < _MOST_WINDOWS else int(random.integers(seen + 1))
            seen += 1
            if place < _MOST_WINDOWS:
                kept[place : place + 1] = [window[None].contiguous().numpy().copy()]

    hook = network.register_forward_pre_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def _segmented(
    segmenter: Segmenter, dataset: CaseDataset, *, say: Callable[[str], None] = lambda message: None
) -> list[_Result]:
    results = []
    for case in dataset.cases:
        say(case.name)
        assert case.label is not None  # labelled cases only
        volume = read_volume(case.images, reading=dataset.reading)
        labels = segmenter.segment(volume).labels
        dice = label_dice(labels, case.label, volume, segmenter.label_names, reading=dataset.reading)
        results.append(_Result(labels, {name: value for name, value in dice.items() if name != "background"}))
    return results


def _quantize(exact: Path, small: Path, windows: Sequence[np.ndarray], fixed: AbstractSet[str]) -> None:
    """Kernels of the names ``fixed``, which measure and were not learnt, stay in float32."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.coming = iter(windows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            window = next(self.coming, None)
            return None if window is None else {"image": window}

    prepared = exact.with_name("prepared.onnx")
    quant_pre_process(str(exact), str(prepared), skip_symbolic_shape=True)
    nodes = onnx.load(str(prepared)).graph.node
    quantize_static(
        str(prepared),
        str(small),
        Reader(),
        nodes_to_exclude=[node.name for node in nodes if not fixed.isdisjoint(node.input)],
        op_types_to_quantize=["Conv"],  # others have no eight-bit kernel of their own, and gain conversions alone
        per_channel=True,
        # Weights of seven bits: without VNNI a processor adds two products in sixteen bits, which eight overflow.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(str(small))
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(str(exact)).metadata_props)
    onnx.save(model, str(small))


@contextmanager
def _in_one_sentence(bundle: InferenceBundle) -> Iterator[None]:
    """What ONNX Runtime says of a graph that it cannot quantise, as a sentence; its advice is not for users."""
    logging.getLogger().addFilter(is_error)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # any of ONNX Runtime's own
        raise UserError(f"{bundle.root} cannot be quantised ({line_of(error)}): omit --int8.") from error
    finally:
        logging.getLogger().removeFilter(is_error)


def _compared(before: Sequence[_Result], after: Sequence[_Result]) -> dict[str, Any]:
    """Both results on the same cases, as :class:`Quantized` has them."""
    names = dict.fromkeys(name for result in (*before, *after) for name in result.dice)
    if not names:
        raise UserError("No label of the cases is one of the bundle's: give --calibrate cases with its label values.")

    def mean(results: Sequence[_Result], name: str) -> float:
        return float(np.mean([result.dice[name] for result in results if name in result.dice]))

    labels = {name: (mean(before, name), mean(after, name)) for name in names}
    dice, dice_int8 = (float(np.mean([each[side] for each in labels.values()])) for side in (0, 1))
    equal = np.mean([(a.labels == b.labels).mean() for a, b in zip(before, after, strict=True)])
    return {"dice": dice, "dice_int8": dice_int8, "labels": labels, "equal_labels": float(equal)}
