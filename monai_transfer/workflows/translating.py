"""A labelled data set of source volumes that look like the target's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.adaptation import UnpairedTranslation
from monai_transfer.bundle.folder import require_free
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains
from monai_transfer.datasets.writing import write_description
from monai_transfer.errors import UserError
from monai_transfer.inference.sinks import with_values_of
from monai_transfer.transforms import preset
from monai_transfer.volumes.reading import write_volume

LEAST_PATCH = 16
"""Voxels along an axis that a patch needs at least."""


def translate_source(
    domains: Domains,
    plan: Plan,
    output: str | Path,
    *,
    width: int = 16,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, float]:
    """Learn to give the source's volumes the target's appearance, and write them with their labels.

    ``output`` becomes a data set of the target's modality on the working grid (``images``, ``labels``,
    ``dataset.json``), another source to adapt from. See :class:`~monai_transfer.adaptation.UnpairedTranslation` for the
    method, its source and its limits.

    Args:
        domains: labelled source cases, and target cases whose labels are not read.
        plan: grid, window, modalities, steps, device and seed.
        output: folder to write to.
        width: width of the generator's first layer.
        overwrite: whether to write into a folder that holds something.
        progress: called with (done, all, what) after each step of the training.

    Returns:
        The losses of the end of the training (``discriminator``, ``generator``, ``contrast``).

    Raises:
        UserError: when the folder is taken or holds volumes of other cases, a volume is too small for a patch, or the
            images have several channels.
    """
    root = Path(output)
    require_free(root, overwrite=overwrite)
    _require_no_others(root, domains.source.names)
    if len(domains.source.channel_names) > 1 or len(domains.target.channel_names) > 1:
        raise UserError(f"{domains.source.root} or {domains.target.root} has several channels; translate takes one.")
    labelled = plan.validation_preset(domains.source.reading)
    unlabelled = preset(
        plan.target_modality, "infer", spacing=plan.spacing, window=plan.window, reading=domains.target.reading
    )
    source: list[dict[str, MetaTensor]] = [labelled(item) for item in domains.source.items()]
    target: list[dict[str, MetaTensor]] = [unlabelled({Keys.IMAGE: i[Keys.IMAGE]}) for i in domains.target.items()]
    patch = _patch_size([case[Keys.IMAGE] for case in (*source, *target)], plan)
    root.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is found out before the training
    model = UnpairedTranslation(len(patch), patch_size=patch, width=width, seed=plan.seed).to(plan.device)

    def tell(step: int, _losses: dict[str, float]) -> None:
        if progress is not None:
            progress(step, plan.steps, "")

    images = [[case[Keys.IMAGE] for case in cases] for cases in (source, target)]
    losses = model.fit(*images, steps=plan.steps, batch_size=plan.batch_size, on_step=tell)
    for name, case in zip(domains.source.names, source, strict=True):
        made = _stored(model.translate(case[Keys.IMAGE].as_tensor()), plan)
        affine = case[Keys.IMAGE].affine.cpu().numpy().astype(np.float64)
        label = case[Keys.LABEL].as_tensor()[0].cpu().numpy().astype(np.uint8)
        write_volume(with_values_of(label, plan.label_values), _file(root, "labels", name), affine=affine)
        write_volume(made, _file(root, "images", name), affine=affine)
    modality = plan.target_modality.upper()
    write_description(
        root,
        name=f"{domains.source.root.name} as {modality}",
        text=f"{domains.source.root.name} translated after {domains.target.root.name}; labels as they were.",
        modalities=[modality],
        label_names=plan.label_names,
    )
    return losses


def _require_no_others(root: Path, names: Sequence[str]) -> None:
    """A data set is its folder: volumes of other cases would become part of it."""
    others = sorted({path.name for path in (root / "images").glob("*.nii.gz")} - {f"{name}.nii.gz" for name in names})
    if others:
        raise UserError(
            f"{root / 'images'} holds {others[0]}, which is not one of the cases to translate and would become part "
            "of the data set; choose another --output."
        )


def _patch_size(images: list[MetaTensor], plan: Plan) -> tuple[int, ...]:
    """As large as the window and the smallest volume allow, a multiple of what the generator halves."""
    smallest = [min(image.shape[axis] for image in images) for axis in range(1, images[0].ndim)]
    patch = tuple(min(most, length) // 4 * 4 for most, length in zip(plan.roi_size, smallest, strict=True))
    if min(patch) < LEAST_PATCH:
        raise UserError(
            f"A volume has only {min(smallest)} voxels along an axis of the working grid, too few to translate; choose "
            f"a finer --spacing, so that there are {LEAST_PATCH} or more."
        )
    return patch


def _stored(image: Tensor, plan: Plan) -> np.ndarray:
    """One channel in the unit of the target's files: HU, or an arbitrary one from 0 up."""
    plain = image[0].float().cpu()
    if plan.target_modality == "ct":
        low, high = plan.window
        return (low + (plain.clamp(-1, 1) + 1) / 2 * (high - low)).numpy()
    return (plain - plain.min()).mul(100).numpy()


def _file(root: Path, folder: str, name: str) -> Path:
    return root / folder / f"{name}.nii.gz"
