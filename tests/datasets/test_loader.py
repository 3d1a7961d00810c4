"""The loader of several domains: finite, seeded, blind to their sizes."""

import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, RandGaussianNoised

from monai_transfer.adaptation import DANN, SelfTraining
from monai_transfer.datasets import CyclingSampler, DomainLoader
from monai_transfer.errors import UserError


def _numbers(count: int) -> Dataset:
    transform = Compose([RandGaussianNoised(keys="noise", prob=1.0)])
    return Dataset([{"value": float(n), "noise": torch.zeros(1, 4)} for n in range(count)], transform)


def _loader(**options: object) -> DomainLoader:
    return DomainLoader({"source": _numbers(3), "target": _numbers(5)}, steps=4, seed=7, **options)  # type: ignore[arg-type]


def test_every_step_has_a_batch_of_each_domain_however_small() -> None:
    epoch = list(_loader(batch_size={"source": 2, "target": 1}))
    assert len(epoch) == 4
    assert [len(batch["source"]["value"]) for batch in epoch] == [2] * 4
    assert [len(batch["target"]["value"]) for batch in epoch] == [1] * 4


def test_every_case_comes_once_before_any_comes_twice() -> None:
    sampler = CyclingSampler(5, 10, seed=3)
    drawn = list(sampler)
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0, 1, 2, 3, 4]


def test_the_cycle_goes_on_over_epochs() -> None:
    sampler = CyclingSampler(3, 2, seed=0)
    drawn = []
    for epoch in range(3):
        sampler.epoch = epoch
        drawn += list(sampler)
    assert sorted(drawn[:3]) == sorted(drawn[3:]) == [0, 1, 2]


def test_processes_share_one_sequence() -> None:
    alone = list(CyclingSampler(5, 8, seed=1))
    shares = [list(CyclingSampler(5, 4, seed=1, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [draw for pair in zip(*shares, strict=True) for draw in pair] == alone


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    first, second = _loader(), _loader()
    list(first)
    second.load_state_dict(first.state_dict())
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one["source"]["noise"].as_tensor(), other["source"]["noise"].as_tensor())
        assert one["target"]["value"].tolist() == other["target"]["value"].tolist()


def test_epochs_differ() -> None:
    loader = _loader()
    noise = [next(iter(loader))["source"]["noise"] for _ in range(2)]
    assert not torch.equal(noise[0], noise[1])


def test_an_empty_domain_is_refused() -> None:
    with pytest.raises(UserError, match="target domain holds no cases"):
        DomainLoader({"source": _numbers(1), "target": _numbers(0)}, steps=1)


def test_a_transform_of_whole_batches() -> None:
    loader = _loader(batch_transforms={"source": lambda batch: {**batch, "value": batch["value"] + 10}})
    batch = next(iter(loader))
    assert float(batch["source"]["value"].min()) >= 10
    assert float(batch["target"]["value"].max()) < 10


def test_a_domain_for_which_all_wait_is_left_out_until_something_has_come() -> None:
    labels: list[int] = []
    waiting, never = _loader(waiters={"target": [SelfTraining(waits_for=labels)]}), _loader()
    for epoch in range(3):
        if epoch == 1:
            labels.append(1)
        for batch, whole in zip(waiting, never, strict=True):
            assert set(batch) == ({"source"} if epoch == 0 else {"source", "target"})
            for domain in batch:
                assert batch[domain]["value"].tolist() == whole[domain]["value"].tolist()
                torch.testing.assert_close(batch[domain]["noise"].as_tensor(), whole[domain]["noise"].as_tensor())


def test_a_domain_is_read_for_the_sake_of_one_that_does_not_wait() -> None:
    loader = _loader(waiters={"target": [SelfTraining(waits_for=[]), DANN(4)]})
    assert set(next(iter(loader))) == {"source", "target"}
