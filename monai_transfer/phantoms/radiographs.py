r"""Radiographs of phantoms: a chest seen through from the back to the front.

A pixel is the negative logarithm of what is left of the beam, :math:`\int \mu\, dy` with
:math:`\mu = \mu_\text{water} (1 + HU / 1000)`, plus the noise of counted photons. The console takes most of its slow
changes away, as those of all makers do, so that lungs and spine fit on one screen; bright is dense. Vuylsteke and
Schoeters, "Multiscale image contrast amplification", SPIE Medical Imaging 1994.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from monai_transfer.errors import UserError
from monai_transfer.files import replacing
from monai_transfer.options import FirstSubject, PhantomSize, Seed, Subjects, checked
from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.appearance import CT_HU, CT_PHASES, FINDINGS_HU
from monai_transfer.phantoms.findings import Finding, paint_finding
from monai_transfer.phantoms.painting import paint
from monai_transfer.phantoms.tissue import Tissue

FINDINGS: tuple[Finding, ...] = ("healthy", "mass", "pneumonia")
"""What a radiograph shows; a lesion of the liver is lost between the shadows of what lies before and behind it."""

FIELD_MM = (292.0, 240.0, 230.0)
"""Extent of the chest from side to side, back to front and feet to head, mm."""

STEP_MM = (2.4, 3.6, 2.4)
"""Voxels that the beam goes through at size 1, mm; a pixel is as wide and as high as one."""

_CENTRE_MM = (0.0, 0.0, 88.0)
"""Middle of the chest in the body's frame, so that the domes of the diaphragm stay in the picture."""

_WATER = 0.0165
"""Attenuation of water for the filtered 120 kV beam of a chest radiograph (mean energy about 80 keV), 1/mm."""

_PHOTONS = 60_000.0
"""Photons per pixel before the person: leaves the grain of an ordinary exposure behind 20 cm of tissue."""


_SLOW_MM, _SLOW_SHARE = 24.0, 0.8
"""Changes over more than this distance (standard deviation of a Gaussian), mm, and the share of them that goes."""


def make_radiograph(*, subject: int, finding: Finding, seed: int = 0, size: float = 1.0) -> NDArray[np.uint8]:
    """A radiograph of one subject, 8 bit, ``(height, width)``, head up and the person's right on the left.

    Args:
        subject: number of the person, from 0; the one of the CT phantom with this number.
        finding: what the person has.
        seed: number of the population.
        size: share of the usual number of pixels per axis (95 × 121 at 1).

    Example:
        >>> make_radiograph(subject=0, finding="mass", size=0.3).shape
        (28, 36)
    """
    anatomy = Anatomy.sample(np.random.default_rng((seed, 0, subject)))
    rng = np.random.default_rng((seed, 0, subject, 4))
    spacing = np.divide(STEP_MM, size)
    x, y, z = (int(extent // step) for extent, step in zip(FIELD_MM, spacing, strict=True))
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = _CENTRE_MM + rng.uniform(-6, 6, 3) - affine[:3, :3] @ ((np.array((x, y, z)) - 1) / 2)
    tissue, label = paint(anatomy, affine, (x, y, z))
    tissue, _ = paint_finding(tissue, label, finding=finding, anatomy=anatomy, affine=affine, rng=rng)
    paths = _attenuation(rng)[tissue].sum(axis=1) * np.float32(spacing[1])
    paths = ndimage.gaussian_filter(paths, 1.2 / spacing[::2], mode="nearest")  # the tube's focal spot, mm
    photons = rng.poisson(_PHOTONS * size**-2 * np.exp(-paths)) + 1.0
    density = -np.log(photons / (_PHOTONS * size**-2))
    density -= _SLOW_SHARE * ndimage.gaussian_filter(density, _SLOW_MM / spacing[::2], mode="nearest")
    low, high = np.percentile(density, (1, 99.7))
    grey = np.clip((density - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(np.rint(255 * grey.T[::-1]), np.uint8)


def write_radiographs(
    output: str | Path,
    *,
    subjects: int,
    seed: int = 0,
    first: int = 1,
    size: float = 1.0,
    findings: Sequence[Finding] = FINDINGS,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Write radiographs as PNG, one folder per finding, each with its share of the people.

    Args:
        output: folder to write to.
        subjects: how many people.
        seed: number of the population.
        first: number of the first person.
        size: share of the usual number of pixels per axis.
        findings: the classes; people take them in turn.
        progress: called with (done, all, name) after each subject.

    Returns:
        The subjects' names.

    Raises:
        UserError: an argument is out of range, or the folder cannot be written.
    """
    for kind, value in ((Subjects, subjects), (FirstSubject, first), (Seed, seed), (PhantomSize, size)):
        checked(kind, value)
    root, names = Path(output), []
    try:
        for subject in range(first - 1, first - 1 + subjects):
            finding = findings[subject % len(findings)]
            picture = make_radiograph(subject=subject, finding=finding, seed=seed, size=size)
            names.append(f"xray_{subject + 1:04d}")
            with replacing(root / finding / f"{names[-1]}.png") as file:
                Image.fromarray(picture).save(file, format="PNG")
            if progress is not None:
                progress(len(names), subjects, names[-1])
    except OSError as error:
        raise UserError(f"The folder {root} cannot be written ({error}): choose another --output.") from error
    return names


def _attenuation(rng: np.random.Generator) -> NDArray[np.float32]:
    """Tissue -> attenuation in this person, 1/mm, without contrast medium."""
    units = np.zeros(len(Tissue))
    for kind in Tissue:
        mean, spread = {**CT_HU, **FINDINGS_HU}.get(kind, (CT_PHASES["unenhanced"].get(kind, 0.0), 5.0, 0.0))[:2]
        units[kind] = mean + spread * np.clip(rng.normal(), -2, 2)
    return np.asarray(_WATER * np.clip(1 + units / 1000, 0, None), np.float32)
