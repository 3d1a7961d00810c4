"""A bundle as it is given to others: all that runs, without where its data lay and what its cases were called."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_transfer.bundle.facts import (
    ATLAS_FILE,
    DIAGNOSIS,
    FINDER,
    config_file,
    finder_in,
    parse_config,
    require_bundle,
)
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.errors import UserError
from monai_transfer.files import sha256

CONFIGS = ("train", "finetune", "adapt", "masked", "evaluate")
"""The configurations that a training writes folders and names of cases into; inference and metadata hold none."""


def hand_on(bundle: str | Path, folder: str | Path, *, overwrite: bool = False) -> BundleFolder:
    """Copy a trained bundle without the folders and case names of its maker.

    Whoever trains it again gives folders anew (``--dataset_dir``, ``--source_dir``, …); the cases are then split by
    share, as in the templates. Inference and evaluation are as before.

    Args:
        bundle: the folder of a bundle whose training is finished.
        folder: the folder to make.
        overwrite: whether a bundle that is there may be replaced.

    Raises:
        UserError: the bundle has no weights, or ``folder`` is taken or cannot be written.
    """
    root = require_bundle(bundle)
    names = (*(f"{name}.*" for name in ("model", DIAGNOSIS)), ATLAS_FILE)
    weights = [path for name in names for path in sorted((root / "models").glob(name))]
    if not (root / "models" / "model.pt").is_file():
        raise UserError(f"{root} has no models/model.pt to hand on: train it first, or give the name of a template.")
    files = {name: path for name in CONFIGS if (path := config_file(root, name)) and path.suffix == ".json"}
    configs = {name: without_origin(parse_config(path)) for name, path in files.items()}
    with BundleFolder.making(root, folder, configs=configs, overwrite=overwrite) as copy:
        (copy.root / "models").mkdir()
        for path in weights:
            shutil.copy2(path, copy.root / "models")
        if (finder := finder_in(root)) is not None:
            give_finder(copy, finder)
    return copy


def give_finder(bundle: BundleFolder, finder: str | Path) -> None:
    """Let a bundle look in the box in which another finds its labels: a copy of that one is kept beside its weights.

    Raises:
        UserError: the other has no weights, or the bundle has another finder already.
    """
    place = bundle.weights.with_name(FINDER)
    if not place.is_dir():
        place.parent.mkdir(exist_ok=True)
        hand_on(finder, place)
    elif sha256(place / "models" / "model.pt") != sha256(Path(finder) / "models" / "model.pt"):
        raise UserError(f"{bundle.root} looks in the boxes of another bundle than {finder}: choose another --output.")


def without_origin(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without folders and names of cases; expressions, which are the same for everybody, stay.

    Example:
        >>> without_origin({"dataset_dir": "/home/ann/ct", "train_cases": ["Smith"], "output_dir": "$@bundle_root"})
        {'dataset_dir': '', 'train_cases': [], 'output_dir': '$@bundle_root'}
    """
    return {name: _cleared(name, value) for name, value in content.items()}


def _cleared(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_origin(value)
    if name.endswith("cases") and isinstance(value, list):
        return []
    if isinstance(value, str) and not value.startswith(("$", "@", "%")):
        is_folder = name == "dir" or name.endswith("_dir")
        return "" if is_folder or Path(value).is_absolute() else value
    return value
