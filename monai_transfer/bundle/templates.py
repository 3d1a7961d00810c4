"""The bundles that come with the package: what new bundles are made from, and what is trusted without a record."""

from pathlib import Path

import monai_transfer
from monai_transfer.errors import UserError

_PACKAGED = Path(monai_transfer.__file__).parent / "bundles"
_CHECKOUT = Path(monai_transfer.__file__).parents[1] / "bundles"


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
