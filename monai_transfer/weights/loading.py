"""Start a network from pretrained weights, and say exactly what was loaded."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.files import sha256
from monai_transfer.networks.levels import HEAD, bare, encoder_levels
from monai_transfer.weights import surgery
from monai_transfer.weights.checkpoint import Checkpoint, read_checkpoint
from monai_transfer.weights.fetching import locate
from monai_transfer.weights.layout import Layout, recognise
from monai_transfer.weights.matching import COUNTER, Destination, pair_tensors, surgery_for
from monai_transfer.weights.report import LoadReport, Status, TensorRecord

logger = logging.getLogger(__name__)

_Fitted = tuple[Tensor | None, Status, str]
_ABSENT: _Fitted = (None, "missing", "not in the file")


@dataclass(frozen=True)
class SurgeryRules:
    """How tensors are fitted; see :mod:`monai_transfer.weights.surgery`.

    Attributes:
        inflation: 2D kernels in a 3D network, ``mean`` or ``center``.
        axis: the spatial axis that a 2D kernel lacks; the last is the slice axis of a RAS volume.
        channels: first convolution with another number of input channels, ``sum``, ``mean`` or ``replicate``.
        label_names: class names of the network by index, for copying rows of the head by name.
    """

    inflation: surgery.Inflation = "mean"
    axis: int = -1
    channels: surgery.ChannelRule = "sum"
    label_names: Mapping[int, str] | None = None


def load_pretrained(
    network: nn.Module,
    spec: str | Path,
    *,
    minimum: float = 0.9,
    inflation: surgery.Inflation = "mean",
    axis: int = -1,
    channels: surgery.ChannelRule = "sum",
    label_names: Mapping[int, str] | None = None,
    cache: str | Path | None = None,
    dry_run: bool = False,
) -> LoadReport:
    """Copy pretrained weights into ``network`` and report what became of every tensor.

    Nothing is changed unless at least ``minimum`` of the encoder's values are covered.

    Args:
        network: any network; see :func:`network_levels` for those whose encoder is known.
        spec: ``medicalnet:resnet18``, ``imagenet:resnet50``, ``hf:OWNER/REPO/FILE``, a file or a bundle folder.
        minimum: smallest share of the encoder that must be covered, 0 to 1.
        inflation: how 2D kernels become 3D, ``mean`` or ``center``.
        axis: the spatial axis that a 2D kernel lacks.
        channels: how the first convolution takes another number of input channels, ``sum``, ``mean``, ``replicate``.
        label_names: class names of the network by index; where the file's bundle names its classes too, the head's
            rows are copied by name.
        cache: folder for fetched files; by default that of :func:`cache_folder`.
        dry_run: report only, change nothing and raise nothing over ``minimum``.

    Returns:
        The report; ``report.table()`` prints, ``report.as_dict()`` is JSON.

    Raises:
        UserError: the file cannot be had or read, holds values that are not finite, or covers too little.
    """
    path = locate(spec, cache=cache)
    checkpoint = read_checkpoint(path)
    names = {int(index): name for index, name in label_names.items()} if label_names else None
    rules = SurgeryRules(inflation=inflation, axis=axis, channels=channels, label_names=names)
    state, report = plan(network, checkpoint, spec=str(spec), rules=rules)
    if dry_run:
        return report
    if report.encoder_share < minimum:
        raise UserError(_too_little(network, report, minimum))
    # all checks come before the first copy: a refused file leaves the network untouched
    _check_finite(state, checkpoint)
    with torch.no_grad():
        own = bare(network).state_dict(keep_vars=True)
        for name, tensor in state.items():
            own[name].copy_(tensor)
    logger.info(report.summary())
    return report


def plan(
    network: nn.Module, checkpoint: Checkpoint, *, spec: str, rules: SurgeryRules
) -> tuple[dict[str, Tensor], LoadReport]:
    """Work out the new tensors and the report without touching ``network``."""
    destination = Destination.of(network)
    layout = recognise(checkpoint.tensors)
    pairs = pair_tensors(checkpoint.tensors, destination, layout, network, axis=rules.axis)
    state: dict[str, Tensor] = {}
    records = []
    for name, tensor in destination.tensors.items():
        source = pairs.get(name)
        if source is None and (name.endswith(COUNTER) or name in destination.constants):
            continue
        fitted, status, detail = _ABSENT
        if source is not None:
            fitted, status, detail = _fit(name, checkpoint, source, destination, rules)
        if fitted is not None:
            state[name] = fitted
        records.append(
            TensorRecord(
                name=name,
                status=status,
                level=destination.level_of[name],
                source=source,
                shape=tuple(tensor.shape),
                source_shape=tuple(checkpoint.tensors[source].shape) if source else None,
                detail=detail,
                elements=0 if name.endswith(COUNTER) else tensor.numel(),
            )
        )
    records += _unused(checkpoint, set(pairs.values()))
    report = LoadReport(
        spec=spec,
        path=str(checkpoint.path),
        sha256=sha256(checkpoint.path),
        layout=layout.description,
        records=tuple(records),
        encoder=encoder_levels(network),
        notes=(*_origin_note(checkpoint), *_notes(layout, network, records)),
    )
    return state, report


def _fit(name: str, checkpoint: Checkpoint, source: str, destination: Destination, rules: SurgeryRules) -> _Fitted:
    """Return the fitted tensor, its status and how or why not."""
    tensor, fresh = checkpoint.tensors[source], destination.tensors[name]
    steps = surgery_for(name, tuple(tensor.shape), destination, axis=rules.axis)
    if steps is None:
        return None, "skipped", f"shape {tuple(tensor.shape)} in the file, {tuple(fresh.shape)} in the network"
    details = []
    if "inflate" in steps:
        size = fresh.shape[2:][rules.axis]
        tensor = surgery.inflate(tensor, size, rule=rules.inflation, axis=rules.axis)
        details.append(f"2D kernels inflated to 3D ({rules.inflation})")
    if "channels" in steps:
        channels = fresh.shape[1] - destination.beside
        if channels != tensor.shape[1]:
            details.append(f"{tensor.shape[1]} to {channels} input channels ({rules.channels})")
            tensor = surgery.adapt_input_channels(tensor, channels, rule=rules.channels)
        if destination.beside:
            details.append(f"{destination.beside} input channels that count for nothing yet")
            tensor = torch.cat([tensor, tensor.new_zeros(len(tensor), destination.beside, *tensor.shape[2:])], dim=1)
    if destination.level_of[name] == HEAD and (classes := _copied_by_name(checkpoint, rules, steps)):
        dimensions = destination.class_dimensions(name, len(classes))
        if dimensions:
            tensor, copied = surgery.copy_classes(
                fresh, tensor, fresh_names=classes, names=checkpoint.label_names, dimensions=dimensions
            )
            details.append(f"rows of {', '.join(copied)}" if copied else "no class has the same name")
            if not copied:
                return None, "skipped", details[-1]
    elif "classes" in steps:
        return None, "skipped", "another number of classes, and not both sides name theirs"
    if tuple(tensor.shape) != tuple(fresh.shape):
        return None, "skipped", f"shape {tuple(checkpoint.tensors[source].shape)} does not fit {tuple(fresh.shape)}"
    return tensor.to(fresh.dtype), "adapted" if details else "matched", ", ".join(details)


def _copied_by_name(checkpoint: Checkpoint, rules: SurgeryRules, steps: tuple[str, ...]) -> Mapping[int, str] | None:
    """Class names of the network where the head's rows must be copied by name."""
    if not rules.label_names or not checkpoint.label_names:
        return None
    same = dict(rules.label_names) == dict(checkpoint.label_names)
    return None if same and "classes" not in steps else rules.label_names


