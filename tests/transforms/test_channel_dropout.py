import pytest
import torch

from monai_transfer.transforms import RandChannelDropout


def absent(channels: int, draws: int, prob: float = 1.0) -> torch.Tensor:
    transform = RandChannelDropout(prob, fill=-1.0).set_random_state(0)
    image = torch.ones(channels, 2, 2)
    return torch.stack([(transform(image) == -1).all(2).all(1) for _ in range(draws)])


def test_some_channel_goes_and_some_channel_stays():
    counts = absent(4, 600).sum(1)
    assert set(counts.tolist()) == {1, 2, 3}
    assert [float((counts == n).float().mean()) for n in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.06)
    assert absent(4, 600).float().mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.06)


def test_share_of_the_images_and_a_single_channel():
    assert float(absent(2, 600, prob=0.25).any(1).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert not absent(1, 20).any()


def test_what_stays_is_not_touched_nor_is_the_input():
    image = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    changed = RandChannelDropout(1.0).set_random_state(1)(image)
    kept = [number for number in range(2) if changed[number].any()]
    assert len(kept) == 1
    torch.testing.assert_close(changed[kept], before[kept])
    torch.testing.assert_close(image, before)
