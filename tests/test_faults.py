"""The generators of odd inputs that lie beside the project, end to end: from the command to the label map."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.cli.app import app
from tests.conftest import SHARED_DATA

FAULTS = SHARED_DATA.parent / "faults"
CENTRE = (20.0, -10.0, 15.0)  # of the ball of 200 HU, RAS mm
VOLUME_ML = 57.9
BALLS = {"01_gantry_tilt": 1, "04_localizer_in_series": 1, "06_enhanced_shuffled_frames": 1, "08_seg_beside_series": 1}
"""Generator -> number of label maps that ``segment`` writes for its folder."""


def generated(name: str, folder: Path) -> Path:
    program = FAULTS / f"{name}.py"
    if not program.is_file():
        pytest.skip("the generators of odd inputs are not here: ../shared/faults is absent")
    done = subprocess.run([sys.executable, str(program), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def run(*arguments: str | Path) -> int:
    """Exit status of a command."""
    status = app(args=[str(argument) for argument in arguments], prog_name="monai-transfer", standalone_mode=False)
    return status if isinstance(status, int) else 0


@pytest.fixture(scope="module")
def ball_finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose one convolution calls everything above 120 HU label 1."""
    root = tmp_path_factory.mktemp("bundles") / "ball_finder"
    config = {
        "device": "$torch.device('cpu')",
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 3.0], "mode": "bilinear"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "sw_batch_size": 4, "overlap": 0.25},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }
    names = {"0": "background", "1": "ball"}
    formats = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"num_channels": 2, "channel_def": names}}}
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    (root / "configs" / "metadata.json").write_text(json.dumps({"version": "0", "network_data_format": formats}))
    weight = torch.tensor([0.0, 0.2]).reshape(2, 1, 1, 1, 1)
    torch.save({"weight": weight, "bias": torch.tensor([0.0, -24.0])}, root / "models" / "model.pt")
    return root


def centroid_and_ml(path: Path) -> tuple[np.ndarray, float]:
    image = nibabel.load(path)
    where = np.argwhere(np.asarray(image.dataobj) == 1)
    assert len(where), f"{path} holds no label 1"
    voxel = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    return nibabel.affines.apply_affine(image.affine, where.mean(axis=0)), len(where) * voxel


@pytest.mark.parametrize("name", BALLS)
def test_a_series_is_segmented_where_it_lies(name: str, ball_finder: Path, tmp_path: Path) -> None:
    series = generated(name, tmp_path / "series")
    assert run("segment", series, "--bundle", ball_finder, "--output", tmp_path / "maps") == 0
    written = sorted((tmp_path / "maps").glob("*.nii.gz"))
    assert len(written) == BALLS[name]
    centre, volume = centroid_and_ml(written[0])
    assert np.abs(centre - CENTRE).max() < 1.5
    assert volume == pytest.approx(VOLUME_ML, rel=0.1)


def test_lost_slices_are_refused_or_kept_as_a_gap(ball_finder: Path, tmp_path: Path) -> None:
    series = generated("02_missing_slices", tmp_path / "series")
    assert run("segment", series, "--bundle", ball_finder, "--output", tmp_path / "maps") != 0
    case = json.loads((tmp_path / "maps" / "manifest.json").read_text())["cases"][0]
    assert case["status"] == "failed"
    assert "4" in case["error"]
    assert not list((tmp_path / "maps").glob("*.nii.gz"))
    options = ("--bundle", ball_finder, "--output", tmp_path / "again", "--allow-irregular")
    assert run("segment", series, *options) == 0
    case = json.loads((tmp_path / "again" / "manifest.json").read_text())["cases"][0]
    assert case["warnings"]
    written = nibabel.load(next((tmp_path / "again").glob("*.nii.gz")))
    assert np.allclose(written.header.get_zooms(), (3, 3, 4), atol=1e-4)


def test_a_stale_pixdim_moves_nothing(ball_finder: Path, tmp_path: Path) -> None:
    data = generated("09_stale_pixdim", tmp_path / "data")
    images = sorted((data / "images").glob("*.nii.gz"))
    assert run("check", data) == 0
    assert run("segment", data / "images", "--bundle", ball_finder, "--output", tmp_path / "maps") == 0
    for image in images:
        given, written = nibabel.load(image), nibabel.load(tmp_path / "maps" / image.name)
        assert np.array_equal(given.affine, written.affine)
        assert np.array_equal(given.header.get_sform(), written.header.get_sform())
    scored = ("--data", data, "--predictions", tmp_path / "maps", "--output", tmp_path / "scores")
    assert run("evaluate", *scored) == 0
    stale = ("segment", data / "stale_qform.nii.gz", "--bundle", ball_finder, "--output", tmp_path / "stale")
    assert run(*stale) == 0
    centre, _ = centroid_and_ml(tmp_path / "stale" / "stale_qform.nii.gz")
    assert np.abs(centre - CENTRE).max() < 1.5


def test_links_to_nothing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = generated("10_broken_links", tmp_path / "data")
    assert run("check", data) == 1
    assert "c3" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["v2map", "lists", "bom"])
def test_each_form_of_a_description_gives_its_four_cases(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = generated("17_nnunet_dataset_json", tmp_path / "data") / form
    assert run("check", data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"]["labelled"] == 4


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_a_case_without_lesion_is_learnt_from(command: str, ball_finder: Path, tmp_path: Path) -> None:
    data = generated("13_case_without_lesion", tmp_path / "data")
    options = ["--data", data, "--output", tmp_path / "bundle", "--dry-run"]
    if command == "finetune":
        weights = tmp_path / "start.pt"
        from monai.networks.nets import FlexibleUNet

        network = FlexibleUNet(1, 2, "resnet18", spatial_dims=3)
        torch.save(network.encoder.state_dict(), weights)
        options += ["--weights", weights, "--network", "resnet18"]
    assert run(command, *options) == 0
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_label_values_with_gaps_come_out_as_they_went_in(tmp_path: Path) -> None:
    data, bundle = generated("14_sparse_label_values", tmp_path / "data"), tmp_path / "bundle"
    cpu = ("--device", "cpu")
    assert run("train", "--data", data, "--output", bundle, "--steps", "20", "--spacing", "8", *cpu) == 0
    assert json.loads((bundle / "configs" / "inference.json").read_text())["network_def"]["out_channels"] == 3
    assert run("segment", data / "images", "--bundle", bundle, "--output", tmp_path / "maps", *cpu) == 0
    images = {"dataset_dir": str(data / "images"), "output_dir": str(tmp_path / "plain")}
    BundleFolder(bundle).run("inference", device=torch.device("cpu"), **images)
    for image in (data / "images").glob("*.nii.gz"):
        ours = np.asarray(nibabel.load(tmp_path / "maps" / image.name).dataobj)
        assert set(np.unique(ours)) <= {0, 17, 2035}
        plain = np.asarray(nibabel.load(tmp_path / "plain" / image.name).dataobj)
        assert (ours == plain.reshape(ours.shape)).mean() >= 0.9999
    assert set(json.loads((tmp_path / "maps" / "labels.json").read_text())) == {"0", "17", "2035"}
    scored = ("--data", data, "--predictions", tmp_path / "maps", "--output", tmp_path / "scores")
    assert run("evaluate", *scored) == 0
    again = ("--weights", bundle, "--output", tmp_path / "tuned", "--steps", "2", "--dry-run", *cpu)
    assert run("finetune", "--data", data, *again) == 0