def _unused(checkpoint: Checkpoint, used: set[str]) -> list[TensorRecord]:
    return [
        TensorRecord(
            name=name,
            status="skipped",
            level="",
            source=name,
            shape=tuple(tensor.shape),
            source_shape=tuple(tensor.shape),
            detail="the network has no such tensor",
            elements=tensor.numel(),
        )
        for name, tensor in checkpoint.tensors.items()
        if name not in used and not name.endswith(COUNTER)
    ]


def _origin_note(checkpoint: Checkpoint) -> tuple[str, ...]:
    return (f"Pretrained on {checkpoint.origin}.",) if checkpoint.origin else ()


def _notes(layout: Layout, network: nn.Module, records: list[TensorRecord]) -> tuple[str, ...]:
    notes = []
    backbone = getattr(bare(network), "backbone", "")
    if layout.backbone and backbone and layout.backbone != backbone:
        notes.append(f"The file is {layout.description}, the network's encoder is {backbone}.")
    shortcuts = [record for record in records if not record.level and ".downsample." in record.name]
    if shortcuts and layout.kind == "resnet":
        notes.append(
            f"MONAI's {backbone or 'ResNet'} pads its shortcuts with zeros: the file's convolutions there are unused."
        )
    return tuple(notes)


def _check_finite(state: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{checkpoint.path} holds values that are not finite (in {name}): take another checkpoint.")


def _too_little(network: nn.Module, report: LoadReport, minimum: float) -> str:
    network = bare(network)
    own = recognise(network.state_dict())
    described = own.description if own.kind != "unknown" else type(network).__name__
    missing = [record.name for record in report.missing if record.level in report.encoder]
    lacking = f"; missing are {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}" if missing else ""
    backbone = getattr(network, "backbone", "")
    remedy = f"give weights of {backbone}" if backbone else "give weights of the same network"
    return (
        f"{report.spec} covers {report.encoder_share:.0%} of the encoder and {minimum:.0%} is asked for: the file "
        f"looks like {report.layout}, the network is {described}{lacking}; {remedy}, or lower the minimum."
    )
