# %% [markdown]
# # Fine-tune a pretrained network: freeze, train the head, unfreeze, compare
#
# A network that has learnt to segment organs in many volumes starts better than a fresh one when only two labelled
# volumes from another place are at hand. Here two sets of MR phantoms stand for the two places; the same code takes
# MedicalNet's or ImageNet's weights (`medicalnet:resnet18`, `imagenet:vgg16_bn`, …).
#
# The command `monai-transfer finetune` does all of this in one line. This page runs in about a minute on a laptop;
# its budget is far too small for good scores.

# %%
import tempfile
from pathlib import Path

import torch
from ignite.engine import Events
from monai.data import CacheDataset
from monai.handlers import LrScheduleHandler
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric
from monai.networks import one_hot
from monai.networks.nets import UNet
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from monai_transfer.datasets import DomainLoader, read_dataset
from monai_transfer.engines import AdaptationTrainer
from monai_transfer.finetuning import (
    L2SP,
    BatchNormPolicy,
    GradualUnfreezing,
    LearningRateLog,
    freeze,
    parameter_groups,
    trainable_levels,
)
from monai_transfer.losses import ClassBalancedDiceCELoss
from monai_transfer.phantoms import write_phantoms
from monai_transfer.transforms import preset
from monai_transfer.weights import load_pretrained

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
SPACING, ROI, CLASSES, STEPS = (8.0, 8.0, 8.0), (32, 32, 32), 6, 10

# %% [markdown]
# ## Old data and new data
#
# Six labelled volumes to pretrain on; from the other place two to fine-tune on, and three to score.

# %%
write_phantoms(folder / "old", modality="mr", subjects=6, size=0.35, seed=0)
write_phantoms(folder / "new", modality="mr", subjects=5, size=0.35, seed=1)
old = read_dataset(folder / "old")
new, new_test = read_dataset(folder / "new").split(0.6)


def volumes(dataset, stage: str) -> CacheDataset:
    """The cases of a data set through the preset for MR."""
    pipeline = preset("mr", stage, spacing=SPACING, roi_size=ROI)
    return CacheDataset(dataset.items(), pipeline, progress=False)


def fresh_network() -> UNet:
    """A small U-Net with batch normalisation."""
    return UNet(3, 1, CLASSES, channels=(16, 32, 64), strides=(2, 2), norm="batch")


def train(network: nn.Module, dataset: CacheDataset, *, epochs: int, optimizer, handlers=(), regularizers=()) -> None:
    """Train for ``epochs`` of ``STEPS`` steps each."""
    AdaptationTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DomainLoader({"source": dataset}, steps=STEPS, batch_size=2, seed=0),
        network=network,
        optimizer=optimizer,
        loss_function=ClassBalancedDiceCELoss(CLASSES),
        regularizers=regularizers,
        train_handlers=list(handlers),
    ).run()


test_volumes = volumes(new_test, "validate")


def dice(network: nn.Module) -> float:
    """Mean foreground Dice on the test volumes."""
    metric, inferer = DiceMetric(include_background=False), SlidingWindowInferer(ROI, mode="gaussian")
    network.eval()
    with torch.no_grad():
        for case in test_volumes:
            labels = inferer(case["image"][None], network).argmax(dim=1, keepdim=True)
            metric(one_hot(labels, CLASSES), one_hot(case["label"][None].long(), CLASSES))
    return float(metric.aggregate().item())


# %% [markdown]
# ## Pretrain, and load with a report
#
# `load_pretrained` says for every tensor what became of it, and raises when too little of the encoder is covered.

# %%
pretrained = fresh_network()
train(pretrained, volumes(old, "train"), epochs=12, optimizer=torch.optim.AdamW(pretrained.parameters(), lr=4e-3))
torch.save({"state_dict": pretrained.state_dict()}, folder / "old.pt")

network = fresh_network()
report = load_pretrained(network, folder / "old.pt", minimum=0.9)
print(report.summary())
assert report.encoder_share == 1.0

# %% [markdown]
# ## Freeze, train the decoder and head, unfreeze
#
# - `parameter_groups` gives every level its learning rate, lower towards the input;
# - `GradualUnfreezing` starts with the encoder frozen and frees a level in every epoch, deepest first (it can wait for
#   a plateau of the validation score instead: `patience=2, validator=…`);
# - `BatchNormPolicy` keeps the statistics of frozen levels, although the trainer calls `network.train()` in each step
#   (for weights of another modality take the policy `"train"`: their statistics are wrong for the new images);
# - `L2SP` draws the weights to their pretrained values;
# - `LearningRateLog` writes down which level trained at which rate (and shows it in TensorBoard).

# %%
few = volumes(new, "train")
optimizer = torch.optim.AdamW(parameter_groups(network, learning_rate=4e-3, layerwise_decay=0.7), weight_decay=0.0)
schedule = WarmupCosineSchedule(optimizer, warmup_steps=5, t_total=4 * STEPS, warmup_multiplier=0.1)
log = LearningRateLog()
stem_before = network.model[0].conv.weight.detach().clone()


def stem_is_untouched(engine) -> None:
    """While it is frozen, the stem stays bitwise as it was."""
    if not trainable_levels(network)["stem"]:
        assert torch.equal(network.model[0].conv.weight, stem_before)


class StemCheck:
    """A handler of our own: anything with ``attach``."""

    def attach(self, engine) -> None:
        """Check after every epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, stem_is_untouched)


train(
    network,
    few,
    epochs=4,
    optimizer=optimizer,
    regularizers=[L2SP(network, alpha=0.01, report=report)],
    handlers=[
        GradualUnfreezing(epochs=1),
        BatchNormPolicy("follow_freezing"),
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
        log,
        StemCheck(),
    ],
)
for epoch, rates in log.history:
    print(f"epoch {epoch}:", ", ".join(f"{rate.level} {rate.learning_rate:.1e}" for rate in rates if rate.trainable))
first, last = log.history[0][1], log.history[-1][1]
assert [rate.level for rate in first if rate.trainable] == ["decoder", "head"]
assert all(rate.trainable for rate in last)
assert not torch.equal(network.model[0].conv.weight, stem_before)

# %% [markdown]
# ## Compare
#
# The same two volumes and the same steps from scratch, and the pretrained head alone (the whole encoder frozen).

# %%
scratch = fresh_network()
train(scratch, few, epochs=4, optimizer=torch.optim.AdamW(scratch.parameters(), lr=4e-3))

head_only = fresh_network()
load_pretrained(head_only, folder / "old.pt")
freeze(head_only, ["encoder"])
groups = parameter_groups(head_only, learning_rate=4e-3)
train(head_only, few, epochs=4, optimizer=torch.optim.AdamW(groups), handlers=[BatchNormPolicy("follow_freezing")])

scores = {"pretrained, as it is": dice(pretrained), "from scratch": dice(scratch)}
scores |= {"encoder frozen": dice(head_only), "gradually unfrozen": dice(network)}
for name, score in scores.items():
    print(f"{name:>22}: Dice {score:.3f}")
if scores["gradually unfrozen"] < scores["from scratch"]:
    print("Negative transfer: here the pretrained weights did harm.")

# %% [markdown]
# The same on your own data, with the comparison and a bundle as the result:
#
# ```
# monai-transfer finetune --data NEW --weights BUNDLE --output tuned --unfreeze 2 --l2sp 0.01 --compare scratch
# ```
