"""Looks at the target's volumes with the network that is being trained."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_transfer.adaptation import LabelAtlas, correct_by_anatomy, refine_probabilities, separation, without_bias
from monai_transfer.adaptation.aligned_maps import FEWEST_MAPS, atlas_label_maps
from monai_transfer.adaptation.anatomy import ExpectedSizes, plausible
from monai_transfer.adaptation.atlas_file import write_atlas
from monai_transfer.machine import MOST_CORRECTED
from monai_transfer.processes import rank
from monai_transfer.transforms import ClassIntensities, IntensityProfile, PseudoLabels
from monai_transfer.transforms.target import UNLABELLED, likeliest_class

logger = logging.getLogger(__name__)

_LEAST_SOUND = 0.5
"""Share of the classes that must be plausible before a volume is labelled at all."""

_LEFT_OUT = (
    "Self-training is left out: the corrections take away %.2f of what the labels' intensities have in common with "
    "those around them, of %.2f asked."
)


class TargetView:
    """Tells the transforms what the network sees in the target's volumes; no label of the target is read.

    At the start of an epoch the volumes are predicted. Each prediction is corrected by where the source's labels lie
    beside each other (:class:`~monai_transfer.adaptation.LabelAtlas`), and then by the volume's own intensities
    (:func:`~monai_transfer.adaptation.refine_probabilities`).

    From ``intensities_from`` on the intensities of each class, and of what lies around the classes, are measured at
    every epoch in the first ``most`` volumes; the source's transform
    (:class:`~monai_transfer.transforms.RandClassIntensityd`) paints with them. Predictions need be right on the whole
    only: what is taken from them is one intensity per class and volume, while every border comes from the source's
    labels. A class whose predicted size is not plausible beside the source's is not measured in that volume for the
    first part of the training, ``doubt``; it keeps random intensities, so that the network goes on looking for it
    everywhere.

    From ``labels_from`` on the volumes are labelled, ``most`` at an epoch, as soon as the sizes of at least half of
    their classes are plausible. A class that is not would be taught as background, or in the wrong place: it is not
    taught at all, what the volume calls background may be that class, and the volume is labelled anew at the next
    epoch, until no class is missing. Complete labels are kept: renewed ones grow, because a network repeats what it
    drew too large.
    Before the first label the corrections are judged by how much they take away of the overlap of the labels'
    intensities with those of what surrounds them, one minus their
    :func:`~monai_transfer.adaptation.separation`: 0.43 to 0.58 on abdomen and phantoms, 0.21 to 0.27 where learning
    them mostly harms (brain). With less than ``least_gain`` no volume is labelled, and the network goes on
    learning the painted source alone.
    :class:`~monai_transfer.transforms.PseudoLabeld` hands the labels to
    :class:`~monai_transfer.adaptation.SelfTraining`.

    Args:
        network: predicts the target; a moving average is steadier than the network that learns.
        images: ``{"image": (channels, *spatial)}``, preprocessed as for inference.
        inferer: turns an image ``(1, channels, *spatial)`` and the network into logits.
        intensities: what the transform of the source holds; ``None`` measures nothing.
        labels: what the transform of the target holds; ``None`` labels nothing.
        labelled: ``{"label": (1, *spatial)}`` of the source on the same working grid, which tell where the classes
            lie and how large they are; without them every place and size is plausible.
        intensities_from: finished steps before the first measurement; ``None`` never measures.
        labels_from: finished steps before the volumes are labelled; ``None`` never labels.
        doubt: share of the training in which implausible classes are not measured.
        most: so many volumes are measured, and so many looked at for labels, at an epoch.
        trust: least probability of a labelled voxel.
        least_gain: share of the overlap that corrections must take away before volumes are labelled.

    Example:
        >>> network, labels = nn.Conv2d(1, 2, 1), PseudoLabels()
        >>> image = MetaTensor(torch.rand(1, 16, 16), meta={"filename_or_obj": "mr_001.nii.gz"})
        >>> view = TargetView(
        ...     network, [{"image": image}], inferer=lambda x, net: net(x), labels=labels, least_gain=-1.0
        ... )
        >>> trainer = Engine(lambda engine, batch: None)
        >>> view.attach(trainer)
        >>> _ = trainer.run([0])
        >>> len(labels)
        1
    """

    def __init__(
        self,
        network: nn.Module,
        images: Sequence[Mapping[str, Any]],
        *,
        inferer: Callable[[Tensor, nn.Module], Any],
        intensities: ClassIntensities | None = None,
        labels: PseudoLabels | None = None,
        labelled: Sequence[Mapping[str, Any]] = (),
        intensities_from: int | None = 0,
        labels_from: int | None = 0,
        doubt: float = 0.6,
        most: int = 8,
        trust: float = 0.65,
        least_gain: float = 0.36,
    ) -> None:
        self.network = network
        self.images = images
        self.inferer = inferer
        self.intensities = intensities
        self.labels = labels
        self.labelled = labelled
        self.intensities_from = intensities_from
        self.labels_from = labels_from
        self.doubt = doubt
        self.most = most
        self.trust = trust
        self.least_gain = least_gain
        self._asked = False
        self._atlas: LabelAtlas | None = None
        self._sizes: ExpectedSizes | None = None
        self._unlabelled = list(range(len(images)))

    def attach(self, engine: Engine) -> None:
        """Look at the start of the epochs of the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Look if it is time."""
        step = engine.state.iteration
        doubtful = step < self.doubt * (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        measures = self.intensities is not None and self.intensities_from is not None and step >= self.intensities_from
        labels = self.labels is not None and self.labels_from is not None and step >= self.labels_from
        measured = range(min(self.most, len(self.images))) if measures else range(0)
        tried = self._unlabelled[: self.most] if labels else []
        profiles, proposed, overlaps = [], {}, []
        # a volume that is measured and labelled at one epoch is predicted once
        for number in dict.fromkeys([*measured, *tried]):
            image, predicted, corrected = self._look(self.images[number][Keys.IMAGE])
            sound = self._sound(corrected)
            if number in measured:
                profiles.append(IntensityProfile.measure(image, corrected, believed=sound if doubtful else None))
            if number in tried:
                proposed[number] = _Proposal.made(corrected, sound=sound[1:], trust=self.trust)
                if self.labels is not None and not len(self.labels):  # later nothing is judged any more
                    overlaps.append(_overlaps(image, predicted, corrected))
        if self.intensities is not None and measures:
            self.intensities.renew(profiles)
        if self.labels is not None and proposed:
            incomplete = self._label(self.labels, proposed) if self._worth_teaching(overlaps) else []
            self._unlabelled = self._unlabelled[len(tried) :] + incomplete

    def state_dict(self) -> dict[str, list[int]]:
        """The numbers of the volumes that have no label yet, in the order in which they are looked at."""
        return {"unlabelled": list(self._unlabelled)}

    def load_state_dict(self, state: Mapping[str, list[int]]) -> None:
        """Go on from :meth:`state_dict`."""
        self._unlabelled = [int(number) for number in state["unlabelled"]]

    def _worth_teaching(self, overlaps: Sequence[Tensor]) -> bool:
        """Whether the corrections tell what the network does not know; if not, no volume is looked at again."""
        if not overlaps:  # labelled before
            return True
        before, after = torch.stack([*overlaps]).sum(0).tolist()
        gain = (before - after) / max(before, 1e-6)
        if gain >= self.least_gain:
            return True
        logger.info(_LEFT_OUT, gain, self.least_gain)
        self._unlabelled = []
        return False

    def _label(self, labels: PseudoLabels, proposed: Mapping[int, "_Proposal"]) -> list[int]:
        """Label these volumes where enough of their classes are plausible, and say which to try again."""
        incomplete = []
        for number, proposal in proposed.items():
            missing = ((~proposal.sound).nonzero()[:, 0] + 1).tolist()
            if missing:
                incomplete.append(number)
            if float(proposal.sound.float().mean()) >= _LEAST_SOUND:
                image: MetaTensor = self.images[number][Keys.IMAGE]
                label = proposal.label.masked_fill(torch.isin(proposal.label, proposal.label.new_tensor(missing)), 0)
                labels.set(image, label, untaught=missing)
        return incomplete

    def _look(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The image without a coil's field, and probabilities ``(classes, *spatial)`` before and after correction."""
        device = next(self.network.parameters()).device
        plain: Tensor = convert_to_tensor(image, track_meta=False, device=device)
        with eval_mode(self.network):
            logits = self.inferer(plain[None], self.network)
        probabilities = logits[0].float().softmax(0)
        atlas = self._known_atlas(len(probabilities))  # with it the sizes, which are asked for in any case
        if probabilities.numel() > MOST_CORRECTED:
            return plain, probabilities, probabilities
        plain = without_bias(plain, probabilities)
        if atlas is None:
            return plain, probabilities, refine_probabilities(plain, probabilities)
        return plain, probabilities, correct_by_anatomy(plain, probabilities, atlas)

    def _sound(self, corrected: Tensor) -> Tensor:
        """Which classes of these probabilities have a plausible size, ``(classes,)``."""
        if self._sizes is None:
            return torch.ones(len(corrected), dtype=torch.bool)
        return plausible(likeliest_class(corrected), self._sizes.bounds(corrected.shape[1:]))

    def _known_atlas(self, classes: int) -> LabelAtlas | None:
        """The atlas of the source's labels, made when it is first asked for, and the sizes that go with it."""
        if not self._asked:
            self._asked = True
            if labels := atlas_label_maps(self.labelled, classes):
                self._atlas = LabelAtlas(labels, classes)
                self._sizes = ExpectedSizes(self._atlas, labels)
        return self._atlas


