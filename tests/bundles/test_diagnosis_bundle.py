"""The bundle that names classes is valid, trains, evaluates and infers as it lies there."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, run, verify_metadata, verify_net_in_out
from PIL import Image

from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.trust import template

ROOT = template("diagnosis_transfer")
SCHEMA = Path(__file__).parent / "metadata_schema.json"
QUICK = {"max_epochs": 1, "steps_per_epoch": 2, "val_interval": 1, "batch_size": 2}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(6):
        path = root / ("healthy", "lesion")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (36, 30, 3), np.uint8)).save(path)
    return root


def test_it_is_complete_and_carries_no_python() -> None:
    files = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    configs = {f"configs/{name}.json" for name in ("metadata", "train", "finetune", "evaluate", "inference")}
    assert configs | {"configs/adapt.json", "configs/logging.conf", "docs/README.md", "LICENSE"} == files


def test_metadata_and_network_agree() -> None:
    meta = ROOT / "configs" / "metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(SCHEMA))
    verify_net_in_out(
        net_id="network_def", config_file=str(ROOT / "configs" / "inference.json"), meta_file=str(meta), device="cpu"
    )


def test_inference_names_nothing_but_monai_and_may_run_unasked() -> None:
    assert "monai_transfer" not in (ROOT / "configs" / "inference.json").read_text()
    facts = inspect_bundle(ROOT)
    assert facts.diagnoses
    assert facts.concerns == ()


@pytest.mark.parametrize(("config", "workflow_type"), [("train", "train"), ("inference", "inference")])
def test_every_required_property_is_there(config: str, workflow_type: str, pictures: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(ROOT / "configs" / f"{config}.json"),
        meta_file=str(ROOT / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=workflow_type,
        dataset_dir=str(pictures),
        output_dir=str(tmp_path),
    )
    workflow.initialize()
    assert not workflow.check_properties()
    workflow.finalize()


def test_train_evaluate_infer_from_another_folder(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = BundleFolder.create("diagnosis_transfer", tmp_path / "bundle")
    configs = bundle.root / "configs"
    common = {"meta_file": str(configs / "metadata.json"), "logging_file": False, "bundle_root": str(bundle.root)}
    train = str(configs / "train.json")
    run(config_file=train, **common, **QUICK, dataset_dir=str(pictures), validation_share=0.4)
    assert torch.load(bundle.weights, weights_only=True)
    line = json.loads((bundle.root / "eval" / "history.jsonl").read_text().splitlines()[0])
    assert "val_auc" in line["metrics"]
    run(config_file=[train, str(configs / "evaluate.json")], **common, **QUICK, dataset_dir=str(pictures))
    assert "val_auc" in (bundle.root / "eval" / "metrics.csv").read_text()
    run(
        config_file=str(configs / "inference.json"),
        workflow_type="inference",
        **common,
        dataset_dir=str(pictures),
        output_dir=str(tmp_path / "said"),
    )
    rows = list(csv.reader((tmp_path / "said" / "predictions.csv").open()))
    assert len(rows) == 6
    assert all(sum(map(float, row[1:])) == pytest.approx(1, abs=1e-4) for row in rows)
