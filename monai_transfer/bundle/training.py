"""The training of a bundle: what one that was cut off left, and one that several processes do together.

A command under ``torchrun`` does much beside training: it makes folders, scores, chooses, writes reports. All that is
done by the first process alone, as if it were alone. Where it begins a training (:meth:`BundleFolder.run`) it tells the
others which one, and they take part in it and wait for the next, until the first process sends them home.
"""

import errno
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError, behind
from monai_transfer.files import another_works, cannot_write, owner, write_text
from monai_transfer.text import literal

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

CHECKPOINTS = "checkpoints"
"""The folder of the training's states, as the configurations name it."""

_MARK = ".training"
"""A file that lies in a bundle while it is trained; where it is still there later, the training was cut off."""

_RECORD = Path("eval", "training.json")

_TRAINED_BY = ("train", "finetune", "masked")
"""The configurations that decide over the weights; those for inference and the card are also written later."""

OVERLAY = "multi_gpu_train"
"""The configuration that makes a training one of several processes."""

_WAIT = 0.1
"""Seconds between two looks for an order: short beside a training, and Ctrl-C is answered meanwhile."""

_orders = 0


def mark_unfinished(root: Path) -> None:
    """Say that the bundle at ``root`` is being trained."""
    write_text(root / _MARK, owner())


def mark_finished(root: Path, seconds: float | None = None) -> None:
    """Say that it is trained to the end, and how long that took; its states are removed."""
    if seconds is not None:
        write_text(root / _RECORD, json.dumps({"seconds": round(seconds, 3)}) + "\n")
    # in this order: without its states a training that still counts as unfinished would begin anew
    (root / _MARK).unlink(missing_ok=True)
    shutil.rmtree(root / CHECKPOINTS, ignore_errors=True)


def training_seconds(root: Path) -> float | None:
    """How long the finished training took, in all its processes; steps that were lost and done again count once."""
    path = root / _RECORD
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.is_file() else None


def require_idle(root: Path) -> None:
    """See that no other process of this machine trains the bundle at ``root``.

    Raises:
        UserError: one does.
    """
    if another_works(root / _MARK):
        raise UserError(f"{root} is being trained by another process: wait until it ends, or choose another --output.")


def is_unfinished(root: Path) -> bool:
    """Whether a training at ``root`` was cut off, or still runs."""
    return (root / _MARK).exists()


def write_fault(root: Path, error: BaseException) -> UserError | None:
    """The sentence for a disk that is full, or that no longer lets itself be written to, while ``root`` is trained."""
    if isinstance(error, OSError):
        ours = str(error.filename or "").startswith(str(root))
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) or (ours and isinstance(error, PermissionError)):
            return cannot_write(root, error)
    elif isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in str(error):
        # torch says no more: the file could be opened and not be written, which is what a full disk does
        return cannot_write(root, OSError(errno.ENOSPC, ""))
    return None


def kept_step(root: Path) -> int | None:
    """The finished steps of the newest state; ``None`` where the training came to none."""
    from monai_transfer.engines import Checkpoints

    steps = Checkpoints(root / CHECKPOINTS).steps
    return steps[-1] if steps else None


def differing_value(root: Path, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first value that decides over the weights and is another at ``root`` than in ``configs``, in words."""
    for name in _TRAINED_BY:
        if name in configs:
            path = root / "configs" / f"{name}.json"
            here = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            wanted = json.loads(json.dumps(configs[name]))
            for key in (*wanted, *here):
                if key not in here or key not in wanted or here[key] != wanted[key]:
                    return f"{key} in configs/{name}.json"
    return None


def left_behind(root: Path) -> str:
    """What a training that was cut off left, in words."""
    step = kept_step(root)
    return "it came to no state that could be kept" if step is None else f"its state after {step} steps is kept"


def next_words(root: Path, weights: Path) -> str:
    """What to type after an interruption."""
    step = kept_step(root)
    again = "to begin again" if step is None else f"to go on after step {step}"
    return (
        f"give the same command with --resume {again}, or segment with the weights so far, which lie in {weights} "
        f"(monai-transfer segment INPUT --bundle {root} --output DIR)"
    )


def sentence_behind(error: BaseException | None, root: Path) -> UserError | None:
    """The sentence for the user that MONAI's configuration parser wrapped, or that a fault of the disk deserves."""
    sentences = (one if isinstance(one, UserError) else write_fault(root, one) for one in behind(error))
    return next((sentence for sentence in sentences if sentence is not None), None)


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
