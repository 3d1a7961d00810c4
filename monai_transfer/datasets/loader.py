"""One batch from every domain at each step: finite, seeded, and blind to how large each domain is."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from monai.data import DataLoader
from monai.transforms import Transform
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from monai_transfer.errors import UserError
from monai_transfer.processes import rank, world_size


class CyclingSampler(Sampler[int]):
    """Draws ``length`` indices of a data set of any size, every case once before any case twice.

    The order is a function of ``(seed, epoch)`` alone. Under ``torchrun`` every process takes every
    ``world_size``-th draw of the same sequence.

    Args:
        size: number of cases in the data set.
        length: number of draws of this process in one epoch.
        seed: seed of the order.
        rank: this process among ``world_size``.
        world_size: number of processes that share the sequence.

    Example:
        >>> sorted(CyclingSampler(size=3, length=6))
        [0, 0, 1, 1, 2, 2]
    """

    def __init__(self, size: int, length: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.size = size
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def __len__(self) -> int:
        """Number of draws in one epoch."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield this epoch's draws, continuing the cycle where the epoch before stopped."""
        total = self.length * self.world_size
        start = self.epoch * total
        for draw in range(start + self.rank, start + total, self.world_size):
            cycle, position = divmod(draw, self.size)
            yield int(self._order(cycle)[position])

    def _order(self, cycle: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + cycle)
        return torch.randperm(self.size, generator=generator)


class Waiter(Protocol):
    """Looks at a domain only once something has come, as :class:`~monai_transfer.adaptation.AdaptationMethod` may."""

    @property
    def waiting(self) -> bool:
        """Whether it has not come yet."""


class DomainLoader:
    """Yields ``{domain: batch}`` for a fixed number of steps per epoch.

    Random transforms are re-seeded at the start of each epoch from ``(seed, epoch)``, so an epoch does not depend on
    how many were run before it in the same process.

    Args:
        datasets: domain name -> MONAI data set with a random transform; sizes may differ.
        steps: batches per epoch.
        batch_size: cases per domain and batch, one number or one per domain.
        seed: seed of order and augmentation.
        num_workers: loading processes per domain.
        pin_memory: copy batches to pinned memory, for a GPU.
        batch_transforms: domain -> transform of its whole batches, such as mixup.
        waiters: domain -> those for whom alone it is read; where all of them wait when an epoch begins, the domain is
            left out of that epoch.

    Raises:
        UserError: when a domain has no cases.

    Example:
        >>> from monai.data import Dataset
        >>> domains = {"source": Dataset([{"image": 1}]), "target": Dataset([{"image": 2}, {"image": 2}])}
        >>> for batch in DomainLoader(domains, steps=2):
        ...     print({domain: part["image"].tolist() for domain, part in batch.items()})
        {'source': [1], 'target': [2]}
        {'source': [1], 'target': [2]}
    """

    def __init__(
        self,
        datasets: Mapping[str, TorchDataset],
        *,
        steps: int,
        batch_size: int | Mapping[str, int] = 1,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        batch_transforms: Mapping[str, Transform] | None = None,
        waiters: Mapping[str, Iterable[Waiter]] | None = None,
    ) -> None:
        self.datasets = dict(datasets)
        self.batch_transforms = dict(batch_transforms or {})
        self.waiters = dict(waiters or {})
        self.steps = steps
        self.seed = seed
        self.epoch = 0
        self._samplers: dict[str, CyclingSampler] = {}
        self._loaders: dict[str, DataLoader] = {}
        for position, (domain, dataset) in enumerate(self.datasets.items()):
            size = len(dataset)  # type: ignore[arg-type]
            if size == 0:
                raise UserError(f"The {domain} domain holds no cases; give it a folder with at least one volume.")
            cases = batch_size if isinstance(batch_size, int) else batch_size[domain]
            share = {"rank": rank(), "world_size": world_size()}
            sampler = CyclingSampler(size, steps * cases, seed=seed + 7919 * position, **share)
            self._samplers[domain] = sampler
            self._loaders[domain] = DataLoader(
                dataset, batch_size=cases, sampler=sampler, num_workers=num_workers, pin_memory=pin_memory
            )

    def __len__(self) -> int:
        """Steps in one epoch."""
        return self.steps

    def __iter__(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Run one epoch and move on to the next."""
        for position, (domain, sampler) in enumerate(self._samplers.items()):
            sampler.epoch = self.epoch
            seed = (self.seed * 1_000_003 + self.epoch * 1009 + position * 101 + rank() * 7) % 2**32
            for transform in (getattr(self.datasets[domain], "transform", None), self.batch_transforms.get(domain)):
                if transform is not None and hasattr(transform, "set_random_state"):
                    transform.set_random_state(seed=seed)
        self.epoch += 1
        loaders = {domain: loader for domain, loader in self._loaders.items() if not self._left_out(domain)}
        for batches in zip(*loaders.values(), strict=True):
            batch = dict(zip(loaders, batches, strict=True))
            yield {domain: self._transformed(domain, tensors) for domain, tensors in batch.items()}

    def _left_out(self, domain: str) -> bool:
        return domain in self.waiters and all(each.waiting for each in self.waiters[domain])

    def _transformed(self, domain: str, batch: dict[str, Any]) -> dict[str, Any]:
        transform = self.batch_transforms.get(domain)
        return batch if transform is None else transform(batch)  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, int]:
        """The position in the sequence of epochs."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a saved position."""
        self.epoch = int(state["epoch"])
