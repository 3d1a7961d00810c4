"""Torsos of the phantoms' people among the random shapes: organs that press against each other, wherever one looks.

People are painted by the generator of ``monai-transfer phantom``, once each and on one grid, which takes half a second
of a core; after that a torso costs a look into a table, and every volume sees one of them in a place, size, turn and
bend of its own. Nothing of its appearance is taken over: shapes get their contrasts later.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from monai_transfer.phantoms import Tissue
from monai_transfer.phantoms.acquisition import FIELD_OF_VIEW
from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.painting import paint

PEOPLE = 24
"""How many people there are: 12 seconds of painting in all, and 21 MB."""

TISSUES = len(Tissue)
"""Numbers of tissues, of which 0 is air."""

KIND_OF_TISSUE = {
    Tissue.HEART: "organ",
    Tissue.LIVER: "organ",
    Tissue.SPLEEN: "organ",
    Tissue.KIDNEY_CORTEX: "organ",
    Tissue.KIDNEY_MEDULLA: "organ",
    Tissue.STOMACH: "organ",
    Tissue.GALLBLADDER: "organ",
    Tissue.AORTA: "tube",
    Tissue.VEIN: "tube",
}
"""What kind of shape a tissue is; all others are background, on which shapes lie."""

# voxels of 3 mm; those of a cube of 64 are 2 to 5 mm, by how much of a torso it shows
_LENGTH = 96
_POPULATION = 3  # those of the data sets of phantoms are 0, 1 and 2: nobody of these is met there


@lru_cache(maxsize=PEOPLE)
def _torso(person: int) -> Tensor:
    """The tissue of each voxel of somebody's field of view, ``(1, x, y, z)``."""
    extent = np.asarray(FIELD_OF_VIEW)
    affine = np.diag([*(extent / (_LENGTH - 1)), 1.0])
    affine[:3, 3] = -extent / 2
    anatomy = Anatomy.sample(np.random.default_rng((0, _POPULATION, person)))
    return torch.from_numpy(paint(anatomy, affine, (_LENGTH,) * 3)[0])[None]


def torsos_at(local: Tensor, people: Sequence[int]) -> Tensor:
    """The tissues of people at places within them.

    Args:
        local: ``(batch, 3, *spatial)``, from -1 to 1 between the ends of the field of view: right, front and head.
        people: number of the person in each volume, below :data:`PEOPLE`.

    Returns:
        ``(batch, *spatial)`` of 64-bit integers below :data:`TISSUES`; air beyond the field of view.

    Example:
        >>> middle = torch.zeros(1, 3, 1, 1, 1)
        >>> Tissue(int(torsos_at(middle + torch.tensor([0.3, 0.0, 0.0]).view(3, 1, 1, 1), [0]))).name
        'LIVER'
    """
    torsos = torch.stack([_torso(person) for person in people]).to(local.device).float()
    # grid_sample wants the last axis first
    where = local.flip(1).movedim(1, -1)
    found = F.grid_sample(torsos, where, mode="nearest", padding_mode="zeros", align_corners=True)
    return found[:, 0].round().long()
