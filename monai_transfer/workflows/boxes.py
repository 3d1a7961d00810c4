"""The domains of an adaptation cut down to boxes around their labels, to be learnt on a finer grid."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monai_transfer.bundle.folder import require_free
from monai_transfer.bundle.request import LABELLED_TARGET, Domains
from monai_transfer.datasets import Case, CaseDataset, Fingerprint, read_dataset, require_sound
from monai_transfer.datasets.writing import write_description
from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write, require_folder, sweep, temporary_beside, write_text
from monai_transfer.inference.boxes import box_found, box_of, in_all
from monai_transfer.inference.segmentation import SegmentOptions
from monai_transfer.inference.segmenter import Segmenter
from monai_transfer.volumes.reading import read_volume, write_volume
from monai_transfer.volumes.volume import Reading

_RECORD = "boxes.json"
"""Lies in a folder of boxes, and says that it may be made anew."""

_NOTE = (
    "All networks learn, and look, in the box around what {} finds, of which models/finder is a copy; without this "
    "package they look at whole volumes."
)

_SOURCE, _TARGET = "source", "target"

Say = Callable[[str], None]


def boxes_beside(output: str | Path) -> Path:
    """The folder of the boxes that a bundle learns from."""
    place = Path(output).expanduser().resolve()
    return place.with_name(f"{place.name}_boxes")


def within_boxes(
    domains: Domains,
    finder: str | Path,
    output: str | Path,
    *,
    device: str = "auto",
    trust: bool = False,
    overwrite: bool = False,
    say: Say = lambda message: None,
) -> Domains:
    """Cut every training case down to the box around its labels, see :mod:`monai_transfer.inference.boxes`.

    In labelled cases the labels are those that were drawn; in cases of the target those that the finder draws, whatever
    labels there are. A case in which it misses one stays whole. The boxes become data sets beside the bundle that is
    to learn from them (:func:`boxes_beside`); the test cases stay as they are, for the bundle finds their boxes itself.

    Args:
        domains: the cases.
        finder: a trained bundle of the same channels, that draws every label of the source.
        output: the bundle that will learn from the boxes.
        device: where the finder runs.
        trust: let a foreign finder run whatever code it names.
        overwrite: whether boxes of an earlier call may be replaced.
        say: called with a sentence on each data set.

    Raises:
        UserError: a case has a fault, the finder lacks a label or takes other channels, or the boxes cannot be written.
    """
    place = _require_place(boxes_beside(output), overwrite=overwrite)
    known = {name: require_sound(cases, labelled=name != _TARGET) for name, cases in _parts(domains)}
    values = domains.source.names_for(known[_SOURCE].label_values)
    options = SegmentOptions(reading=domains.target.reading)
    boxes = _Boxes(
        Segmenter.from_bundle(finder, device=device, options=options, trust=trust),
        [name for value, name in values.items() if value],
    )
    boxes.require_suited(domains.source)
    building = temporary_beside(place)
    try:
        for name, cases in _parts(domains):
            share = boxes.write(cases, building / name, known[name], drawn=name != _TARGET)
            say(f"Boxes of {len(cases)} {name.replace('_', ' ')} cases: {share:.0%} of their voxels")
        write_text(building / _RECORD, json.dumps({"finder": str(boxes.finder.bundle.root)}) + "\n")
        shutil.rmtree(place, ignore_errors=True)
        building.rename(place)
    except OSError as error:
        raise cannot_write(place, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    cut = {name: read_dataset(place / name) for name, _ in _parts(domains)}
    return replace(
        domains,
        notes=(*domains.notes, _NOTE.format(boxes.finder.bundle.root)),
        source=cut[_SOURCE],
        target=cut[_TARGET],
        further_sources=tuple(cut[name] for name in domains.further if name != LABELLED_TARGET),
        labelled_target=cut.get(LABELLED_TARGET),
        finder=boxes.finder.bundle.root,
    )


def _require_place(place: Path, *, overwrite: bool) -> Path:
    """See that boxes can be written there, which takes the place of none but other boxes."""
    if place.is_dir() and any(place.iterdir()) and not (place / _RECORD).is_file():
        raise UserError(f"{place} would hold the boxes, and holds something else: choose another --output.")
    require_free(place, overwrite=overwrite)
    require_folder(place.parent)
    sweep(place.parent)
    return place


def _parts(domains: Domains) -> Iterator[tuple[str, CaseDataset]]:
    yield _SOURCE, domains.source
    yield from domains.further.items()
    yield _TARGET, domains.target


def _modalities(cases: CaseDataset, known: Fingerprint) -> Sequence[str]:
    """What the channels are called; a box may hold no air, by which a CT is told."""
    first, *others = cases.channel_names
    return [known.modality.upper() if not others or known.modality == "ct" else first, *others]


@dataclass(frozen=True)
class _Boxes:
    """Cuts boxes.

    Attributes:
        finder: draws labels.
        wanted: names of the labels that boxes are around.
    """

    finder: Segmenter
    wanted: Sequence[str]

    def require_suited(self, source: CaseDataset) -> None:
        """See that the finder takes the channels of the source, and draws all of its labels.

        Raises:
            UserError: it takes others, or lacks a label.
        """
        bundle, channels = self.finder.bundle, len(source.channel_names)
        if bundle.in_channels not in (None, channels):
            raise UserError(
                f"{bundle.root} takes {bundle.in_channels} channel(s) where {source.root} has {channels}: give "
                "--within a bundle of the same channels."
            )
        if missing := sorted(set(self.wanted) - set(self.finder.label_names.values())):
            raise UserError(
                f"{bundle.root} draws no {missing[0]!r}, which {source.root} has: give --within a bundle of the "
                "same labels."
            )

    def write(self, cases: CaseDataset, root: Path, known: Fingerprint, *, drawn: bool) -> float:
        """Write the boxes of one data set; the share of its voxels that they hold.

        Args:
            cases: the whole volumes.
            root: the data set to make.
            known: of the whole volumes.
            drawn: whether the boxes are those of the labels that the cases have.
        """
        sizes = np.array([self._write_case(case, cases.reading, root, drawn=drawn) for case in cases.cases])
        write_description(
            root,
            name=f"boxes of {cases.root.name}",
            text="Boxes around the labels of whole volumes.",
            modalities=_modalities(cases, known),
            label_names=cases.names_for(known.label_values),
        )
        kept, whole = sizes.sum(axis=0)
        return float(kept / whole)

    def _write_case(self, case: Case, reading: Reading, root: Path, *, drawn: bool) -> tuple[int, int]:
        """Write the box of one case; its voxels, and those of the whole volume."""
        image = read_volume(case.images, reading=reading)
        label = None if case.label is None else read_volume(case.label, reading=reading)
        if drawn and label is not None:
            values = label.array[0]
            box = box_of((values == value for value in np.unique(values) if value), image.affine) or in_all(image)[0]
        else:
            box = box_found(self.finder.segment(image), self.wanted)
        part = image.cropped(box)
        # the channels behind each other in one file, as the Decathlon has them
        voxels = part.array[0] if len(part.array) == 1 else np.moveaxis(part.array, 0, -1)
        write_volume(voxels, root / "images" / f"{case.name}.nii.gz", affine=part.affine)
        if label is not None:
            inner = label.cropped(box)
            write_volume(inner.array[0], root / "labels" / f"{case.name}.nii.gz", affine=inner.affine, labels=True)
        return part.array[0].size, image.array[0].size
