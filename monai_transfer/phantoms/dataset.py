"""Phantom data sets: a person, a scan of it, and folders full of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_transfer.datasets.writing import write_description
from monai_transfer.errors import UserError
from monai_transfer.options import FirstSubject, PhantomSize, Seed, Subjects, checked
from monai_transfer.phantoms.acquisition import Acquisition, Modality
from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.appearance import ct_image, mr_image
from monai_transfer.phantoms.painting import paint
from monai_transfer.phantoms.tissue import LABEL_NAMES
from monai_transfer.volumes.writing import write_volume

MODALITIES: tuple[Modality, ...] = ("ct", "mr")


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
    *, modality: Modality, subject: int, seed: int = 0, size: float = 1.0, paired: bool = False
) -> Phantom:
    """The phantom of one subject; equal arguments give equal voxels.

    Args:
        modality: ``"ct"`` or ``"mr"``.
        subject: number of the person, from 0.
        seed: number of the population.
        size: share of the usual number of voxels per axis (about 112×96×64 at 1).
        paired: whether the CT and the MR with the same number show the same person.

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
    if modality == "ct":
        image = ct_image(tissue, affine=scan.body_affine, spacing=scan.spacing, rng=scanner)
    else:
        image = mr_image(tissue, affine=scan.body_affine, spacing=scan.spacing, rng=scanner)
    return Phantom(image, label, scan.affine)


def write_phantoms(
    output: str | Path,
    *,
    modality: Modality,
    subjects: int,
    seed: int = 0,
    first: int = 1,
    size: float = 1.0,
    paired: bool = False,
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
        progress: called with (done, all, name) after each subject.

    Raises:
        UserError: an argument is out of range, or the folder cannot be written.
    """
    for kind, value in ((Subjects, subjects), (FirstSubject, first), (Seed, seed), (PhantomSize, size)):
        checked(kind, value)
    root = Path(output)
    try:
        names = [f"{modality}_{number:03d}" for number in range(first, first + subjects)]
        for done, name in enumerate(names):
            phantom = make_phantom(modality=modality, subject=first - 1 + done, seed=seed, size=size, paired=paired)
            write_volume(phantom.image, root / "images" / f"{name}.nii.gz", affine=phantom.affine)
            write_volume(phantom.label, root / "labels" / f"{name}.nii.gz", affine=phantom.affine)
            if progress is not None:
                progress(done + 1, subjects, name)
        write_description(
            root,
            name=f"Torso phantoms, {modality.upper()}",
            text="Generated torsos with labels; no patient was scanned.",
            modality=modality.upper(),
            label_names=LABEL_NAMES,
        )
    except OSError as error:
        raise UserError(f"The folder {root} cannot be written ({error}): choose another --output.") from error
    return names
