"""How tissues look: CT in Hounsfield units, MR in a scanner's arbitrary units."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_transfer.phantoms.geometry import Field, Waves, grid_points
from monai_transfer.phantoms.tissue import Tissue

CT_HU: dict[Tissue, tuple[float, float, float]] = {
    Tissue.AIR: (-1000, 0, 0),
    Tissue.FAT: (-102, 6, 8),
    Tissue.MUSCLE: (52, 5, 8),
    Tissue.MARROW: (220, 40, 40),
    Tissue.CORTICAL_BONE: (620, 120, 60),
    Tissue.DISC: (80, 10, 6),
    Tissue.SPINAL_CANAL: (28, 6, 4),
    Tissue.LUNG: (-810, 40, 35),
    Tissue.STOMACH: (18, 14, 8),
    Tissue.BOWEL: (42, 10, 10),
    Tissue.BOWEL_CONTENT: (22, 25, 20),
    Tissue.GALLBLADDER: (8, 6, 3),
    Tissue.TABLE: (-150, 50, 10),
}
"""Tissue -> mean, standard deviation between people, standard deviation of the texture; HU."""

FINDINGS_HU: dict[Tissue, tuple[float, float, float]] = {Tissue.LESION: (10, 6, 8), Tissue.OPACITY: (-220, 80, 60)}
"""The same for what is not there in everybody: darker than the liver in every phase, and a lung half filled."""

CT_PHASES: dict[str, dict[Tissue, float]] = {
    "unenhanced": {
        Tissue.LIVER: 60, Tissue.SPLEEN: 48, Tissue.KIDNEY_CORTEX: 35, Tissue.KIDNEY_MEDULLA: 31,
        Tissue.AORTA: 42, Tissue.VEIN: 40, Tissue.HEART: 42,
    },
    "arterial": {
        Tissue.LIVER: 74, Tissue.SPLEEN: 112, Tissue.KIDNEY_CORTEX: 165, Tissue.KIDNEY_MEDULLA: 85,
        Tissue.AORTA: 245, Tissue.VEIN: 75, Tissue.HEART: 190,
    },
    "portal": {
        Tissue.LIVER: 108, Tissue.SPLEEN: 118, Tissue.KIDNEY_CORTEX: 172, Tissue.KIDNEY_MEDULLA: 140,
        Tissue.AORTA: 150, Tissue.VEIN: 142, Tissue.HEART: 140,
    },
    "late": {
        Tissue.LIVER: 92, Tissue.SPLEEN: 98, Tissue.KIDNEY_CORTEX: 140, Tissue.KIDNEY_MEDULLA: 165,
        Tissue.AORTA: 115, Tissue.VEIN: 115, Tissue.HEART: 112,
    },
}  # fmt: skip
"""Contrast phase -> tissue -> mean, HU."""

CT_PHASE_SHARES = {"unenhanced": 0.15, "arterial": 0.25, "portal": 0.4, "late": 0.2}

MR_SIGNAL: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (0.01, 0.0),
    Tissue.FAT: (1.0, 0.05),
    Tissue.MUSCLE: (0.42, 0.04),
    Tissue.MARROW: (0.62, 0.08),
    Tissue.CORTICAL_BONE: (0.07, 0.02),
    Tissue.DISC: (0.33, 0.04),
    Tissue.SPINAL_CANAL: (0.2, 0.03),
    Tissue.LUNG: (0.05, 0.03),
    Tissue.HEART: (0.16, 0.06),
    Tissue.LIVER: (0.62, 0.04),
    Tissue.SPLEEN: (0.27, 0.03),
    Tissue.KIDNEY_CORTEX: (0.48, 0.04),
    Tissue.KIDNEY_MEDULLA: (0.34, 0.03),
    Tissue.AORTA: (0.07, 0.02),
    Tissue.VEIN: (0.13, 0.03),
    Tissue.STOMACH: (0.13, 0.03),
    Tissue.BOWEL: (0.42, 0.05),
    Tissue.BOWEL_CONTENT: (0.2, 0.07),
    Tissue.GALLBLADDER: (0.15, 0.03),
    Tissue.TABLE: (0.01, 0.0),
}
"""Tissue -> T1-weighted signal relative to fat, and the standard deviation of its texture."""

FINDINGS_SIGNAL: dict[Tissue, tuple[float, float]] = {Tissue.LESION: (0.36, 0.04), Tissue.OPACITY: (0.25, 0.06)}
"""The same for what is not there in everybody."""


def ct_image(
    tissue: NDArray[np.uint8], *, affine: NDArray[np.float64], spacing: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int16]:
    """A CT of a tissue map, HU, ``(x, y, z)``, half of the time with the table.

    Args:
        tissue: the tissue of each voxel, ``(x, y, z)``.
        affine: voxel to body frame, mm.
        spacing: voxel size, mm.
        rng: where phase, texture and noise come from.
    """
    phases = list(CT_PHASE_SHARES)
    phase = phases[int(rng.choice(len(phases), p=list(CT_PHASE_SHARES.values())))]
    means, textures = np.zeros(len(Tissue)), np.zeros(len(Tissue))
    for kind in Tissue:
        if kind in FINDINGS_HU:
            continue
        if kind in CT_HU:
            mean, spread, texture = CT_HU[kind]
        else:
            mean, spread, texture = CT_PHASES[phase][kind], 0.07 * CT_PHASES[phase][kind] + 2, 7.0
        means[kind] = mean + spread * np.clip(rng.normal(), -2, 2)
        textures[kind] = texture
    for kind, (mean, spread, texture) in FINDINGS_HU.items() if _shows_finding(tissue) else ():
        means[kind], textures[kind] = mean + spread * np.clip(rng.normal(), -2, 2), texture
    if rng.random() < 0.5:
        tissue = _with_table(tissue, affine, distance=float(rng.uniform(2, 10)))
    image = _textured(tissue, means, textures, spacing=spacing, rng=rng)
    image = _point_spread(image, spacing, width=1.3)
    noise = _correlated_noise(image.shape, sigma=(0.8, 0.8, 0.4), rng=rng)
    image += np.float32(rng.uniform(8, 20)) * noise
    return np.asarray(np.clip(np.rint(image), -1024, 3071), np.int16)


def mr_image(
    tissue: NDArray[np.uint8], *, affine: NDArray[np.float64], spacing: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int16]:
    r"""A T1-like MR of a tissue map, ``(x, y, z)``.

    The magnitude of a complex signal with noise, :math:`\sqrt{(bs + n_1)^2 + n_2^2}`, where :math:`b` is the coil's
    bias field, times a scale that differs from scan to scan.

    Args:
        tissue: the tissue of each voxel, ``(x, y, z)``.
        affine: voxel to body frame, mm.
        spacing: voxel size, mm.
        rng: where contrast, bias, noise and scale come from.
    """
    means, textures = np.zeros(len(Tissue)), np.zeros(len(Tissue))
    for kind, (mean, texture) in MR_SIGNAL.items():
        means[kind] = mean * np.exp(0.09 * np.clip(rng.normal(), -2, 2))
        textures[kind] = texture
    for kind, (mean, texture) in FINDINGS_SIGNAL.items() if _shows_finding(tissue) else ():
        means[kind], textures[kind] = mean * np.exp(0.09 * np.clip(rng.normal(), -2, 2)), texture
    signal = _textured(tissue, means, textures, spacing=spacing, rng=rng)
    signal = _point_spread(np.maximum(signal, 0), spacing, width=1.3)
    bias = Waves.random(rng, shortest=350, longest=900, amplitude=float(rng.uniform(0.1, 0.22)), waves=5)
    signal *= np.exp(bias.on_grid(affine, tissue.shape))  # type: ignore[arg-type]
    level = float(rng.uniform(0.015, 0.04))
    real, imaginary = rng.normal(0, level, (2, *tissue.shape)).astype(np.float32)
    magnitude = np.sqrt((signal + real) ** 2 + imaginary**2)
    scale = float(np.exp(rng.uniform(np.log(250), np.log(3000))))
    return np.asarray(np.clip(np.rint(scale * magnitude), 0, 32767), np.int16)


def _shows_finding(tissue: NDArray[np.uint8]) -> bool:
    """Whether anything is to be drawn for findings: people without any look as they did before there were findings."""
    return bool((tissue >= Tissue.LESION).any())


def _textured(
    tissue: NDArray[np.uint8],
    means: NDArray[np.float64],
    textures: NDArray[np.float64],
    *,
    spacing: NDArray[np.float64],
    rng: np.random.Generator,
) -> Field:
    """Mean of each tissue plus blotches of about 5 mm."""
    blotches = _correlated_noise(tissue.shape, sigma=tuple(5.0 / spacing / 2.355), rng=rng)
    return means.astype(np.float32)[tissue] + textures.astype(np.float32)[tissue] * blotches


def _correlated_noise(shape: tuple[int, ...], *, sigma: tuple[float, ...], rng: np.random.Generator) -> Field:
    """Smooth noise of zero mean and unit variance; ``sigma`` in voxels."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
    return np.asarray(smooth / smooth.std(), np.float32)


def _point_spread(image: Field, spacing: NDArray[np.float64], *, width: float) -> Field:
    """Blur by the scanner's point spread, ``width`` mm standard deviation: tissues mix at their borders."""
    return np.asarray(ndimage.gaussian_filter(image, width / spacing, mode="nearest"), np.float32)


def _with_table(tissue: NDArray[np.uint8], affine: NDArray[np.float64], *, distance: float) -> NDArray[np.uint8]:
    """The same map with a curved table behind the body."""
    points = grid_points(affine, tissue.shape)  # type: ignore[arg-type]
    body = tissue != Tissue.AIR
    back = float(points[1][body].min()) - distance if body.any() else -120.0
    depth = points[1] - back - (points[0] / 40) ** 2
    table = ~body & (depth < 0) & (depth > -8) & (np.abs(points[0]) < 190)
    return np.where(table, np.uint8(Tissue.TABLE), tissue)
