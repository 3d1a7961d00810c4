"""What was loaded: a record per tensor, a short table, and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from monai_transfer.files import write_text

Status = Literal["matched", "adapted", "skipped", "missing"]
STATUSES: tuple[Status, ...] = ("matched", "adapted", "skipped", "missing")


@dataclass(frozen=True)
class TensorRecord:
    """What became of one tensor.

    Attributes:
        name: the network's name, or the file's where the network has no such tensor.
        status: ``matched`` (copied), ``adapted`` (copied after surgery), ``skipped`` (in the file, not used) or
            ``missing`` (in the network, keeps its fresh values).
        level: the network's level it belongs to, ``""`` for a tensor of the file alone.
        source: the file's name for it, if any.
        shape: in the network, or in the file where only the file has it.
        source_shape: in the file.
        detail: how it was adapted, or why it was skipped.
        elements: number of values.

    Example:
        >>> record = TensorRecord("conv.weight", "adapted", "stem", "conv1", (4, 1), (4, 3), "3 to 1 channels", 4)
        >>> record.status, record.detail
        ('adapted', '3 to 1 channels')
    """

    name: str
    status: Status
    level: str
    source: str | None
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None
    detail: str
    elements: int


@dataclass(frozen=True)
class LoadReport:
    """Result of :func:`load_pretrained`.

    Attributes:
        spec: what was asked for.
        path: the file that was read.
        sha256: of that file.
        layout: what the file looks like.
        records: one per tensor.
        encoder: names of the network's encoder levels.
        notes: sentences that the user should read.

    Example:
        >>> record = TensorRecord("conv.weight", "matched", "stem", "conv1.weight", (4, 1, 3), (4, 1, 3), "", 12)
        >>> lost = TensorRecord("deep.weight", "missing", "level1", None, (4, 1, 3), None, "not in the file", 12)
        >>> report = LoadReport("weights.pt", "weights.pt", "", "a ResNet", (record, lost), ("stem", "level1"))
        >>> report.encoder_share, report.loaded_names
        (0.5, ('conv.weight',))
    """

    spec: str
    path: str
    sha256: str
    layout: str
    records: tuple[TensorRecord, ...]
    encoder: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def with_status(self, status: Status) -> tuple[TensorRecord, ...]:
        """Return the records of one status."""
        return tuple(record for record in self.records if record.status == status)

    @property
    def matched(self) -> tuple[TensorRecord, ...]:
        """Tensors copied as they are."""
        return self.with_status("matched")

    @property
    def adapted(self) -> tuple[TensorRecord, ...]:
        """Tensors copied after surgery."""
        return self.with_status("adapted")

    @property
    def skipped(self) -> tuple[TensorRecord, ...]:
        """Tensors of the file that were not used."""
        return self.with_status("skipped")

    @property
    def missing(self) -> tuple[TensorRecord, ...]:
        """Tensors of the network that the file does not have."""
        return self.with_status("missing")

    @property
    def loaded_names(self) -> tuple[str, ...]:
        """The network's names of all tensors that came from the file."""
        return tuple(record.name for record in (*self.matched, *self.adapted))

    @property
    def encoder_share(self) -> float:
        """Share of the encoder's values that came from the file, 0 to 1."""
        return self.share(self.encoder)

    def share(self, levels: Sequence[str]) -> float:
        """Share of the values of ``levels`` that came from the file, 0 to 1."""
        records = [record for record in self.records if record.level in levels]
        total = sum(record.elements for record in records)
        loaded = sum(record.elements for record in records if record.status in ("matched", "adapted"))
        return loaded / total if total else 0.0

    @property
    def levels(self) -> tuple[str, ...]:
        """The network's levels in order."""
        return tuple(dict.fromkeys(record.level for record in self.records if record.level))

    def counts(self, level: str) -> Mapping[Status, int]:
        """Number of tensors of each status at one level."""
        return {
            status: sum(record.level == level and record.status == status for record in self.records)
            for status in STATUSES
        }

    def summary(self) -> str:
        """One sentence."""
        return (
            f"{self.spec}: {len(self.matched)} tensors matched, {len(self.adapted)} adapted, {len(self.skipped)} "
            f"skipped, {len(self.missing)} missing; {self.encoder_share:.1%} of the encoder is covered."
        )

    def table(self) -> Table:
        """A short table for rich, a row per level; :meth:`remarks` says how and why."""
        table = Table(title=Text(f"{self.spec}: {self.layout}"), title_justify="left")
        for column in ("level", *STATUSES, "covered"):
            table.add_column(column, justify="left" if column == "level" else "right")
        for level in self.levels:
            counts = self.counts(level)
            numbers = [str(counts[status] or "") for status in STATUSES]
            table.add_row(level, *numbers, f"{self.share([level]):.1%}", end_section=level == self.encoder[-1])
        table.add_row("encoder", "", "", "", "", f"{self.encoder_share:.1%}", style="bold")
        return table

    def remarks(self) -> list[str]:
        """Sentences under the table: how tensors were adapted, why others were skipped, what the encoder lacks."""
        remarks = list(self.notes)
        for status in ("adapted", "skipped"):
            reasons: dict[str, list[str]] = {}
            for record in self.records:
                if record.status == status:
                    reasons.setdefault(record.detail, []).append(record.name)
            for reason, names in reasons.items():
                shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
                remarks.append(f"{status}, {reason}: {shown}")
        encoder = [record.name for record in self.missing if record.level in self.encoder]
        if encoder:
            remarks.append(f"missing in the encoder: {', '.join(encoder[:4])}{', …' if len(encoder) > 4 else ''}")
        return remarks

    def write_json(self, path: str | Path) -> None:
        """Write :meth:`as_dict` to a file, whole or not at all."""
        write_text(Path(path), json.dumps(self.as_dict(), indent=2) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, for a bundle or ``--json``."""
        return {
            "spec": self.spec,
            "path": self.path,
            "sha256": self.sha256,
            "layout": self.layout,
            "encoder_share": self.encoder_share,
            "counts": {status: len(self.with_status(status)) for status in STATUSES},
            "levels": {level: {**self.counts(level), "share": self.share([level])} for level in self.levels},
            "notes": list(self.notes),
            "tensors": [asdict(record) for record in self.records],
        }
