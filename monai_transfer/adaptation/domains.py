"""Which of a step's domains are sources and which are the target."""

from collections.abc import Mapping
from typing import TypeVar

from monai_transfer.errors import UserError

T = TypeVar("T")


def is_target(name: str) -> bool:
    """Whether a domain's name marks it as the target: ``"target"``, ``"target_labelled"``, …."""
    return name.startswith("target")


def of_sources(domains: Mapping[str, T]) -> list[T]:
    """What belongs to the sources, in order.

    Raises:
        UserError: there is none.
    """
    found = [value for name, value in domains.items() if not is_target(name)]
    if not found:
        raise UserError("this adaptation method compares source and target: give it a source domain too")
    return found


def of_target(domains: Mapping[str, T]) -> list[T]:
    """What belongs to the target, in order.

    Raises:
        UserError: there is none.
    """
    found = [value for name, value in domains.items() if is_target(name)]
    if not found:
        raise UserError('this adaptation method needs the target: give the trainer a domain named "target"')
    return found
