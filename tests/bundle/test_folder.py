"""A bundle appears when it is complete, and what was cut off says what to do next."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.bundle.folder import BundleFolder, require_free
from monai_transfer.bundle.training import training_seconds
from monai_transfer.errors import Interrupted, UserError

NAME = "segmentation_transfer"


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _training(signal_name: str | None = None, *, first: str = "$0") -> dict[str, Any]:
    """A training of three steps by a bare engine, whose second step may send a signal."""
    send = f"os.kill(os.getpid(), signal.{signal_name})" if signal_name else "None"
    return {
        "imports": ["$import os", "$import signal"],
        "engine": {
            "_target_": "ignite.engine.Engine",
            "process_function": f"$lambda engine, batch: {send} if batch == 2 else None",
        },
        "train": {"handlers": [{"_target_": "monai_transfer.engines.GracefulInterrupt"}]},
        "initialize": [first],
        "run": ["$[handler.attach(@engine) for handler in @train#handlers]", "$@engine.run([1, 2, 3])"],
    }


def test_a_refusal_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no labels"), BundleFolder.making(NAME, tmp_path / "new"):
        raise UserError("There are no labels.")
    assert _names(tmp_path) == set()
    require_free(tmp_path / "new")


def test_an_old_bundle_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    old = BundleFolder.create(NAME, tmp_path / "bundle", configs={"note": {"which": "old"}})
    with pytest.raises(ValueError, match="broken"), BundleFolder.making(NAME, old.root, overwrite=True):
        raise ValueError("broken")
    assert old.read("note") == {"which": "old"}
    BundleFolder.create(NAME, old.root, configs={"note": {"which": "new"}}, overwrite=True)
    assert old.read("note") == {"which": "new"}
    assert _names(tmp_path) == {"bundle"}


@pytest.mark.parametrize("content", ["scan.nii.gz", "labels/a.nii.gz", "notes.txt"])
def test_a_folder_of_other_things_is_never_emptied(tmp_path: Path, content: str) -> None:
    (tmp_path / "data" / content).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / content).write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty"):
        BundleFolder.create(NAME, tmp_path / "data")
    with pytest.raises(UserError, match="not a bundle and would be lost"):
        BundleFolder.create(NAME, tmp_path / "data", overwrite=True)
    assert (tmp_path / "data" / content).read_text() == "mine"


def test_an_empty_folder_is_filled_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    BundleFolder.create(NAME, ".")
    assert "configs" in _names(Path())
    assert _names(tmp_path) == {"here"}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/bundle"):
        with pytest.raises(UserError, match=r"exists and is not empty|a file is in the way"):
            BundleFolder.create(NAME, tmp_path / place)


def test_a_bundle_that_refuses_to_begin_is_removed(tmp_path: Path) -> None:
    refusing = {"train": _training(first="$[].no_such_thing")}
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs=refusing)
    with pytest.raises(Exception, match="no_such_thing"):
        bundle.run("train")
    assert _names(tmp_path) == set()


def test_a_bundle_of_the_user_that_refuses_to_begin_stays(tmp_path: Path) -> None:
    BundleFolder.create(NAME, tmp_path / "bundle", configs={"train": _training(first="$[].no_such_thing")})
    with pytest.raises(Exception, match="no_such_thing"):
        BundleFolder(tmp_path / "bundle").run("train")
    assert _names(tmp_path) == {"bundle"}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_training_says_what_to_type_next(tmp_path: Path, name: str) -> None:
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs={"train": _training(name)})
    with pytest.raises(Interrupted, match=r"after 2 steps; give the same command with --resume to begin") as raised:
        bundle.run("train")
    assert raised.value.signal == getattr(signal, name)
    assert f"--bundle {bundle.root}" in str(raised.value)
    bundle.weights.parent.mkdir(exist_ok=True)
    bundle.weights.touch()
    with pytest.raises(UserError, match=r"cut off.* no state that could be kept: add --resume"):
        require_free(bundle.root)


def test_an_interruption_of_an_import_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI imports by ``pydoc.locate``, which wraps whatever ends an import into an error of its own."""
    module = "from monai_transfer.errors import Interrupted\nraise Interrupted('Interrupted.', 15)\n"
    (tmp_path / "interrupting.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    training = {**_training(), "engine": {"_target_": "interrupting.Thing"}}
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs={"train": training})
    with pytest.raises(Interrupted) as raised:
        bundle.run("train")
    assert raised.value.signal == signal.SIGTERM


def test_a_finished_training_is_simply_there(tmp_path: Path) -> None:
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs={"train": _training()})
    bundle.run("train")
    with pytest.raises(UserError, match="exists and is not empty"):
        require_free(bundle.root)


def test_a_killed_training_is_named_the_next_time(tmp_path: Path) -> None:
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs={"train": _training("SIGKILL")})
    child = os.fork()
    if child == 0:
        bundle.run("train")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with pytest.raises(UserError, match="cut off, or still runs, and it came to no state"):
        require_free(bundle.root)


def test_a_training_that_another_process_runs_is_left_alone(tmp_path: Path) -> None:
    configs = {"train": _training("SIGSTOP")}
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs=configs)
    child = os.fork()
    if child == 0:
        bundle.run("train")
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"bundle is being trained by another process: wait"):
            BundleFolder.create(NAME, bundle.root, configs=configs, **options)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert BundleFolder.create(NAME, bundle.root, configs=configs, resume=True).root == bundle.root


@pytest.mark.parametrize("fault", ["full", "forbidden", "torch"])
def test_a_disk_that_fails_while_a_bundle_is_trained_is_one_sentence(tmp_path: Path, fault: str) -> None:
    place = tmp_path / "bundle"
    errors = {
        "full": "OSError(28, 'No space left on device')",
        "forbidden": f"PermissionError(13, 'Permission denied', {str(place / 'models' / 'model.pt')!r})",
        "torch": "RuntimeError('PytorchStreamWriter failed writing file data/3: file write failed')",
    }
    training = _training()
    training["engine"]["process_function"] = f"$lambda engine, batch: (_ for _ in ()).throw({errors[fault]})"
    bundle = BundleFolder.create(NAME, place, configs={"train": training})
    with pytest.raises(UserError, match=rf"^{place} cannot be written .*--output\.$"):
        bundle.run("train")


def test_a_training_of_the_same_configurations_is_gone_on_with_and_no_other(tmp_path: Path) -> None:
    configs = {"train": _training()}
    bundle = BundleFolder.create(NAME, tmp_path / "bundle", configs=configs, resume=True)
    assert bundle.standing == ""
    bundle.run("train")
    bundle.weights.parent.mkdir()
    bundle.weights.touch()
    assert (bundle.finished, training_seconds(bundle.root)) == (True, pytest.approx(0, abs=60))
    again = BundleFolder.create(NAME, bundle.root, configs=configs, resume=True)
    assert again.standing == ", finished before"
    assert again.run("train") is None
    with pytest.raises(UserError, match=r"cannot be gone on with: initialize in configs/train.json .* --overwrite"):
        BundleFolder.create(NAME, bundle.root, configs={"train": _training(first="$1")}, resume=True)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    bundle = BundleFolder.create(NAME, tmp_path / "bundle")
    bundle.change("train", {"seed": 7})
    assert json.loads((bundle.root / "configs" / "train.json").read_text())["seed"] == 7
