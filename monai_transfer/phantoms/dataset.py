"""Phantom data sets: a person, a scan of it, and folders full of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_transfer.datasets.writing import write_description, write_exam_list
from monai_transfer.errors import UserError
from monai_transfer.files import read_object, require_folder
from monai_transfer.options import FirstSubject, PhantomSize, Seed, Subjects, checked
from monai_transfer.phantoms.acquisition import Acquisition, Modality
from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.findings import Finding, paint_finding
from monai_transfer.phantoms.painting import paint
from monai_transfer.phantoms.tissue import LABEL_NAMES, LESION_LABEL

MODALITIES: tuple[Modality, ...] = ("ct", "mr")

_NAME = "Torso phantoms"
"""Begins the name of every set of them."""


@dataclass(frozen=True)
class Phantom:
    """A scan of a torso and its labels.

    Attributes:
        image: HU (CT) or arbitrary units (MR), ``(x, y, z)``.
        label: values of :data:`LABEL_NAMES`, ``(x, y, z)``.
        affine: voxel to world, RAS mm, ``(4, 4)``.

    Example:
        >>> phantom = make_phantom(modality="ct", subject=0, size=0.2)
        >>> phantom.image.shape == phantom.label.shape, [LABEL_NAMES[value] for value in np.unique(phantom.label)][:3]
        (True, ['background', 'liver', 'spleen'])
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


def make_phantom(
    *,
    modality: Modality,
    subject: int,
    seed: int = 0,
    size: float = 1.0,
    paired: bool = False,
    finding: Finding = "healthy",
) -> Phantom:
    """The phantom of one subject; equal arguments give equal voxels.

    Args:
        modality: ``"ct"`` or ``"mr"``.
        subject: number of the person, from 0.
        seed: number of the population.
        size: share of the usual number of voxels per axis (about 112×96×64 at 1).
        paired: whether the CT and the MR with the same number show the same person.
        finding: what the person has.

    Raises:
        UserError: an argument is out of range.
    """
    if modality not in MODALITIES:
        raise UserError(f"The phantom's modality is {modality!r}: choose ct or mr.")
    if seed < 0 or subject < 0:
        raise UserError("The phantom's seed and number must not be negative.")
    if not 0.05 <= size <= 4:
        raise UserError(f"The phantom's size is {size}: choose a share between 0.05 and 4.")
    population = len(MODALITIES) if paired else MODALITIES.index(modality)
    # person and scanner draw from streams of their own, so that a pair shows one person in two scanners
    person = np.random.default_rng((seed, population, subject))
    scanner = np.random.default_rng((seed, MODALITIES.index(modality), subject, 1))
    anatomy = Anatomy.sample(person)
    scan = Acquisition.sample(scanner, modality=modality, size=size)
    tissue, label = paint(anatomy, scan.body_affine, scan.shape)
    disease = np.random.default_rng((seed, population, subject, 2))
    tissue, label = paint_finding(tissue, label, finding=finding, anatomy=anatomy, affine=scan.body_affine, rng=disease)

    from monai_transfer.phantoms.appearance import ct_image, mr_image  # here: SciPy is not needed to check options

    if modality == "ct":
        image = ct_image(tissue, affine=scan.body_affine, spacing=scan.spacing, rng=scanner)
    else:
        image = mr_image(tissue, affine=scan.body_affine, spacing=scan.spacing, rng=scanner)
    return Phantom(image, label, scan.affine)


def has_lesion(subject: int, *, seed: int = 0) -> bool:
    """Whether a subject is the one of two neighbours, 0 and 1, 2 and 3, …, who has a lesion."""
    chosen = int(np.random.default_rng((seed, subject // 2, 3)).integers(2))
    return subject % 2 == chosen


def _place(root: Path) -> Path:
    """A folder that can be written to and holds no data set of somebody else, whose description would be lost.

    Raises:
        UserError: it is none, which is told before minutes are spent on people that have no place.
    """
    require_folder(root)
    description = root / "dataset.json"
    if description.exists():
        ours = str(read_object(description).get("name", "")).startswith(_NAME)
    else:  # as a command leaves it that was ended before it wrote the description
        names = [path.name for path in (root / "images").glob("[!.]*")]
        ours = all(name.split("_")[0] in MODALITIES for name in names)
    if not ours:
        raise UserError(f"{root} holds a data set that is not of phantoms: choose another --output.")
    return root


def write_phantoms(
    output: str | Path,
    *,
    modality: Modality,
    subjects: int,
    seed: int = 0,
    first: int = 1,
    size: float = 1.0,
    paired: bool = False,
    lesions: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Write a labelled data set: ``images/``, ``labels/`` and ``dataset.json``; returns the subjects' names.

    Args:
        output: folder to write to; what else lies in it stays.
        modality: ``"ct"`` or ``"mr"``.
        subjects: how many people.
        seed: number of the population.
        first: number of the first person, so that sets can be extended or kept apart.
        size: share of the usual number of voxels per axis.
        paired: whether CT and MR with the same number show the same person.
        lesions: whether one of every two people has a lesion of the liver, which is then label 6; ``diagnosis.csv``
            says who.
        progress: called with (done, all, name) after each subject.

    Raises:
        UserError: an argument is out of range, or the folder cannot be written.
    """
    for kind, value in ((Subjects, subjects), (FirstSubject, first), (Seed, seed), (PhantomSize, size)):
        checked(kind, value)
    from monai_transfer.volumes.reading import write_volume

    root = _place(Path(output))
    try:
        names = [f"{modality}_{number:03d}" for number in range(first, first + subjects)]
        findings: dict[str, Finding] = {}
        for done, name in enumerate(names):
            subject = first - 1 + done
            finding: Finding = "lesion" if lesions and has_lesion(subject, seed=seed) else "healthy"
            findings[name] = finding
            phantom = make_phantom(
                modality=modality, subject=subject, seed=seed, size=size, paired=paired, finding=finding
            )
            write_volume(phantom.image, root / "images" / f"{name}.nii.gz", affine=phantom.affine)
            write_volume(phantom.label, root / "labels" / f"{name}.nii.gz", affine=phantom.affine)
            if progress is not None:
                progress(done + 1, subjects, name)
        write_description(
            root,
            name=f"{_NAME}, {modality.upper()}",
            text="Generated torsos with labels; no patient was scanned.",
            modalities=[modality.upper()],
            label_names={**LABEL_NAMES, LESION_LABEL: "lesion"} if lesions else LABEL_NAMES,
        )
        if lesions:
            write_exam_list(root / "diagnosis.csv", {f"images/{name}.nii.gz": what for name, what in findings.items()})
    except OSError as error:
        raise UserError(f"The folder {root} cannot be written ({error}): choose another --output.") from error
    return names
