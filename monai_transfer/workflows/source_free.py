"""Adapting a trained bundle to images at hand, without its training data and without labels."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from monai.transforms import SpatialPad
from monai.utils import PytorchPadMode, convert_to_tensor
from pydantic import Field
from torch import Tensor, nn

from monai_transfer.adaptation import AdaptedNetwork, random_patches, tent, view_consistency
from monai_transfer.adaptation.norm_layers import affine_norms
from monai_transfer.bundle.facts import ATLAS_FILE, finder_in
from monai_transfer.bundle.folder import BundleFolder, require_free
from monai_transfer.bundle.handing_on import give_finder
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.datasets import CaseDataset, read_dataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation import ScoreTable
from monai_transfer.files import replacing, write_record
from monai_transfer.inference import InputCase, find_cases
from monai_transfer.inference.parts import part_seen
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.machine import choose_device, hardware, launched, versions
from monai_transfer.options import LearningRate, Seed, Steps, validated
from monai_transfer.volumes.volume import Reading
from monai_transfer.workflows.judging import renew_familiarity
from monai_transfer.workflows.scoring import score_bundle

_ALL_WEIGHTS = 0.03
"""Share of the learning rate where all weights are changed."""

VOLUMES = 16
"""So many volumes, at most, are adapted to."""


@validated
class TestTimeSettings:
    """How, how long and how fast a network is adapted.

    Attributes:
        method: ``consistency`` of what is drawn in two views of a patch, or ``entropy``, which makes it certain;
            networks that name classes know ``entropy`` alone.
        steps: optimizer steps, one patch each.
        learning_rate: of Adam, for scale and shift of normalisation layers; 3 % of it where a network has none and
            all weights are changed.
        patches: patches of the size of the bundle's window, in turn from the volumes.
        seed: of the patches and of the views.
    """

    method: Literal["consistency", "entropy"] = "consistency"
    steps: Steps = 40
    learning_rate: LearningRate = 1e-3
    patches: Annotated[int, Field(ge=1, le=10_000)] = 16
    seed: Seed = 0

    __test__ = False  # for pytest, which would take a class of this name for a test

    def adapted(self, network: nn.Module, images: Sequence[Tensor]) -> AdaptedNetwork:
        """A copy of a network that was adapted to batches of images, so long and so fast."""
        if self.method == "consistency":
            return view_consistency(network, images, seed=self.seed, **self._pace(network))
        return self.certain(network, images)

    def certain(self, network: nn.Module, images: Sequence[Tensor]) -> AdaptedNetwork:
        """The same by ``entropy``, whatever the method."""
        return tent(network, images, **self._pace(network))

    def _pace(self, network: nn.Module) -> dict[str, Any]:
        norms = bool(affine_norms(network))
        rate = self.learning_rate if norms else _ALL_WEIGHTS * self.learning_rate
        return {"steps": self.steps, "learning_rate": rate, "parameters": "norm" if norms else "all"}


@dataclass(frozen=True)
class SourceFree:
    """What came of it.

    Attributes:
        bundle: the new bundle; it holds the old weights where the adapted ones were rolled back.
        adapted: label-free scores before and after, and whether the adapted weights were kept.
        before: scores of the old bundle on labelled cases, where there are any.
        after: scores of the new bundle on them.
    """

    bundle: BundleFolder
    adapted: AdaptedNetwork
    before: ScoreTable | None = None
    after: ScoreTable | None = None

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        told = [adaptation_sentence(self.adapted)]
        if self.before is not None and self.after is not None:
            cases = len(self.after.cases)
            was, now = self.before.mean("dice"), self.after.mean("dice")
            told.append(f"Mean Dice on {cases} labelled case(s): {was:.3f} before, {now:.3f} after.")
        return told

    def as_report(self) -> dict[str, Any]:
        """``report.json``."""
        return {
            "kept": self.adapted.kept,
            **_figures(self.adapted),
            "before": self.before.figures() if self.before else None,
            "after": self.after.figures() if self.after else None,
            "hardware": hardware(),
            "versions": versions(),
        }


def choose_images(
    target: str | Path,
    test: str | Path | None = None,
    *,
    target_cases: Sequence[str] = (),
    test_cases: Sequence[str] = (),
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> tuple[CaseDataset, CaseDataset | None]:
    """The images to adapt to, and the labelled cases to score before and after.

    Nothing is learnt from labels here, so the cases to score may be among the images.

    Args:
        target: data set of the domain to adapt to.
        test: labelled data set for the scores; the target by default.
        target_cases: name patterns of the images; all by default.
        test_cases: name patterns of the cases to score; by default all of ``test``, or the images.
        reading: how strictly files are read.

    Raises:
        UserError: a data set cannot be read, or a pattern meets no case.
    """
    whole = read_dataset(target, reading=reading)
    images = whole.select(target_cases or ["*"])
    if test is None:
        held = (whole.select(test_cases) if test_cases else images).labelled
    else:
        held = read_dataset(test, reading=reading).select(test_cases or ["*"]).labelled
    return images, held if held.cases else None


def adapt_source_free(
    bundle: str | Path,
    images: CaseDataset,
    output: str | Path,
    *,
    test: CaseDataset | None = None,
    settings: TestTimeSettings | None = None,
    device: str = "auto",
    trust: bool = False,
    overwrite: bool = False,
) -> SourceFree:
    """Write a copy of a bundle whose network was adapted to the target's images (see :func:`adapt_network`).

    Args:
        bundle: the trained bundle, left untouched.
        images: of the target; labels are not read.
        output: the bundle folder to make; also gets ``report.json``.
        test: labelled cases to score before and after.
        settings: how long and how fast.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: let a bundle that was not made here run whatever code it names; the copy stays foreign then.
        overwrite: whether to write into a folder that holds something.

    Raises:
        UserError: when the output is taken or no image can be read.
    """
    if launched() > 1:
        raise UserError("Adapting a bundle without its training data is the work of one process: omit torchrun.")
    old = BundleFolder(bundle)
    require_free(output, overwrite=overwrite)
    read = read_bundle(old.root, device=choose_device(device), trust=trust)
    adapted = adapt_network(
        read,
        [InputCase(case.name, tuple(case.images)) for case in images.cases],
        settings=settings,
        reading=images.reading,
    )
    new = copy_with(adapted, old, output, overwrite=overwrite)
    renew_familiarity(new, images, device=device, trust=trust)
    scores = (
        [score_bundle(each, test, device=device, trust=trust) for each in (old, new)]
        if test is not None
        else [None, None]
    )
    result = SourceFree(new, adapted, *scores)
    write_record(new.root / "report.json", result.as_report())
    return result


def adapt_to_inputs(
    bundle: InferenceBundle,
    inputs: Sequence[Path],
    *,
    settings: TestTimeSettings | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> tuple[InferenceBundle, AdaptedNetwork]:
    """The bundle with its network adapted to what is to be segmented; on disk it stays as it is.

    Raises:
        UserError: when there is no input, or none can be read.
    """
    cases = find_cases(list(inputs), channels=bundle.in_channels, optional=bundle.optional_channels).cases
    adapted = adapt_network(bundle, cases, settings=settings, reading=reading)
    checksum = f"{bundle.checksum}+adapted" if adapted.kept else bundle.checksum
    return replace(bundle, network=adapted.network, checksum=checksum), adapted


def adapt_network(
    bundle: InferenceBundle,
    cases: Sequence[InputCase],
    *,
    settings: TestTimeSettings | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> AdaptedNetwork:
    """Adapt a copy of a bundle's network to a few volumes.

    A volume that cannot be read is left out. The copy is rolled back where its label-free score drops.

    Raises:
        UserError: when no volume can be read.
    """
    chosen = settings or TestTimeSettings()
    device = next(bundle.network.parameters()).device
    images, faults, seen = [], [], part_seen(bundle)
    for case in cases[:VOLUMES]:
        try:
            _, part = seen(case.read(reading))
            image = preprocess(part, bundle.preprocessing, key=bundle.image_key, device=device)
        except UserError as error:
            faults.append(str(error))
        else:
            images.append(image.as_tensor().float())
    if not images:
        raise UserError(faults[0] if faults else "There is no volume to adapt to; name at least one.")
    whole = SpatialPad(bundle.window.roi_size, mode=PytorchPadMode.REPLICATE)
    images = [convert_to_tensor(whole(image), track_meta=False) for image in images]
    patches = random_patches(images, bundle.window.roi_size, count=chosen.patches, seed=chosen.seed)
    return chosen.adapted(bundle.network, patches)


def copy_with(adapted: AdaptedNetwork, old: BundleFolder, output: str | Path, *, overwrite: bool) -> BundleFolder:
    """A copy of a bundle that holds the weights of its adapted network.

    Raises:
        UserError: the output is taken.
    """
    with BundleFolder.making(old.root, output, overwrite=overwrite) as new, replacing(new.weights) as file:
        torch.save(adapted.network.state_dict(), file)
    atlas = old.weights.with_name(ATLAS_FILE)
    if atlas.is_file():
        shutil.copy2(atlas, new.weights.with_name(ATLAS_FILE))
    if (finder := finder_in(old.root)) is not None:
        give_finder(new, finder)
    return new


def adaptation_sentence(adapted: AdaptedNetwork) -> str:
    """One sentence on an adaptation."""
    scores = f"information of the predictions {adapted.score_before:.3f} → {adapted.score_after:.3f}"
    agreement = f"label maps agree to {adapted.agreement:.2f} Dice"
    if adapted.kept:
        return f"The network was adapted to the images: {scores}, {agreement}."
    return f"The adapted network looked worse without labels and was rolled back: {scores}, {agreement}."


def _figures(adapted: AdaptedNetwork) -> dict[str, Any]:
    return {name: getattr(adapted, name) for name in ("score_before", "score_after", "agreement")}
