"""Torsos of phantoms among the random shapes."""

import random

import numpy as np
import pytest
import torch

from monai_transfer.bundle.configs import template_config
from monai_transfer.phantoms import Tissue
from monai_transfer.phantoms.acquisition import FIELD_OF_VIEW
from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.painting import paint
from monai_transfer.pretraining import KINDS, MOST_SHAPES, draw_shapes, shapes, torsos


def _straight(*lengths: int) -> torch.Tensor:
    """Places that reach from one end of the field of view to the other along each axis, ``(1, 3, *lengths)``."""
    axes = [torch.linspace(-1, 1, length) for length in lengths]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def test_a_torso_is_what_the_generator_of_phantoms_paints() -> None:
    size, extent = (5, 7, 6), np.asarray(FIELD_OF_VIEW)
    # nodes of the table alone, so that nothing lies between two of them
    where = [np.linspace(0, torsos._LENGTH - 1, length).round() for length in size]
    local = [torch.as_tensor(2 * axis / (torsos._LENGTH - 1) - 1) for axis in where]
    found = torsos.torsos_at(torch.stack(torch.meshgrid(*local, indexing="ij"))[None].float(), [3])[0]
    affine = np.diag([*(extent / (torsos._LENGTH - 1)), 1.0])
    affine[:3, 3] = -extent / 2
    anatomy = Anatomy.sample(np.random.default_rng((0, 3, 3)))
    painted = paint(anatomy, affine, (torsos._LENGTH,) * 3)[0]
    assert np.array_equal(found.numpy(), painted[np.ix_(*(axis.astype(int) for axis in where))])


def test_there_is_air_beyond_the_field_of_view_and_people_differ() -> None:
    one, other = (torsos.torsos_at(_straight(24, 24, 24), [person]) for person in (0, 1))
    assert not torch.equal(one, other)
    assert not torsos.torsos_at(_straight(4, 4, 4) * 3.5, [0])[..., ::3, ::3, ::3].any()
    both = torsos.torsos_at(_straight(24, 24, 24).expand(2, -1, -1, -1, -1), [0, 1])
    assert torch.equal(both, torch.cat([one, other]))


def test_organs_are_shapes_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_TORSOS", 1)
    monkeypatch.setattr(shapes, "PEOPLE", 2)  # painting them all takes seconds
    drawn = [draw_shapes(2, (32, 24, 40), torch.Generator().manual_seed(s), random.Random(s)) for s in range(3)]
    numbers, kinds = (torch.cat(maps) for maps in zip(*drawn, strict=True))
    assert numbers.shape == kinds.shape == (6, 1, 32, 24, 40)
    assert int(numbers.max()) < MOST_SHAPES
    organ, tube = KINDS.index("organ"), KINDS.index("tube")
    assert bool((kinds[numbers == Tissue.LIVER] == organ).all())
    assert bool((kinds[numbers == Tissue.AORTA] == tube).all())
    assert bool((kinds[numbers == Tissue.FAT] == 0).all())
    assert 0.02 < float((kinds == organ).float().mean()) < 0.5
    # shapes of the pile lie on top, each as what it is
    assert len(numbers[numbers >= torsos.TISSUES].unique()) > 3
    assert not (kinds[numbers >= torsos.TISSUES] == organ).any()


def test_some_batches_show_torsos_and_most_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "PEOPLE", 2)
    organ = KINDS.index("organ")
    maps = [draw_shapes(1, (8, 8, 8), torch.Generator().manual_seed(s), random.Random(s))[1] for s in range(40)]
    share = sum(bool((kinds == organ).any()) for kinds in maps) / len(maps)
    assert 0.05 < share < 0.4


def test_the_bundle_names_every_kind() -> None:
    channels = template_config("pretraining", "metadata")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert tuple(channels.values()) == KINDS
