"""A bundle folder: built beside its place, put there when it is complete, run through ``monai.bundle``."""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from monai_transfer.bundle import training
from monai_transfer.bundle.networks import spelled_out
from monai_transfer.bundle.trust import is_foreign, remember, template
from monai_transfer.errors import Interrupted, UserError, interruption_behind
from monai_transfer.files import cannot_write, require_folder, sweep, temporary_beside, write_text
from monai_transfer.machine import launched

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigWorkflow

_PARTS = ("docs", "LICENSE", "configs")
"""What a bundle is copied with; the configurations last, for a folder without them is not a bundle."""


def require_free(root: str | Path, *, overwrite: bool = False) -> None:
    """See that something can be made at ``root``.

    Raises:
        UserError: when it holds something already and ``overwrite`` is off; where that is a training that was cut off,
            the message says what there is of it.
    """
    folder = Path(root)
    if overwrite or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if training.is_unfinished(folder):
        raise UserError(
            f"{root} holds a training that was cut off, or still runs, and {training.left_behind(folder)}: add "
            "--resume to go on, --overwrite to train again from the beginning, or choose another --output."
        )
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
        self._untried = self._resuming = False
        if not (self.root / "configs" / "metadata.json").is_file():
            raise UserError(f"{root} is not a bundle: configs/metadata.json is missing; give the bundle's folder.")

    @classmethod
    def create(
        cls,
        source: str | Path,
        root: str | Path,
        *,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> Self:
        """Make a bundle at ``root`` in one go, or take the one that is there to go on with its training.

        Args:
            source: the name of a template, or the folder of a bundle, which is copied without what its training left.
            root: the bundle folder to make.
            configs: name -> content of the configurations to write.
            overwrite: whether a bundle that is there may be replaced.
            resume: whether a bundle that is there is taken, where it is trained by the same configurations; its
                :meth:`run` goes on where the training was cut off, and does nothing where it is finished.

        Raises:
            UserError: see :meth:`making`; or, with ``resume`` and without ``overwrite``, the bundle that is there is
                trained in another way.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     bundle = BundleFolder.create("segmentation_transfer", Path(folder) / "spleen")
            ...     print(bundle.root.name, bundle.weights.is_file())
            spleen False
        """
        place = Path(root).expanduser().resolve()
        if resume and (place / "configs" / "metadata.json").is_file():
            other = training.differing_value(place, configs or {})
            if other is None:
                training.require_idle(place)
                there = cls(place)
                there._resuming = True
                return there
            if not overwrite:
                raise UserError(
                    f"{root} cannot be gone on with: {other} is not what this command trains by; give the command that "
                    "began it, choose another --output, or add --overwrite to train from the beginning."
                )
        with cls.making(source, root, configs=configs, overwrite=overwrite) as bundle:
            return bundle

    @classmethod
    @contextmanager
    def making(
        cls,
        source: str | Path,
        root: str | Path,
        *,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        overwrite: bool = False,
    ) -> Iterator[Self]:
        """A copy of ``source`` beside ``root`` that takes that place when the block ends without an error.

        Whatever is refused in the block thus leaves nothing in the way of the next try, and an old bundle stays until
        the new one is complete. This is the one place where a bundle appears.

        Args:
            source: the name of a template, or the folder of a bundle, which is copied without what its training left.
            root: the bundle folder to make.
            configs: name -> content of the configurations that differ from those of ``source``.
            overwrite: whether a bundle that is there may be replaced.

        Raises:
            UserError: when ``root`` holds something and ``overwrite`` is off, when it holds anything else than a
                bundle, or cannot be written.
        """
        place = Path(root).expanduser().resolve()
        require_free(place, overwrite=overwrite)
        training.require_idle(place)
        _require_replaceable(place)
        require_folder(place.parent)
        sweep(place.parent)
        template_folder = template(source) if isinstance(source, str) else source
        building = temporary_beside(place)
        try:
            building.mkdir()
            given = {f"{name}.json": content for name, content in (configs or {}).items()}
            for part in _PARTS:
                _copy(template_folder / part, building / part, without=given)
            for name, content in given.items():
                if name == "inference.json":
                    content = spelled_out(content)
                write_text(building / "configs" / name, json.dumps(content, indent=2) + "\n")
            if given and not is_foreign(template_folder):  # the record is of contents: it holds after the move as well
                remember(building)
            bundle = cls(building)
            yield bundle
            _put_in_place(building, place)
        except OSError as error:
            raise cannot_write(place, error) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        bundle.root, bundle._untried = place, True

    @property
    def weights(self) -> Path:
        """Where the bundle's network weights lie."""
        return self.root / "models" / "model.pt"

    @property
    def finished(self) -> bool:
        """Whether the bundle was trained to the end."""
        return self.weights.is_file() and not training.is_unfinished(self.root)

    @property
    def standing(self) -> str:
        """How far the training is that :meth:`run` would go on with, for a line that announces it; else empty."""
        if not self._resuming:
            return ""
        if self.finished:
            return ", finished before"
        step = training.kept_step(self.root)
        return "" if step is None else f", goes on after step {step}"

    def read(self, config: str) -> dict[str, Any]:
        """The content of ``configs/<config>.json``."""
        content: dict[str, Any] = json.loads((self.root / "configs" / f"{config}.json").read_text())
        return content

    def change(self, config: str, changes: Mapping[str, Any]) -> None:
        """Set values by id (``"train#dataloader#steps"``) in ``configs/<config>.json``."""
        content = self.read(config)
        for name, value in changes.items():
            _assign(content, name.split("#"), value)
        self.write(config, content)

    def write(self, config: str, content: Mapping[str, Any]) -> None:
        """Write ``configs/<config>.json``; a bundle that was made here stays one, a foreign one stays foreign."""
        foreign = is_foreign(self.root)
        write_text(self.root / "configs" / f"{config}.json", json.dumps(content, indent=2) + "\n")
        if not foreign:
            remember(self.root)

    def run(self, *configs: str, device: "torch.device | None" = None, **overrides: Any) -> "ConfigWorkflow | None":
        """Do what ``python -m monai.bundle run --config_file …`` does with these configs, merged in order.

        A bundle that was just made and refuses to begin is removed again. A training that was to be gone on with and
        is finished is left as it is, and gives ``None``.

        Raises:
            UserError: when a Python expression or an object of the configuration raised one.
            Interrupted: when training was interrupted; the checkpoint was saved.
        """
        if device is not None:
            overrides["device"] = device
        start = perf_counter()
        trains = configs[-1] != "inference"
        if self._resuming and trains:
            if self.finished:
                training.mark_finished(self.root)
                return None
            overrides["resume"] = True
        try:
            if trains and launched() > 1:
                configs = tuple(training.with_overlay(self.root, configs))
                training.give_order(self.root, configs, overrides)
            workflow = training.training_workflow(self.root, configs, overrides)
            workflow.initialize()
            if trains:
                self._track(workflow)
            self._untried = False
            if trains:
                training.mark_unfinished(self.root)
            workflow.run()
            workflow.finalize()
        except BaseException as error:
            if self._untried:
                shutil.rmtree(self.root, ignore_errors=True)
            if not isinstance(error, Exception):
                raise
            raise interruption_behind(error) or training.sentence_behind(error, self.root) or error from None
        if trains:
            training.mark_finished(self.root, perf_counter() - start + self._require_whole(workflow))
        return workflow

    def _track(self, workflow: "ConfigWorkflow") -> None:
        """Let MLflow follow a training where the environment says so."""
        from monai_transfer.engines.history import track_with_mlflow  # here: to copy bundles nobody waits for MONAI

        parsed = workflow.parser.get_parsed_content
        if trainer := parsed("train#trainer", default=None):
            handlers = parsed("train#handlers", default=())
            track_with_mlflow(trainer, handlers, f"{self.root.parent.name}/{self.root.name}")

    def _require_whole(self, workflow: "ConfigWorkflow") -> float:
        """Say what a training that was interrupted left; the seconds that a whole one took in earlier processes."""
        from monai_transfer.engines import ExactResume, GracefulInterrupt

        earlier = 0.0
        for handler in workflow.parser.get_parsed_content("train#handlers", default=()):
            earlier += handler.seconds if isinstance(handler, ExactResume) else 0.0
            if isinstance(handler, GracefulInterrupt) and handler.signal is not None:
                words = training.next_words(self.root, self.weights)
                raise Interrupted(f"Training was interrupted after {handler.steps} steps; {words}.", handler.signal)
        return earlier


def _require_replaceable(place: Path) -> None:
    """A bundle is replaced whole; a folder of anything else is never emptied."""
    if not place.is_dir() or not any(place.iterdir()) or (place / "configs" / "metadata.json").is_file():
        return
    raise UserError(f"{place} holds something that is not a bundle and would be lost: choose another --output.")


def _copy(source: Path, destination: Path, *, without: Collection[str] = ()) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, ignore=lambda _, names: [name for name in names if name in without])
    elif source.is_file():
        shutil.copy2(source, destination)


def _put_in_place(building: Path, place: Path) -> None:
    if place.is_dir() and not any(place.iterdir()):
        # An empty folder may be a mount point or somebody's working directory: it is filled, not replaced.
        for part in sorted(building.iterdir(), key=lambda path: path.name == "configs"):
            shutil.move(part, place / part.name)
        return
    old = temporary_beside(place)
    if place.exists():
        place.rename(old)
    try:
        building.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _assign(content: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        content = content[int(key) if isinstance(content, list) else key]
    content[int(keys[-1]) if isinstance(content, list) else keys[-1]] = value
