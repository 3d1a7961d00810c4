"""Looks at the target's volumes with the network that is being trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_transfer.adaptation import refine_probabilities
from monai_transfer.transforms import ClassIntensities, IntensityProfile, PseudoLabels
from monai_transfer.transforms.intensity_profile import plausible
from monai_transfer.transforms.pseudo_label import UNLABELLED


class TargetView:
    """Tells the transforms what the network sees in the target's volumes; no label of the target is read.

    At the start of an epoch the volumes are predicted, and each prediction is corrected by the volume's own intensities
    (:func:`~monai_transfer.adaptation.refine_probabilities`).

    From ``intensities_from`` on the intensities of each class, and of what lies around the classes, are measured at
    every epoch in the first ``most`` volumes; the source's transform
    (:class:`~monai_transfer.transforms.RandClassIntensityd`) paints with them. Predictions need be right on the whole
    only: what is taken from them is one intensity per class and volume, while every border comes from the source's
    labels. A class whose predicted size is not plausible beside the source's is not measured in that volume for the
    first part of the training, ``doubt``; it keeps random intensities, so that the network goes on looking for it
    everywhere.

    From ``labels_from`` on the volumes are labelled, ``most`` at an epoch and each once, as soon as the sizes of all
    its classes are plausible: a class that is missing would be taught as background.
    :class:`~monai_transfer.transforms.PseudoLabeld` hands the labels to
    :class:`~monai_transfer.adaptation.SelfTraining`.

    Args:
        network: predicts the target; a moving average is steadier than the network that learns.
        images: ``{"image": (channels, *spatial)}``, preprocessed as for inference.
        inferer: turns an image ``(1, channels, *spatial)`` and the network into logits.
        intensities: what the transform of the source holds; ``None`` measures nothing.
        labels: what the transform of the target holds; ``None`` labels nothing.
        labelled: ``{"label": (1, *spatial)}`` of the source on the same working grid, which tell the usual sizes;
            without them every size is plausible.
        intensities_from: finished steps before the first measurement; ``None`` never measures.
        labels_from: finished steps before the volumes are labelled; ``None`` never labels.
        doubt: share of the training in which implausible classes are not measured.
        most: so many volumes are measured, and so many looked at for labels, at an epoch.
        trust: least probability of a labelled voxel.

    Example:
        >>> network, labels = nn.Conv2d(1, 2, 1), PseudoLabels()
        >>> image = MetaTensor(torch.rand(1, 16, 16), meta={"filename_or_obj": "mr_001.nii.gz"})
        >>> view = TargetView(network, [{"image": image}], inferer=lambda x, net: net(x), labels=labels)
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
        self._sizes: Tensor | None = None
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
        profiles, unsound = [], []
        # a volume that is measured and labelled at one epoch is predicted once
        for number in dict.fromkeys([*measured, *tried]):
            image = self.images[number][Keys.IMAGE]
            plain, probabilities = self._predict(image)
            sizes = self._source_sizes(len(probabilities))
            if number in measured:
                profiles.append(IntensityProfile.measure(plain, probabilities, sizes=sizes if doubtful else None))
            if number in tried and not self._label(image, probabilities, sizes):
                unsound.append(number)
        if self.intensities is not None and measures:
            self.intensities.renew(profiles)
        self._unlabelled = self._unlabelled[len(tried) :] + unsound

    def state_dict(self) -> dict[str, list[int]]:
        """The numbers of the volumes that have no label yet, in the order in which they are looked at."""
        return {"unlabelled": list(self._unlabelled)}

    def load_state_dict(self, state: Mapping[str, list[int]]) -> None:
        """Go on from :meth:`state_dict`."""
        self._unlabelled = [int(number) for number in state["unlabelled"]]

    def _label(self, image: MetaTensor, probabilities: Tensor, sizes: Tensor | None) -> bool:
        """Label a volume, if all its classes are plausible."""
        confidence, label = probabilities.max(0, keepdim=True)
        sound = sizes is None or bool(plausible(label, sizes)[1:].all())
        if self.labels is not None and sound:
            self.labels.set(image, label.masked_fill(confidence < self.trust, UNLABELLED))
        return sound

    def _predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The image as a plain tensor, and corrected probabilities ``(classes, *spatial)``."""
        device = next(self.network.parameters()).device
        plain: Tensor = convert_to_tensor(image, track_meta=False, device=device)
        with eval_mode(self.network):
            logits = self.inferer(plain[None], self.network)
        return plain, refine_probabilities(plain, logits[0].float().softmax(0))

    def _source_sizes(self, classes: int) -> Tensor | None:
        """Median number of voxels of each class where it occurs, ``(classes,)``."""
        if self._sizes is None and len(self.labelled):
            labels = [self.labelled[number][Keys.LABEL] for number in range(len(self.labelled))]
            plain = [convert_to_tensor(label, track_meta=False).long().flatten() for label in labels]
            counts = torch.stack([torch.bincount(label, minlength=classes).float() for label in plain])
            self._sizes = torch.where(counts > 0, counts, torch.nan).nanmedian(0).values.nan_to_num(0.0)
        return self._sizes
