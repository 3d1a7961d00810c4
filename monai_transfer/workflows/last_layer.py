"""The last layer of a network that names classes, fitted anew to examinations that nothing was learnt from.

In a training of two tasks, this layer hardly moves: 400 steps of two images each left it nearly as it was drawn, while
what lies before it told 40 other phantoms with a lesion from those without (AUC 0.91 by the lesion's share alone). So
it is fitted once, to all examinations together. What the training learnt by heart of its own would mislead it (a map of
evidence had an AUC of 0.80 on them and 0.47 on others), so those of the validation are taken.

Kirichenko et al., "Last layer re-training is sufficient for robustness to spurious correlations", ICLR 2023.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.datasets import ExamDataset
from monai_transfer.errors import UserError
from monai_transfer.files import replacing
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.losses import DiagnosisLoss

_RIDGE = 0.05
"""Weight of the squared, standardised weights in the loss: examinations are few, sometimes a handful."""

_LEAST_SPREAD = 0.3
"""Outputs that spread less over the examinations, or less than this share of the output that spreads most, are not
magnified more: they are logarithms of shares, and an organ that everybody has tells nothing by being a third more or
less certain, nor by being half as certain where the lesion's share is forty times as great in the ill. At 0.05 the
liver had the weight of the lesion, and without the second rule a kidney did once the lesion was learnt well; a map of
what spoke for the lesion then lay everywhere but on it. The AUC was the same."""


def refit_last_layer(bundle: BundleFolder, exams: ExamDataset, *, file: Path, device: str) -> None:
    """Fit the last layer of a bundle's network that names classes, and write its weights.

    Args:
        bundle: its network is a ``Sequential`` that ends in a linear layer.
        exams: labelled, not learnt from.
        file: the network's weights.
        device: where to run.

    Raises:
        UserError: no examination is labelled, or one cannot be read.
    """
    diagnoser = Diagnoser.from_bundle(bundle.root, device=device)
    network = diagnoser.bundle.network
    labelled = exams.as_classes(diagnoser.class_names, exclusive=diagnoser.exclusive).labelled
    if not labelled.exams:
        raise UserError(f"{exams.root} says of no examination what it shows: add labels.")
    if not isinstance(network, nn.Sequential) or not isinstance(network[-1], nn.Linear):
        raise UserError(f"{bundle.root} names classes by a network without a linear layer at its end: train it anew.")
    found = []
    for exam in labelled.exams:
        _, image = diagnoser.read(exam.images)
        with torch.no_grad():
            found.append(network[:-1](torch.as_tensor(image)[None].to(diagnoser.device))[0].double().cpu())
    targets = torch.from_numpy(np.array([exam.target for exam in labelled.exams], np.float64))
    weight, bias = fit_linear(torch.stack(found), targets, exclusive=diagnoser.exclusive)
    with torch.no_grad():
        network[-1].weight.copy_(weight)
        network[-1].bias.copy_(bias)
    with replacing(file) as opened:
        torch.save(network.state_dict(), opened)


def fit_linear(features: Tensor, targets: Tensor, *, exclusive: bool) -> tuple[Tensor, Tensor]:
    """Weights ``(classes, features)`` and biases ``(classes,)`` of a logistic regression with a ridge.

    Args:
        features: ``(n, features)``, float64.
        targets: ``(n, classes)`` in 0, 1 and NaN.
        exclusive: whether the classes exclude each other.

    Example:
        >>> features = torch.tensor([[0.0, 5.0], [0.1, 5.0], [0.9, 5.0], [1.0, 5.0]], dtype=torch.float64)
        >>> targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        >>> weight, bias = fit_linear(features, targets, exclusive=True)
        >>> (features @ weight.T + bias).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    mean, spread = features.mean(0), features.std(0, correction=0)
    spread = spread.clamp_min(_LEAST_SPREAD * max(1.0, float(spread.max())))
    standard = (features - mean) / spread
    weight = torch.zeros(targets.shape[1], features.shape[1], dtype=features.dtype, requires_grad=True)
    bias = torch.zeros(targets.shape[1], dtype=features.dtype, requires_grad=True)
    loss = DiagnosisLoss(exclusive=exclusive)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def surprise() -> Tensor:
        solver.zero_grad()
        ridge = _RIDGE * (weight.square().sum() + 1e-3 * bias.square().sum())
        value: Tensor = loss(standard @ weight.T + bias, targets) + ridge
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(surprise)  # type: ignore[no-untyped-call, arg-type]
    scaled = weight.detach() / spread
    return scaled, bias.detach() - scaled @ mean
