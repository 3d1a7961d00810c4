# %% [markdown]
# # Pretrain a network on shapes that nobody drew
#
# `monai-transfer pretrain` needs no data: it draws label maps of random shapes, paints each of them twice in random
# contrasts, and teaches a network to tell the shapes apart whatever they are painted with. Here a few steps, to see the
# parts; the weights that come with the package (`shapes:unet`) had 2600 steps on a GPU.

# %%
import random
import tempfile
from pathlib import Path

import torch
from monai.networks.nets import UNet

from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.pretraining_plan import PretrainingPlan
from monai_transfer.pretraining import KINDS, MOST_SHAPES, draw_shapes, paint_shapes
from monai_transfer.weights import load_pretrained
from monai_transfer.workflows.pretraining import pretrain

# %% [markdown]
# ## What the network sees
#
# One label map in two appearances: the shapes are alike, no intensity is.

# %%
generator, choices = torch.Generator().manual_seed(0), random.Random(0)
shapes, kinds = draw_shapes(1, (32, 32, 32), generator, choices)
first, second = (paint_shapes(shapes, MOST_SHAPES, generator, choices) for _ in range(2))
print(f"{len(shapes.unique())} shapes of the kinds {', '.join(KINDS[kind] for kind in kinds.unique())}")
print(f"correlation of the appearances: {torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]:.2f}")

# %% [markdown]
# ## Pretraining
#
# The same as `monai-transfer pretrain --output shapes --steps 4 --length 32`. TensorBoard shows the losses and, in each
# epoch, both appearances with the features that the network makes of them.

# %%
plan = PretrainingPlan(device=torch.device("cpu"), steps=4, length=32, batch_size=1)
result = pretrain(plan, Path(tempfile.mkdtemp()) / "shapes", say=print)
print(*result.sentences, sep="\n")

# %% [markdown]
# ## Starting from it
#
# The file is a SPEC like any other. Its report says what it was pretrained on; only the head, which named kinds of
# shapes, starts anew.

# %%
definition = network_definition("unet", classes=3)
definition.pop("_target_")
report = load_pretrained(UNet(**definition), result.weights)
print(report.summary(), *report.notes)
