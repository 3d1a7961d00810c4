"""Adaptation methods by the names that ``--method`` takes."""

import importlib
from collections.abc import Sequence
from typing import Any

from monai_transfer import adaptation
from monai_transfer.adaptation import AdaptationMethod
from monai_transfer.errors import UserError

_CLASSES = "$len(@labels)"
_FEATURES = "@feature_channels"
_ARGUMENTS = {
    "classes": _CLASSES,
    "in_channels": _FEATURES,
    "spatial_dims": "$len(@roi_size)",
    "network": "@network",
    "sources": "$[name for name in @domain_weights if not name.startswith('target')]",
}


def known_methods() -> list[str]:
    """The methods that come with the package."""
    members = (getattr(adaptation, name) for name in adaptation.__all__)
    return sorted(
        member.__name__
        for member in members
        if isinstance(member, type) and issubclass(member, AdaptationMethod) and member is not AdaptationMethod
    )


def method_definitions(names: Sequence[str] | None) -> list[dict[str, Any]] | None:
    """What a bundle's configuration says for these methods; ``None`` keeps the bundle's own recipe.

    Args:
        names: names of :func:`known_methods`, or import paths of classes from elsewhere (``package.module.Class``).

    Raises:
        UserError: when a name is neither, or stands twice.
    """
    if not names:
        return None
    twice = [name for name in names if [other.lower() for other in names].count(name.lower()) > 1]
    if twice:
        raise UserError(f"--method {twice[0]} stands twice: name each method once.")
    return [definition for name in names for definition in _definition(name)]


def _definition(name: str) -> list[dict[str, Any]]:
    if name.lower() in ("sourceonly", "none"):
        return []
    known = {method.lower(): method for method in known_methods()}
    if name.lower() in known:
        proper = known[name.lower()]
        arguments = getattr(adaptation, proper).__init__.__annotations__
        filled = {argument: value for argument, value in _ARGUMENTS.items() if argument in arguments}
        return [{"_target_": f"monai_transfer.adaptation.{proper}", **filled}]
    if "." in name:
        return [{"_target_": _importable(name)}]
    raise UserError(f"--method {name} is not known: choose from {', '.join(known_methods())}, or give an import path.")


def _importable(path: str) -> str:
    """The import path of a method class, looked at before anything is trained."""
    module, _, name = path.rpartition(".")
    try:
        member = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--method {path} cannot be imported ({error}): give package.module.Class.") from error
    if not (isinstance(member, type) and issubclass(member, AdaptationMethod)):
        raise UserError(f"--method {path} is not an AdaptationMethod: derive the class from it.")
    return path
