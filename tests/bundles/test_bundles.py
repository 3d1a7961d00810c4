"""Every bundle is valid, trains, evaluates and infers, from any working directory."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, run, verify_metadata, verify_net_in_out

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.trust import templates

SCHEMA = Path(__file__).parent / "metadata_schema.json"
QUICK = {"max_epochs": 1, "steps_per_epoch": 2, "val_interval": 1, "spacing": [16.0] * 3, "roi_size": [16] * 3}
SMALL_NETWORK = {"network_def#channels": [4, 8, 8], "network_def#strides": [2, 2]}
NAMES = ("domain_adaptation", "segmentation_transfer")
"""Those that segment; ``test_diagnosis_bundle.py`` has that which names a class."""

TEMPLATES = (*NAMES, "pretraining")


def _workflow(name: str, config: str, workflow_type: str, **overrides: object) -> ConfigWorkflow:
    configs = templates()[name] / "configs"
    return ConfigWorkflow(
        config_file=str(configs / f"{config}.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type=workflow_type,
        **overrides,
    )


def _data(name: str, phantoms: Path) -> dict[str, str]:
    if name == "domain_adaptation":
        return {"source_dir": str(phantoms / "ct"), "target_dir": str(phantoms / "mr")}
    return {"dataset_dir": str(phantoms / "ct")}


def test_the_package_brings_its_bundles() -> None:
    assert set(templates()) == {*NAMES, "diagnosis_transfer", "pretraining"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_bundle_is_complete_and_carries_no_python(name: str) -> None:
    files = {str(path.relative_to(templates()[name])) for path in templates()[name].rglob("*") if path.is_file()}
    configs = {f"configs/{config}" for config in ("metadata.json", "train.json", "evaluate.json", "inference.json")}
    assert configs | {"configs/logging.conf", "docs/README.md", "LICENSE"} <= files
    assert not [file for file in files if file.endswith((".py", ".pt"))]


@pytest.mark.parametrize("name", TEMPLATES)
def test_metadata_follow_the_specification(name: str) -> None:
    meta = templates()[name] / "configs" / "metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(SCHEMA))
    content = json.loads(meta.read_text())
    assert content["version"] in content["changelog"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_network_takes_and_gives_what_the_metadata_say(name: str) -> None:
    configs = templates()[name] / "configs"
    verify_net_in_out(
        net_id="network_def",
        config_file=str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        device="cpu",
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("config", "workflow_type"), [("train", "train"), ("inference", "inference")])
def test_every_required_property_is_there(
    name: str, config: str, workflow_type: str, phantoms: Path, tmp_path: Path
) -> None:
    train = {**QUICK, **_data(name, phantoms), "validation_share": 0, "output_dir": str(tmp_path)}
    overrides = train if config == "train" else {"dataset_dir": str(phantoms / "ct" / "images")}
    workflow = _workflow(name, config, workflow_type, **overrides)
    workflow.initialize()
    assert not workflow.check_properties()
    workflow.finalize()


def test_inference_names_nothing_but_monai_and_its_dependencies() -> None:
    for name in TEMPLATES:
        assert "monai_transfer" not in (templates()[name] / "configs" / "inference.json").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_train_evaluate_infer_from_another_folder(
    name: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = BundleFolder.create(name, tmp_path / "bundle")
    configs = bundle.root / "configs"
    common = {"meta_file": str(configs / "metadata.json"), "logging_file": False, "bundle_root": str(bundle.root)}
    train = str(configs / "train.json")
    data = _data(name, phantoms)
    run(config_file=train, **common, **data, **QUICK, **SMALL_NETWORK, validation_share=0)
    assert torch.load(bundle.weights, weights_only=True)
    assert (bundle.root / "eval" / "history.jsonl").read_text()

    labelled = {"dataset_dir": str(phantoms / ("mr" if name == "domain_adaptation" else "ct"))}
    files = [train, str(configs / "evaluate.json")]
    run(config_file=files, **common, **{**data, **labelled}, **QUICK, **SMALL_NETWORK)
    assert (bundle.root / "eval" / "val_mean_dice_summary.csv").is_file()

    images = phantoms / "mr" / "images"
    small = {"inferer#roi_size": [16] * 3, "preprocessing#transforms#4#pixdim": [16.0] * 3}
    run(
        config_file=str(configs / "inference.json"),
        workflow_type="inference",
        **common,
        **small,
        **SMALL_NETWORK,
        dataset_dir=str(images),
        output_dir=str(tmp_path / "maps"),
    )
    for image in sorted(images.iterdir()):
        given, made = nib.load(image), nib.load(tmp_path / "maps" / image.name)
        assert made.shape == given.shape
        np.testing.assert_allclose(made.affine, given.affine, atol=1e-4)


def test_the_module_runs_a_bundle_as_a_user_types_it(phantoms: Path, tmp_path: Path) -> None:
    bundle = BundleFolder.create("segmentation_transfer", tmp_path / "bundle")
    bundle.change("train", {**QUICK, **SMALL_NETWORK, "dataset_dir": str(phantoms / "ct")})
    arguments = ["--config_file", str(bundle.root / "configs" / "train.json"), "--max_epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert bundle.weights.is_file()
