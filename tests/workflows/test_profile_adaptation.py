"""A target whose images stay where they are: what is measured of it, and a training by that alone."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged
from torch import nn
from typer.testing import CliRunner

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.reading import Decision, InferenceBundle, WindowSettings
from monai_transfer.cli.app import app
from monai_transfer.datasets import read_dataset
from monai_transfer.errors import UserError
from monai_transfer.transforms import ClassIntensities, RandClassIntensityd
from monai_transfer.workflows import target_profile
from monai_transfer.workflows.target_profile import MeasuredVolume, TargetProfile, is_profile, measure_target

VOLUME = {
    "low": [0.0],
    "high": [1.0],
    "mean": [[None], [0.5], [0.25]],
    "deviation": [[None], [0.1], [0.1]],
    "around": None,
    "volumes_ml": [900.0, 100.0, 1.0],
}
GRID: dict[str, Any] = {"channels": 1, "spacing": (2.0, 2.0, 2.0), "extent_mm": (60.0, 60.0, 60.0), "cases": 3}


def _profile(**changes: Any) -> TargetProfile:
    classes = {0: "background", 1: "liver", 2: "aorta"}
    volume = MeasuredVolume(**{**VOLUME, **changes})  # type: ignore[arg-type]
    return TargetProfile("mr", **GRID, classes=classes, volumes=[volume])


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    profile = _profile()
    profile.write(tmp_path / "mr.json")
    assert TargetProfile.read(tmp_path / "mr.json") == profile
    assert is_profile(tmp_path / "mr.json")
    (tmp_path / "list.json").write_text('{"training": []}')
    assert not is_profile(tmp_path / "list.json")


def test_classes_of_no_plausible_size_are_not_painted() -> None:
    """The aorta has 1 ml where the source has 50: the network took something else for it."""
    (numbers,) = _profile().profiles({1: 110.0, 2: 50.0})
    assert numbers["mean"] == [[None], [0.5], [None]]
    assert [row["mean"] for row in _profile().profiles({})] == [VOLUME["mean"]]


def test_a_profile_paints_the_source() -> None:
    paint = RandClassIntensityd(
        "image", "label", ClassIntensities(0.0, _profile().profiles({1: 110.0, 2: 50.0})), 1.0, jitter=0.0, blur=0.0
    ).set_random_state(0)
    label = (torch.arange(4096).reshape(1, 16, 16, 16) >= 2048).long()
    image = torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    painted = paint({"image": image, "label": label})["image"]
    assert float(painted[label == 1].mean()) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "dataset"}, "is no profile of a target"),
        ({"channels": 2}, "need one row per class"),
        ({"classes": {"0": "background"}}, "need one row per class"),
        ({"spacing": [0, 1, 1]}, "broken profile"),
        ({"modality": "$__import__('os')"}, "broken profile"),
        ({"volumes": [{**VOLUME, "around": [[1.0]]}]}, "around needs 50 numbers"),
        ({"volumes": [{**VOLUME, "low": ["$open('x')"]}]}, "broken profile"),
        ({"volumes": [1]}, "broken profile"),
    ],
)
def test_a_broken_profile_is_told(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = tmp_path / "mr.json"
    _profile().write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=rf"mr\.json .*{told}.*: make it by monai-transfer profile"):
        TargetProfile.read(path)


def test_intensities_and_sizes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cube of 512 voxels of 8 mm³ with the value 100 in a volume of zeros, found by a threshold."""
    for name, first in (("a", 6), ("b", 5)):
        array = np.zeros((20, 20, 20), np.float32)
        array[first : first + 8, 6:14, 6:14] = 100
        nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / f"{name}.nii.gz")
    network = nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1))
        network.bias.copy_(torch.tensor([50.0, -50.0]))  # type: ignore[union-attr]
    bundle = InferenceBundle(
        root=tmp_path,
        network=network.eval(),
        preprocessing=Compose([LoadImaged("image"), EnsureChannelFirstd("image"), EnsureTyped("image")]),
        recipe="",
        image_key="image",
        window=WindowSettings((16, 16, 16)),
        decision=Decision(),
        label_names={0: "background", 1: "cube"},
        in_channels=1,
        out_channels=2,
        checksum="",
    )
    monkeypatch.setattr(target_profile, "read_bundle", lambda *_, **__: bundle)
    profile = measure_target(read_dataset(tmp_path), "bundle", device="cpu")
    assert (profile.cases, profile.spacing, profile.extent_mm) == (2, (2.0, 2.0, 2.0), (40.0, 40.0, 40.0))
    assert profile.classes == {0: "background", 1: "cube"}
    assert len(profile.volumes) == 2
    for volume in profile.volumes:
        assert volume.mean == [[None], [100.0]]
        assert volume.deviation == [[None], [0.0]]
        assert volume.volumes_ml == pytest.approx([7488 * 0.008, 512 * 0.008], abs=0.01)
        assert volume.around is not None
        assert set(volume.around[0]) == {0.0}


@pytest.mark.slow
def test_three_files_travel(domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--source", str(domains / "ct"), "--spacing", "16", "--steps", "2", "--device", "cpu"]
    _run("profile", "--data", str(domains / "mr"), "--output", "grid.json")
    assert _run("adapt", "--target", "grid.json", "--output", "first", *quick)["painted"].keys() >= {"liver", "aorta"}
    _run("profile", "--data", str(domains / "mr"), "--cases", "mr_00[12]", "--bundle", "first", "--output", "mr.json")
    assert "mr_001" not in (tmp_path / "mr.json").read_text()
    profile = TargetProfile.read(tmp_path / "mr.json")
    assert len(profile.volumes) == profile.cases == 2
    _run("adapt", "--target", "mr.json", "--weights", "first", "--output", "second", *quick)
    train = BundleFolder(tmp_path / "second").read("train")
    assert (train["target_dir"], train["target_items"], train["measure_from"]) == ("", [], None)
    assert [len(numbers["mean"]) for numbers in train["intensities"]["profiles"]] == [6, 6]
    states = [torch.load(tmp_path / name / "models" / "model.pt", weights_only=True) for name in ("first", "second")]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    with pytest.raises(UserError, match=r"--test does not go with mr\.json, which holds no images"):
        _run("adapt", "--target", "mr.json", "--test", str(domains / "mr"), "--output", "third", *quick)
    assert not (tmp_path / "third").exists()


def _run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    # without the command's own logging MONAI's goes before the result
    return dict(json.loads(result.stdout[result.stdout.index("{\n") :]))
