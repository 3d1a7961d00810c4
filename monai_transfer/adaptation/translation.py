"""Unpaired translation of source volumes into the target's appearance."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.losses import domain_loss, patch_nce_loss
from monai_transfer.networks import PatchDomainDiscriminator, PatchProjection, TranslationGenerator

_REAL, _MADE = 1.0, 0.0


class UnpairedTranslation(nn.Module):
    r"""Learns to make a source volume look like the target's, patch by patch, and keeps its anatomy in place.

    A generator :math:`G` fools a least-squares discriminator :math:`D` while every place of :math:`G(x)` has to be
    recognised among all others by the features of the same place of :math:`x`:

    .. math:: L_G = (D(G(x)) - 1)^2 + \lambda \, \mathrm{NCE}(G(x), x) + \lambda \, \mathrm{NCE}(G(y), y)

    Park et al., *Contrastive Learning for Unpaired Image-to-Image Translation* (CUT), ECCV 2020; translation and then
    self-training won CrossMoDA (Dorent et al., MedIA 2023). The labels of a source volume hold for its translation too:
    train on the translated volumes as another source. It is costly: small settings run on a CPU, a useful model wants
    a GPU. Where the order of intensities differs, nothing but anatomy says which tissue is which: look at the
    translations before you train on them.

    Args:
        spatial_dims: 3 for volumes, 2 for slices.
        channels: channels of the images.
        patch_size: size of the training patches and of the window of :meth:`translate`, in voxels.
        width: width of the generator's first layer.
        blocks: residual blocks of the generator.
        nce_weight: :math:`\lambda`.
        places: places per level that are contrasted.
        learning_rate: of Adam, for all networks.
        seed: of the weights and of the patches.

    Example:
        >>> translation = UnpairedTranslation(2, patch_size=(16, 16), width=4, blocks=1, places=16)
        >>> volume = torch.rand(1, 20, 20)
        >>> sorted(translation.fit([volume], [1 - volume], steps=1))
        ['contrast', 'discriminator', 'generator']
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int = 1,
        *,
        patch_size: Sequence[int] = (64, 64, 64),
        width: int = 16,
        blocks: int = 4,
        nce_weight: float = 1.0,
        places: int = 128,
        learning_rate: float = 2e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(patch_size) != spatial_dims:
            raise UserError(f"patch_size {tuple(patch_size)} needs {spatial_dims} numbers, one per spatial dimension")
        self.patch_size = tuple(patch_size)
        self.nce_weight = nce_weight
        self.places = places
        self.learning_rate = learning_rate
        self.seed = seed
        # weights depend on the seed alone, and the caller's random numbers go on as if nothing was drawn
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = TranslationGenerator(spatial_dims, channels, width=width, blocks=blocks)
            self.discriminator = PatchDomainDiscriminator(spatial_dims, channels, channels=width, layers=2)
            self.projection = PatchProjection(self.generator.feature_widths)

    def fit(
        self,
        source_volumes: Sequence[Tensor],
        target_volumes: Sequence[Tensor],
        *,
        steps: int,
        batch_size: int = 1,
        on_step: Callable[[int, dict[str, float]], Any] | None = None,
    ) -> dict[str, float]:
        """Train on volumes ``(channels, *spatial)``, normalised alike (zero mean, unit spread, say).

        Args:
            source_volumes: volumes to learn to translate, no smaller than a patch.
            target_volumes: volumes that show the wanted appearance, no smaller than a patch.
            steps: optimizer steps of each network.
            batch_size: patches of each domain per step.
            on_step: called with the step's number, from 1, and its losses.

        Returns:
            The losses, averaged over the last tenth of the steps.

        Raises:
            UserError: a domain has no volumes, or one is smaller than a patch.
        """
        random = torch.Generator().manual_seed(self.seed)
        sources, targets = (
            self._patches(volumes, name, batch_size, random)
            for volumes, name in ((source_volumes, "source"), (target_volumes, "target"))
        )
        mine = [*self.generator.parameters(), *self.projection.parameters()]
        optimizers = [
            torch.optim.Adam(parameters, self.learning_rate, betas=(0.5, 0.999))
            for parameters in (mine, list(self.discriminator.parameters()))
        ]
        self.train()
        history = []
        for step, source, target in zip(range(1, steps + 1), sources, targets, strict=False):
            losses = self._step(source, target, optimizers, random)
            history.append(losses)
            if on_step is not None:
                on_step(step, losses)
        self.eval()
        last = history[-max(1, steps // 10) :]
        return {name: sum(losses[name] for losses in last) / len(last) for name in (last[0] if last else {})}

    @torch.no_grad()
    def translate(self, volume: Tensor, *, overlap: float = 0.5) -> Tensor:
        """The volume ``(channels, *spatial)`` in the target's appearance, same shape and meta data.

        Args:
            volume: normalised as the training volumes.
            overlap: share by which neighbouring windows overlap; they are blended by a Gaussian.
        """
        self.eval()
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        device = next(self.parameters()).device
        made = sliding_window_inference(
            plain[None].to(device).float(), self.patch_size, 1, self.generator, overlap=overlap, mode="gaussian"
        )
        assert isinstance(made, Tensor)
        out = made[0].to(plain.device)
        return MetaTensor(out).copy_meta_from(volume) if isinstance(volume, MetaTensor) else out

    def _step(
        self, source: Tensor, target: Tensor, optimizers: Sequence[torch.optim.Optimizer], random: torch.Generator
    ) -> dict[str, float]:
        both = torch.cat([source, target])
        made = self.generator(both)
        fake = made[: len(source)]
        judged = domain_loss(self.discriminator(fake.detach()), _MADE, kind="least_squares")
        judged = 0.5 * (judged + domain_loss(self.discriminator(target), _REAL, kind="least_squares"))
        _descend(optimizers[1], judged)
        # the generator's pass needs no gradient of the discriminator's weights, only through them
        self.discriminator.requires_grad_(False)
        fooled = domain_loss(self.discriminator(fake), _REAL, kind="least_squares")
        contrast = self._contrast(both, made, random)
        _descend(optimizers[0], fooled + self.nce_weight * contrast)
        self.discriminator.requires_grad_(True)
        return {"discriminator": judged.item(), "generator": fooled.item(), "contrast": contrast.item()}

    def _contrast(self, images: Tensor, made: Tensor, random: torch.Generator) -> Tensor:
        with torch.no_grad():
            originals = self.generator.encode(images)
        features = self.generator.encode(made)
        indices = [
            torch.randperm(feature[0, 0].numel(), generator=random)[: self.places].to(images.device)
            for feature in features
        ]
        queries = self.projection(features, indices)
        keys = self.projection(originals, indices)
        return 2 * torch.stack([patch_nce_loss(q, k) for q, k in zip(queries, keys, strict=True)]).mean()

    def _patches(
        self, volumes: Sequence[Tensor], name: str, batch_size: int, random: torch.Generator
    ) -> Iterator[Tensor]:
        plain = [v.as_tensor() if isinstance(v, MetaTensor) else v for v in volumes]
        if not plain:
            raise UserError(f"there are no {name} volumes to train the translation on: give at least one")
        for volume in plain:
            if any(length < size for length, size in zip(volume.shape[1:], self.patch_size, strict=True)):
                raise UserError(
                    f"a {name} volume of shape {tuple(volume.shape[1:])} is smaller than patch_size {self.patch_size}: "
                    "choose smaller patches or pad it"
                )
        device = next(self.parameters()).device
        return (
            torch.stack([self._crop(plain, random) for _ in range(batch_size)]).to(device).float()
            for _ in itertools.count()
        )

    def _crop(self, volumes: Sequence[Tensor], random: torch.Generator) -> Tensor:
        patch = volumes[int(torch.randint(len(volumes), (), generator=random))]
        for axis, size in enumerate(self.patch_size, start=1):
            start = int(torch.randint(patch.shape[axis] - size + 1, (), generator=random))
            patch = patch.narrow(axis, start, size)
        return patch


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
