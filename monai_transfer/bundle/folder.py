"""A bundle folder: copied from a template, filled with choices, run through ``monai.bundle``."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from monai.bundle import ConfigWorkflow

import monai_transfer
from monai_transfer.engines import GracefulInterrupt
from monai_transfer.errors import UserError
from monai_transfer.files import write_text

_PACKAGED = Path(monai_transfer.__file__).parent / "bundles"
_CHECKOUT = Path(monai_transfer.__file__).parents[1] / "bundles"
_PARTS = ("configs", "docs", "LICENSE")


def templates() -> dict[str, Path]:
    """Name -> folder of the bundles that come with the package."""
    home = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return {folder.name: folder for folder in sorted(home.iterdir()) if (folder / "configs").is_dir()}


def template(name: str) -> Path:
    """The folder of one bundle of :func:`templates`.

    Raises:
        UserError: when there is no bundle of that name.
    """
    known = templates()
    if name not in known:
        raise UserError(f"There is no bundle {name!r}; `monai-transfer bundles list` names {', '.join(known)}.")
    return known[name]


def require_free(root: str | Path, *, overwrite: bool = False) -> None:
    """See that a bundle can be made at ``root``.

    Raises:
        UserError: when it holds something already and ``overwrite`` is off.
    """
    folder = Path(root)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise UserError(f"{root} exists and is not empty: choose another --output, or add --overwrite.")


class BundleFolder:
    """A MONAI bundle on disk that can be changed and run.

    Args:
        root: the folder that holds ``configs``.

    Raises:
        UserError: when the folder is not a bundle.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        if not (self.root / "configs" / "metadata.json").is_file():
            raise UserError(f"{root} is not a bundle: configs/metadata.json is missing; give the bundle's folder.")

    @classmethod
    def create(cls, name: str, root: str | Path, *, overwrite: bool = False) -> Self:
        """Copy the template ``name`` to ``root``.

        Raises:
            UserError: when ``root`` holds something already and ``overwrite`` is off.
        """
        return cls.copy(template(name), root, overwrite=overwrite)

    @classmethod
    def copy(cls, source: Path, root: str | Path, *, overwrite: bool = False) -> Self:
        """Copy the bundle in ``source`` to ``root``, but for what its training left.

        Raises:
            UserError: when ``root`` holds something already and ``overwrite`` is off.
        """
        require_free(root, overwrite=overwrite)
        folder = Path(root)
        for part in _PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
            elif (source / part).is_file():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / part, folder / part)
        return cls(folder)

    @property
    def weights(self) -> Path:
        """Where the bundle's network weights lie."""
        return self.root / "models" / "model.pt"

    def read(self, config: str) -> dict[str, Any]:
        """The content of ``configs/<config>.json``."""
        content: dict[str, Any] = json.loads((self.root / "configs" / f"{config}.json").read_text())
        return content

    def change(self, config: str, changes: Mapping[str, Any]) -> None:
        """Set values by id (``"train#dataloader#steps"``) in ``configs/<config>.json``."""
        content = self.read(config)
        for name, value in changes.items():
            _assign(content, name.split("#"), value)
        write_text(self.root / "configs" / f"{config}.json", json.dumps(content, indent=2) + "\n")

    def run(self, *configs: str, device: torch.device | None = None, **overrides: Any) -> ConfigWorkflow:
        """Do what ``python -m monai.bundle run --config_file …`` does with these configs, merged in order.

        Raises:
            UserError: when a Python expression or an object of the configuration raised one.
            KeyboardInterrupt: when training was interrupted; the checkpoint was saved.
        """
        if device is not None:
            overrides["device"] = device
        files = [str(self.root / "configs" / f"{config}.json") for config in configs]
        workflow_type = "inference" if configs[-1] == "inference" else "train"
        try:
            workflow = ConfigWorkflow(
                config_file=files,
                meta_file=str(self.root / "configs" / "metadata.json"),
                logging_file=False,
                workflow_type=workflow_type,
                bundle_root=str(self.root),
                **overrides,
            )
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        except Exception as error:
            raise _user_error(error) or error from None
        if workflow_type == "train" and _interrupted(workflow):
            raise KeyboardInterrupt
        return workflow


def _assign(content: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        content = content[int(key) if isinstance(content, list) else key]
    content[int(keys[-1]) if isinstance(content, list) else keys[-1]] = value


def _user_error(error: BaseException | None) -> UserError | None:
    """The sentence for the user that MONAI's configuration parser wrapped, if there is one."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _interrupted(workflow: ConfigWorkflow) -> bool:
    handlers = workflow.parser.get_parsed_content("train#handlers") if "train" in workflow.parser.get() else []
    return any(isinstance(handler, GracefulInterrupt) and handler.interrupted for handler in handlers)
