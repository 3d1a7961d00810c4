# %% [markdown]
# # Diagnose radiographs, and see where the network looked
#
# Radiographs of phantoms, some with a mass in a lung: a network learns to tell them apart, its probabilities are
# calibrated, a threshold is chosen, and Grad-CAM shows what moved it. The budget is far too small for good scores: this
# page runs in CI. `docs/diagnosis.md` has the commands.

# %%
import csv
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from monai_transfer.datasets import check_exams, read_exams
from monai_transfer.phantoms import write_radiographs
from monai_transfer.workflows.diagnosing import diagnose
from monai_transfer.workflows.diagnosis import plan_diagnosis, train_diagnosis
from monai_transfer.workflows.exam_split import choose_exams

folder = Path(tempfile.mkdtemp())
write_radiographs(folder / "data", subjects=40, size=0.4, findings=("healthy", "mass"))

# %% [markdown]
# ## Data
#
# A folder per class. Every file is a patient of its own here; with real data a table says whose each image is, for the
# split is by patient. `check_exams` reads every file and looks for what leaks from one split into another.

# %%
exams = read_exams(folder / "data")
report = check_exams(exams)
print(exams.counts, "sound:", report.sound, "pixels:", report.size)
split = choose_exams(folder / "data")
print(len(split.training), "to learn from,", len(split.validation), "to watch,", len(split.held), "held")
assert not set(split.training.patients) & set(split.held.patients)

# %% [markdown]
# ## Train
#
# The network sees the whole picture. After the training its temperature and threshold are chosen on the validation's
# examinations; the held ones are only scored, with an interval that draws patients anew.

# %%
plan = plan_diagnosis(split, device="cpu", steps=60, size=64)
result = train_diagnosis(split, plan, folder / "bundle", say=print)
print("\n".join(result.sentences))
assert (folder / "bundle" / "report.html").is_file()

# %% [markdown]
# ## Diagnose
#
# Any image of the kind; here new people. The table has probabilities and decisions, `maps` what moved the network.

# %%
write_radiographs(folder / "new", subjects=4, first=101, size=0.4, findings=("healthy", "mass"))
record = diagnose([folder / "new"], folder / "bundle", folder / "said", device="cpu")
for row in csv.DictReader((folder / "said" / "diagnosis.csv").open()):
    print(row["name"], row["decision"], row["mass"])
heat = np.asarray(Image.open(record["images"][0]["map"]))
print("image beside map:", heat.shape)
