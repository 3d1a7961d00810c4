"""One process gives the orders, the others train with it.

A command under ``torchrun`` does much beside training: it makes folders, scores, chooses, writes reports. All that is
done by the first process alone, as if it were alone. Where it begins a training (:meth:`BundleFolder.run`) it tells the
others which one, and they take part in it and wait for the next, until the first process sends them home.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.text import literal

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

OVERLAY = "multi_gpu_train"
"""The configuration that makes a training one of several processes."""

_WAIT = 0.1
"""Seconds between two looks for an order: short beside a training, and Ctrl-C is answered meanwhile."""

_orders = 0


def with_overlay(root: Path, configs: Sequence[str]) -> list[str]:
    """The configurations that several processes train by.

    Raises:
        UserError: the bundle cannot be trained by several.
    """
    if not (root / "configs" / f"{OVERLAY}.json").is_file():
        raise UserError(
            f"{root} cannot be trained by several processes: configs/{OVERLAY}.json is missing; start the training "
            "without torchrun."
        )
    return [*configs, OVERLAY]


def training_workflow(root: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> "ConfigWorkflow":
    """The training of a bundle by these configurations, ready to begin; nothing is read from its data yet."""
    from monai.bundle import ConfigWorkflow  # here: to list or copy bundles nobody should wait for MONAI

    return ConfigWorkflow(
        config_file=[str(root / "configs" / f"{config}.json") for config in configs],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference" if configs[-1] == "inference" else "train",
        bundle_root=literal(str(root)),
        **overrides,
    )


def give_order(root: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Tell the other processes what to train next; without an order they wait."""
    device = overrides.get("device")
    rest = {name: value for name, value in overrides.items() if name != "device"}
    kind = "" if device is None else device.type
    _send({"root": str(root), "configs": list(configs), "overrides": rest, "device": kind})


def send_home() -> None:
    """Tell the other processes that there is nothing more to train."""
    _send(None)


def follow() -> None:
    """Take part in the trainings of the first process until it has no more.

    Raises:
        UserError: the training cannot go on, here or in another process.
    """
    from monai_transfer.processes import leave_processes, own_device

    while (order := _receive()) is not None:
        overrides = order["overrides"]
        if order["device"]:
            overrides["device"] = own_device(order["device"])
        try:
            workflow = training_workflow(Path(order["root"]), order["configs"], overrides)
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        finally:
            leave_processes()


def _send(order: Mapping[str, Any] | None) -> None:
    from monai_transfer.processes import meeting_place

    global _orders
    store, *_ = meeting_place()
    store.set(f"order/{_orders}", json.dumps(order))
    _orders += 1


def _receive() -> dict[str, Any] | None:
    from monai_transfer.processes import meeting_place

    global _orders
    store, *_ = meeting_place()
    while not store.check([f"order/{_orders}"]):
        time.sleep(_WAIT)
    order: dict[str, Any] | None = json.loads(store.get(f"order/{_orders}"))
    _orders += 1
    return order
