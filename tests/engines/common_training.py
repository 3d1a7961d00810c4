"""A few steps by each method, in one process or in several; the first one writes the weights.

``torchrun --nproc-per-node 2 -m tests.engines.common_training FILE 1`` and
``python -m tests.engines.common_training FILE 2`` draw the same cases: two processes with one case each, and one with
two. Nothing else of the steps is random.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from monai.data import Dataset, MetaTensor
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.adaptation import (
    CDAN,
    DANN,
    MMD,
    AdaptationMethod,
    DeepCORAL,
    EntropyMinimization,
    ForegroundPrior,
    MeanTeacher,
    OutputAdversarial,
    SelfTraining,
)
from monai_transfer.datasets import DomainLoader
from monai_transfer.engines import AdaptationTrainer, GracefulInterrupt, StrengthSchedule, TargetView
from monai_transfer.losses import ClassBalancedDiceCELoss
from monai_transfer.processes import join_processes, leave_processes, rank
from monai_transfer.transforms import ClassIntensities
from monai_transfer.transforms.target import PSEUDO_LABEL, TAUGHT, UNLABELLED, PseudoLabeld, PseudoLabels

METHODS: dict[str, Callable[[], list[AdaptationMethod]]] = {
    "supervised": lambda: [],
    "DANN": lambda: [DANN(in_channels=8)],
    "OutputAdversarial": lambda: [OutputAdversarial(2, 3, weight=0.1)],
    "CDAN": lambda: [CDAN(8, 3)],
    "DeepCORAL": lambda: [DeepCORAL(weight=10.0)],
    "MMD": lambda: [MMD()],
    "MeanTeacher": lambda: [MeanTeacher(3, momentum=0.5)],
    "MeanTeacher, trusted pseudo-labels": lambda: [
        MeanTeacher(3, loss="pseudo_label", keep=(0.3, 0.8), momentum=0.5),
        ForegroundPrior(3),
    ],
    "EntropyMinimization": lambda: [EntropyMinimization()],
    "SelfTraining": lambda: [SelfTraining()],
}
RECIPE = "the default recipe"
CASES, STEPS, SIZE = 4, 6, 32


def _datasets() -> dict[str, Dataset]:
    """Cases of differing sizes of the foreground, so that shares of the batch differ between processes."""
    random = np.random.default_rng(0)
    domains: dict[str, list[dict[str, object]]] = {"source": [], "target": []}
    for domain, items in domains.items():
        for number in range(CASES):
            label = np.zeros((1, SIZE, SIZE), np.int64)
            label[:, 4 : 12 + 3 * number, 4:16], label[:, 20:26, 20 : 22 + 2 * number] = 1, 2
            image = (label * (1.5 if domain == "source" else -1) + random.normal(size=label.shape) * 0.3).astype("f4")
            item: dict[str, object] = {"image": MetaTensor(torch.from_numpy(image))}
            if domain == "source":
                item["label"] = torch.from_numpy(label)
            else:
                doubtful = np.where(random.random(label.shape) < 0.2 * number, UNLABELLED, label).astype(np.uint8)
                item[PSEUDO_LABEL] = torch.from_numpy(doubtful)
                item[TAUGHT] = torch.tensor([True, True, number != 1])
            items.append(item)
    return {domain: Dataset(items) for domain, items in domains.items()}


def _train(
    methods: list[AdaptationMethod],
    network: nn.Module,
    batch_size: int,
    *,
    datasets: dict[str, Dataset] | None = None,
    epochs: int = 2,
    view: TargetView | None = None,
) -> None:
    used = nn.ModuleList(methods)
    handlers = [GracefulInterrupt(), StrengthSchedule(methods, ramp=STEPS), *([view] if view else [])]
    AdaptationTrainer(
        "cpu",
        epochs,
        DomainLoader(datasets or _datasets(), steps=STEPS // 2, batch_size=batch_size),
        network,
        torch.optim.SGD([*network.parameters(), *used.parameters()], lr=0.05, momentum=0.9),
        ClassBalancedDiceCELoss(3),
        methods=methods,
        max_grad_norm=5.0,
        train_handlers=handlers,
    ).run()


def _train_by_the_recipe(network: nn.Module, batch_size: int) -> dict[str, Tensor]:
    """What the view of the target measures and labels after 24 of 36 steps, and the weights of both stages."""
    datasets, images = _datasets(), []
    for number, item in enumerate(datasets["target"].data):
        # as bright as the source is, for a network of so few steps finds nothing else
        image = MetaTensor(-1.4 * item["image"], meta={"filename_or_obj": f"mr_{number}.nii.gz"})
        images.append({"image": image})
    intensities, labels = ClassIntensities(), PseudoLabels()
    datasets["target"] = Dataset(images, PseudoLabeld(PSEUDO_LABEL, labels))
    view = TargetView(
        network,
        images,
        inferer=lambda image, network: network(image),
        intensities=intensities,
        labels=labels,
        intensities_from=STEPS * 4,
        labels_from=STEPS * 4,
        least_gain=-1.0,
    )
    _train([SelfTraining()], network, batch_size, datasets=datasets, epochs=12, view=view)
    seen = {f"intensities of {number}": profile.mean for number, profile in enumerate(intensities.profiles)}
    seen |= {f"label of {number}": labels.of(item["image"]).float() for number, item in enumerate(images)}
    assert len(intensities.profiles) == len(labels) == CASES
    return {**network.state_dict(), **{name: tensor.nan_to_num() for name, tensor in seen.items()}}


def main() -> None:
    """Train by every method and write ``{method: {name: weights}}``."""
    file, batch_size = sys.argv[1], int(sys.argv[2])
    join_processes()
    weights = {}
    for name, make in METHODS.items():
        torch.manual_seed(0)
        network, methods = UNet(2, 1, 3, (4, 8), (2,), norm="instance"), make()
        _train(methods, network, batch_size)
        weights[name] = nn.ModuleDict({"network": network, "methods": nn.ModuleList(methods)}).state_dict()
    torch.manual_seed(0)
    weights[RECIPE] = _train_by_the_recipe(UNet(2, 1, 3, (4, 8), (2,), norm="instance"), batch_size)
    if rank() == 0:
        torch.save(weights, file)
    leave_processes()


if __name__ == "__main__":
    main()
