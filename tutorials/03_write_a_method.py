# %% [markdown]
# # Write an adaptation method of your own
#
# A method in `monai-transfer` is one object: it looks at what the network gave for each domain in a training step
# and returns named losses. The trainer does the rest (forward passes, backward, optimizer), so a new method
# combines with those that come with the package, and needs neither a fork nor a registry.
#
# Here we write *central moment discrepancy* (Zellinger et al., ICLR 2017) in about twenty lines: source and
# target features should have the same mean and the same higher central moments. Then we train it together with
# `MeanTeacher` on CT and MR phantoms. It runs in about a minute on a laptop; the budget is far too small for good
# scores.

# %%
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.data import CacheDataset
from monai.networks.nets import UNet
from torch import Tensor

from monai_transfer.adaptation import AdaptationMethod, Batch, MeanTeacher, Outputs
from monai_transfer.datasets import DomainLoader, read_dataset
from monai_transfer.engines import AdaptationTrainer, StrengthSchedule
from monai_transfer.losses import ClassBalancedDiceCELoss, voxel_samples
from monai_transfer.phantoms import write_phantoms
from monai_transfer.transforms import preset

torch.manual_seed(0)

# %% [markdown]
# ## The method
#
# `needs_features` asks the trainer to read the encoder's features by a forward hook; the network itself stays a
# plain MONAI network. `outputs["source"].features` holds one tensor per level of the encoder, from fine to
# coarse, each `(batch, channels, *spatial)`.
#
# `self.scaled(loss)` multiplies by the weight and by the strength that a schedule sets, and gives a constant at
# strength 0.


# %%
class MomentDiscrepancy(AdaptationMethod):
    """Source and target features share their mean and their higher central moments."""

    needs_features = True

    def __init__(self, weight: float = 0.1, *, moments: int = 3, samples: int = 2000) -> None:
        super().__init__(weight)
        self.moments = moments
        self.samples = samples

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        source, target = (voxel_samples(outputs[name].features[-1], self.samples) for name in ("source", "target"))
        loss = (source.mean(0) - target.mean(0)).norm()
        for power in range(2, self.moments + 1):
            moment_source, moment_target = (((x - x.mean(0)) ** power).mean(0) for x in (source, target))
            loss = loss + (moment_source - moment_target).norm()
        return {"moments": self.scaled(loss)}


# %% [markdown]
# ## Does it do what it should?
#
# Two checks are worth their lines before any training: the loss is zero when both domains are alike, and positive
# when they are not.

# %%
same = Outputs(torch.zeros(1, 2, 4, 4), (torch.randn(1, 8, 4, 4),))
shifted = Outputs(same.logits, (same.features[0] + 1,))
method = MomentDiscrepancy()
assert method.losses({"source": same, "target": same}, {})["moments"] == 0
assert method.losses({"source": same, "target": shifted}, {})["moments"] > 0

# %% [markdown]
# ## Two domains
#
# CT phantoms with labels and MR phantoms of other people. The target's labels are not read.

# %%
folder = Path(tempfile.mkdtemp())
write_phantoms(folder / "ct", modality="ct", subjects=3, seed=0, size=0.5)
write_phantoms(folder / "mr", modality="mr", subjects=3, seed=1, size=0.5)
source, target = read_dataset(folder / "ct"), read_dataset(folder / "mr")
classes = len(source.label_names)

grid = {"spacing": (8.0, 8.0, 8.0), "roi_size": (32, 32, 32)}
datasets = {
    "source": CacheDataset(source.items(), preset("ct", "train", augmentation="modality", **grid), progress=False),
    "target": CacheDataset(
        [{"image": item["image"]} for item in target.items()],
        preset("mr", "train", labelled=False, augmentation="modality", **grid),
        progress=False,
    ),
}
loader = DomainLoader(datasets, steps=8, batch_size=1, seed=0)

# %% [markdown]
# ## Train
#
# Methods stand side by side in a list. Each domain runs forward once per step, however many methods there are.
# The parameters of methods that have some (discriminators) belong to the same optimizer.

# %%
network = UNet(3, 1, classes, channels=(8, 16, 32), strides=(2, 2), norm="INSTANCE")
methods = [MomentDiscrepancy(weight=0.1), MeanTeacher(classes)]
parameters = [*network.parameters(), *(p for method in methods for p in method.parameters())]
trainer = AdaptationTrainer(
    "cpu",
    max_epochs=3,
    train_data_loader=loader,
    network=network,
    optimizer=torch.optim.Adam(parameters, lr=4e-3),
    loss_function=ClassBalancedDiceCELoss(classes),
    methods=methods,
    train_handlers=[StrengthSchedule(methods, warm_up=8, ramp=8)],
)
trainer.run()
for name, value in trainer.state.output["losses"].items():
    print(f"{name:20s} {float(value):.4f}")

# %% [markdown]
# ## From a configuration, or from the command line
#
# Put the class in a module on your path, say `my_methods.py`. In a bundle's `train.json` it is one more entry of
# `methods`:
#
# ```json
# {"_target_": "my_methods.MomentDiscrepancy", "weight": 0.1}
# ```
#
# and on the command line `monai-transfer adapt --source ct --target mr --method my_methods.MomentDiscrepancy
# --output bundle`.
#
# To give a method to the package itself: one file in `monai_transfer/adaptation/`, its export line, a test that
# subclasses `MethodContract` (`tests/adaptation/contract.py`), and its row in `docs/methods.md`.