class AtlasKeeper:
    """Writes the atlas of the labels that a network learnt from when its training ends, for inference to correct by.

    Args:
        labelled: ``{"label": (1, *spatial)}`` on the working grid.
        classes: number of classes, background included.
        file: where it goes; ``None`` keeps none.

    Example:
        >>> AtlasKeeper([], classes=2, file=None).attach(Engine(lambda engine, batch: None))
    """

    def __init__(self, labelled: Sequence[Mapping[str, Any]], *, classes: int, file: str | Path | None) -> None:
        self.labelled = labelled
        self.classes = classes
        self.file = file

    def attach(self, engine: Engine) -> None:
        """Write when the trainer ``engine`` has ended."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self) -> None:
        """Write the atlas where three maps or more show a class."""
        if self.file is None or rank() != 0:
            return
        maps = [label for label in atlas_label_maps(self.labelled, self.classes) if bool(label.any())]
        if len(maps) >= FEWEST_MAPS:
            atlas = LabelAtlas(maps, self.classes)
            atlas.learn_lesions(maps)
            write_atlas(atlas, Path(self.file))


@dataclass(frozen=True)
class _Proposal:
    """Labels that a volume may be taught.

    Attributes:
        label: ``(1, *spatial)``, bytes; a doubtful voxel is unlabelled.
        sound: which classes have a plausible size, ``(classes - 1,)``.
    """

    label: Tensor
    sound: Tensor

    @classmethod
    def made(cls, corrected: Tensor, *, sound: Tensor, trust: float) -> "_Proposal":
        """Of corrected probabilities ``(classes, *spatial)``."""
        confidence, label = corrected.max(0, keepdim=True)
        # bytes on the CPU: no probabilities are held for all the volumes of an epoch
        doubtful = label.masked_fill(confidence < trust, UNLABELLED).to(torch.uint8).cpu()
        return cls(doubtful, sound)


def _overlaps(image: Tensor, predicted: Tensor, corrected: Tensor) -> Tensor:
    """What the classes' intensities have in common with those around them before and after correction, ``(2,)``."""
    parted = [separation(image, likeliest_class(each), len(each)) for each in (predicted, corrected)]
    return (1 - torch.stack(parted)).sum(1)
