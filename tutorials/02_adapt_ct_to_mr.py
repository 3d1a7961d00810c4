# %% [markdown]
# # Adapt from CT to MR: plan, adapt, report
#
# CT phantoms with labels are the source, MR phantoms the target. The target's labels are read for two things alone:
# to train the oracle that shows what would be possible, and to score.
#
# The command `monai-transfer adapt` does all of this in one line. This page runs in under two minutes on one core; its
# budget is far too small for good scores, and three test subjects are too few to order methods.

# %%
import json
import tempfile
from pathlib import Path

from monai_transfer.bundle.methods import known_methods, method_definitions
from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.adaptation import adapt, choose_domains, plan_adaptation
from monai_transfer.workflows.reporting import report_adaptation
from monai_transfer.workflows.scoreboard import choose_arms, compare_methods, report_comparison

folder = Path(tempfile.mkdtemp())
write_phantoms(folder / "ct", modality="ct", subjects=5, size=0.3, seed=0)
write_phantoms(folder / "mr", modality="mr", subjects=7, size=0.3, seed=1)

# %% [markdown]
# ## Plan
#
# `choose_domains` keeps test subjects out of every training set. `plan_adaptation` checks each volume and chooses grid,
# window and network from what it saw; here the grid is coarse and the training short.

# %%
domains = choose_domains(folder / "ct", folder / "mr", test_cases=["mr_005", "mr_006", "mr_007"])
plan = plan_adaptation(domains, device="cpu", spacing=[12.0] * 3, steps=60)
print(f"{plan.network}, grid {plan.spacing} mm, windows of {plan.roi_size} voxels, {plan.steps} steps")
print("learns from", domains.source.names, "and, without labels, from", domains.target.names)
assert not set(domains.target.names) & set(domains.test.names)

# %% [markdown]
# ## Adapt
#
# A mean teacher and an adversary together: `MeanTeacher` asks for agreement with a slower copy of the network,
# `OutputAdversarial` for target label maps that look like the source's. Without `methods` the bundle's own recipe is
# used. Source-only and oracle are trained with the same budget.

# %%
print(", ".join(known_methods()))
methods = method_definitions(["MeanTeacher", "OutputAdversarial"])
result = adapt(domains, plan, folder / "bundle", methods=methods, say=print)

# %% [markdown]
# At the end both networks were compared on target images without labels. Where the adapted one looks worse, the bundle
# holds source-only's weights; `choose=False` leaves this out.

# %%
print(f"The bundle keeps {result.choice.kept}: {result.choice.reason}.")
assert (folder / "bundle" / "models" / "model.pt").is_file()
assert (folder / "bundle" / "models" / "adapted.pt").is_file() == (result.choice.kept == "source_only")

# %% [markdown]
# ## Report
#
# `report.html` needs no other file. A run that made things worse says so.

# %%
page = report_adaptation(result, folder / "bundle", title="Phantoms, CT to MR")
print("\n".join(result.summary.sentences))
report = json.loads(page.with_suffix(".json").read_text())
for arm in ("source_only", "adapted", "oracle"):
    print(f"{arm:>12}: Dice {report[arm]['dice']:.3f}")
assert report["kept"] in ("adapted", "source_only")

# %% [markdown]
# ## Compare methods
#
# The scoreboard trains each method once per seed beside floor and ceiling. A name without `Augmentation` is trained
# with ordinary augmentation; `+` combines. A second call goes on where the first stopped.

# %%
quick = plan.with_options(steps=20)
arms = choose_arms(["Augmentation", "Augmentation+MeanTeacher"])
comparison = compare_methods(domains, quick, folder / "scoreboard", arms=arms, seeds=[0], say=print)
print(report_comparison(comparison))
for name, figures in comparison.scoreboard.as_report()["methods"].items():
    print(f"{name:>26}: Dice {figures['dice']:.3f}, {figures['seconds']:.1f} s")
assert compare_methods(domains, quick, folder / "scoreboard", arms=arms, seeds=[0]).reused == 4

# %% [markdown]
# The same on your own data:
#
# ```
# monai-transfer adapt --source CT --target MR --method MeanTeacher --method OutputAdversarial --output ct_to_mr
# monai-transfer benchmark adaptation --source CT --target MR --methods Default,Augmentation,DANN --output scoreboard
# ```
