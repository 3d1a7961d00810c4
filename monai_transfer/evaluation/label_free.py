"""Label-free scores as ignite metrics: choosing a checkpoint without target labels."""

from collections.abc import Callable
from typing import Any

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from monai_transfer.losses import entropy_loss, information_score, label_agreement, soft_neighbourhood_density
from monai_transfer.transforms.target import likeliest_class


class _MeanOverImages(Metric):
    """The mean of one score over the images that are seen."""

    _state_dict_all_req_keys = ("_sum", "_count")

    def __init__(
        self, output_transform: Callable[[Any], Any] = lambda output: output, device: str | torch.device = "cpu"
    ) -> None:
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def reset(self) -> None:
        """Forget the images seen so far."""
        self._sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._count = torch.zeros((), dtype=torch.float64, device=self._device)

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def update(self, output: Any) -> None:
        """Add images: what ``output_transform`` gives, per image or as a batch."""
        for image in output:
            self._sum += self.score(image).to(self._sum)
            self._count += 1

    def score(self, image: Any) -> Tensor:
        """The score of one image."""
        raise NotImplementedError

    @sync_all_reduce("_sum", "_count")  # type: ignore[untyped-decorator]
    def compute(self) -> float:
        """The mean over all images of all processes.

        Raises:
            NotComputableError: no image was seen.
        """
        if float(self._count) == 0:
            raise NotComputableError(f"{type(self).__name__} has seen no image")
        return float(self._sum / self._count)


class PredictionCertainty(_MeanOverImages):
    """1 minus the relative entropy of the predictions, in ``[0, 1]``; higher is better.

    ``output_transform`` gives logits ``(batch, classes, *spatial)``, or a list of ``(classes, *spatial)``.

    Example:
        >>> metric = PredictionCertainty()
        >>> metric.update(torch.zeros(1, 2, 4, 4))
        >>> metric.compute()
        0.0
    """

    def score(self, image: Tensor) -> Tensor:
        """Of logits ``(classes, *spatial)``; see :func:`monai_transfer.losses.entropy_loss`."""
        return 1 - entropy_loss(image[None].float())


class PredictionInformation(_MeanOverImages):
    """Mutual information of voxel and class, in ``[0, 1]``; higher is better, and a collapsed prediction has 0.

    ``output_transform`` gives logits ``(batch, classes, *spatial)``, or a list of ``(classes, *spatial)``.

    Example:
        >>> metric = PredictionInformation()
        >>> metric.update(99.0 * torch.eye(2)[None])
        >>> round(metric.compute(), 3)
        1.0
    """

    def score(self, image: Tensor) -> Tensor:
        """Of logits ``(classes, *spatial)``; see :func:`monai_transfer.losses.information_score`."""
        return information_score(image[None].float().softmax(1))


class SoftNeighbourhoodDensity(_MeanOverImages):
    """Soft neighbourhood density of the predicted probabilities; higher is better.

    ``output_transform`` gives logits ``(batch, classes, *spatial)``, or a list of ``(classes, *spatial)``.

    Args:
        temperature: of the similarities.
        limit: voxels per image, taken at even distances.
        output_transform: from the engine's output to logits.
        device: where to accumulate.

    Example:
        >>> metric = SoftNeighbourhoodDensity()
        >>> metric.update(torch.zeros(1, 2, 2, 2))
        >>> round(metric.compute(), 3)
        1.099
    """

    def __init__(
        self,
        temperature: float = 0.05,
        limit: int = 2000,
        output_transform: Callable[[Any], Any] = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.temperature = temperature
        self.limit = limit
        super().__init__(output_transform, device)

    def score(self, image: Tensor) -> Tensor:
        """Of logits ``(classes, *spatial)``; see :func:`monai_transfer.losses.soft_neighbourhood_density`."""
        probabilities = image[None].float().softmax(1)
        return soft_neighbourhood_density(probabilities, temperature=self.temperature, limit=self.limit)


class TeacherStudentAgreement(_MeanOverImages):
    """Mean foreground Dice of a teacher's and a student's label maps, in ``[0, 1]``; higher is better.

    ``output_transform`` gives the pair of teacher's and student's logits, each ``(batch, classes, *spatial)`` or a list
    of ``(classes, *spatial)``.

    Example:
        >>> metric, logits = TeacherStudentAgreement(), torch.eye(2)[None]
        >>> metric.update((logits, logits))
        >>> metric.compute()
        1.0
    """

    def score(self, image: tuple[Tensor, Tensor]) -> Tensor:
        """Of a pair of logits ``(classes, *spatial)``; see :func:`monai_transfer.losses.label_agreement`."""
        teacher, student = image
        return label_agreement(likeliest_class(teacher), likeliest_class(student), teacher.shape[0])

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def update(self, output: tuple[Any, Any]) -> None:
        """Add pairs of images."""
        super().update(list(zip(*output, strict=True)))
