"""What every random intensity transform promises."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_transfer.transforms import (
    RandContrastCurve,
    RandContrastCurved,
    RandFourierStyle,
    RandFourierStyled,
    RandGIN,
    RandGINd,
    RandHistogramMatch,
    RandHistogramMatchd,
    RandSmoothBias,
    RandSmoothBiasd,
)


def reference(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 3


def references_for(shape: tuple[int, ...]) -> dict:
    return {"references": [reference(*shape) + number for number in range(20)]}


ARRAY = [RandContrastCurve, RandGIN, RandSmoothBias, RandFourierStyle, RandHistogramMatch]
MAPS = [RandContrastCurved, RandGINd, RandSmoothBiasd, RandFourierStyled, RandHistogramMatchd]


def make(transform_type, shape: tuple[int, ...], prob: float, keys=None):
    extra = references_for(shape) if transform_type in ARRAY[3:] + MAPS[3:] else {}
    first = {} if keys is None else {"keys": keys}
    return transform_type(**first, **extra, prob=prob)


def image(*shape: int) -> MetaTensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])), meta={"filename_or_obj": "a"})


@pytest.mark.parametrize("transform_type", ARRAY)
@pytest.mark.parametrize("shape", [(1, 17, 20), (1, 12, 16, 9), (3, 8, 9, 10)])
class TestArray:
    def test_changes_finite_values_and_keeps_meta(self, transform_type, shape):
        x = image(*shape)
        before = x.clone()
        y = make(transform_type, shape, 1.0).set_random_state(0)(x)
        assert isinstance(y, MetaTensor)
        assert y.shape == x.shape
        assert y.dtype == torch.float32
        assert torch.isfinite(y).all()
        assert torch.equal(y.affine, x.affine)
        assert y.meta["filename_or_obj"] == "a"
        assert y.applied_operations == []
        assert not torch.allclose(y, x)
        assert torch.equal(x, before)

    def test_same_seed_same_result_whatever_the_global_seed(self, transform_type, shape):
        torch.manual_seed(1)
        first = make(transform_type, shape, 1.0).set_random_state(5)(image(*shape))
        torch.manual_seed(2)
        second = make(transform_type, shape, 1.0).set_random_state(5)(image(*shape))
        other = make(transform_type, shape, 1.0).set_random_state(6)(image(*shape))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)

    def test_probability_zero_is_identity(self, transform_type, shape):
        x = image(*shape)
        assert torch.equal(make(transform_type, shape, 0.0)(x), x)

    def test_constant_image_stays_finite(self, transform_type, shape):
        assert torch.isfinite(make(transform_type, shape, 1.0).set_random_state(0)(torch.zeros(shape))).all()

    def test_numpy_is_accepted(self, transform_type, shape):
        y = make(transform_type, shape, 1.0).set_random_state(0)(np.ones(shape, dtype=np.float64))
        assert y.dtype == torch.float32


SHAPE = (1, 8, 9, 10)


@pytest.mark.parametrize("transform_type", MAPS)
class TestMap:
    def test_keys_share_the_draw_and_others_are_left_alone(self, transform_type):
        x = image(*SHAPE)
        data = {"image": x, "weak": x.clone(), "label": x.clone()}
        out = make(transform_type, SHAPE, 1.0, ["image", "weak"]).set_random_state(3)(data)
        assert torch.equal(out["image"], out["weak"])
        assert not torch.equal(out["image"], x)
        assert torch.equal(out["label"], x)
        assert isinstance(out["image"], MetaTensor)

    def test_compose_seeds_it(self, transform_type):
        def run(seed: int) -> torch.Tensor:
            pipeline = Compose([make(transform_type, SHAPE, 0.5, "image"), make(transform_type, SHAPE, 0.9, "image")])
            pipeline.set_random_state(seed)
            return torch.stack([pipeline({"image": image(*SHAPE)})["image"].as_tensor() for _ in range(3)])

        assert torch.equal(run(0), run(0))
        assert not torch.equal(run(0), run(1))

    def test_missing_key(self, transform_type):
        with pytest.raises(KeyError):
            make(transform_type, SHAPE, 1.0, "nothing")({"image": image(*SHAPE)})
        transform = make(transform_type, SHAPE, 1.0, "nothing")
        transform.allow_missing_keys = True
        data = transform({"image": image(*SHAPE)})
        assert set(data) == {"image"}
