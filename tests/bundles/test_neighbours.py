"""Made bundles in the hands of others: the zoo's checks, MONAI Label, MONAI Deploy and ``create_workflow``.

The programs themselves are not installed. Each test does to a bundle what the released source of the program does:
model-zoo's ``ci/verify_bundle.py`` and ``ci/unit_tests``, MONAI Label 0.8's ``tasks/train/bundle.py`` and
``tasks/infer/bundle.py``, MONAI Deploy App SDK 4's ``monai_bundle_inference_operator.py``.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, create_workflow, verify_metadata, verify_net_in_out
from monai.data import MetaTensor
from monai.transforms import Compose, SaveImaged

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.configs import make_arm
from monai_transfer.bundle.handing_on import hand_on
from monai_transfer.bundle.request import choose_domains
from monai_transfer.errors import UserError
from monai_transfer.inference import Segmenter
from monai_transfer.workflows.adaptation import plan_from
from monai_transfer.workflows.exporting import export_bundle

SCHEMA = Path(__file__).parent / "metadata_schema.json"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def adapted(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapted bundle of ten steps, as ``adapt`` makes it."""
    domains = choose_domains(phantoms / "ct", phantoms / "mr")
    plan = plan_from(domains, device="cpu", spacing=[12.0] * 3, steps=10)
    bundle = make_arm(domains, plan, tmp_path_factory.mktemp("made") / "adapted", Arm.named("Default"))
    bundle.run("train", device=torch.device("cpu"))
    return bundle.root


def common(root: Path) -> dict[str, Any]:
    return {"meta_file": str(root / "configs" / "metadata.json"), "logging_file": False, "bundle_root": str(root)}


def test_the_checks_of_the_zoo_pass(adapted: Path, tmp_path: Path) -> None:
    configs = adapted / "configs"
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    metadata = json.loads((configs / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert "monai-transfer" in metadata["required_packages_version"]
    verify_metadata(meta_file=files["meta_file"], filepath=str(SCHEMA))
    verify_net_in_out(net_id="network_def", bundle_root=str(adapted), **files)
    weights = str(adapted / "models" / "model.pt")
    ckpt_export(
        net_id="network_def", filepath=str(tmp_path / "verify.ts"), ckpt_file=weights, bundle_root=str(adapted), **files
    )
    assert torch.jit.load(tmp_path / "verify.ts")


def test_the_zoo_evaluates_after_it_looked_at_every_property(adapted: Path, phantoms: Path, tmp_path: Path) -> None:
    """``check_properties`` builds the trainer, whose panels then watch an evaluation on native grids."""
    files = [str(adapted / "configs" / f"{name}.json") for name in ("train", "evaluate")]
    scored = {"dataset_dir": str(phantoms / "mr"), "output_dir": str(tmp_path)}
    workflow = ConfigWorkflow(config_file=files, workflow_type="train", **common(adapted), **scored)
    workflow.initialize()
    assert not workflow.check_properties()
    workflow.run()
    workflow.finalize()
    assert (tmp_path / "val_mean_dice_summary.csv").is_file()


def test_monai_label_trains_it(adapted: Path, phantoms: Path, tmp_path: Path) -> None:
    root = hand_on(adapted, tmp_path / "bundle").root
    config = ConfigParser()
    config.read_config(root / "configs" / "train.json")
    handlers = config.get("train#handlers")
    assert not [handler for handler in handlers if handler.get("_target_") == "CheckpointLoader"]
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": str(root / "models" / "model.pt"),
        "load_dict": {"model": "$@network"},
        "strict": False,
    }
    handlers.insert(0, loader)
    cases = [
        {"image": str(image), "label": str(phantoms / "ct" / "labels" / image.name)}
        for image in sorted((phantoms / "ct" / "images").iterdir())
    ]
    before = (root / "models" / "model.pt").stat().st_mtime_ns
    monai.bundle.run(
        run_id="run",
        init_id=None,
        final_id=None,
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=str(root / "configs" / "train.json"),
        bundle_root=str(root),
        device=torch.device("cpu"),
        source_dir=str(phantoms / "ct"),
        target_dir=str(phantoms / "mr"),
        steps_per_epoch=2,
        **{
            "train#trainer#max_epochs": 2,
            "train#dataset#data": cases[:1],
            "validate#dataset#data": cases[1:],
            "train#handlers": handlers,
        },
    )
    assert (root / "models" / "model.pt").stat().st_mtime_ns > before


def test_monai_label_infers_with_it(adapted: Path, phantoms: Path) -> None:
    """Its own loader in the place of ``LoadImaged``, no ``SaveImaged``, each transform in its turn."""
    image = next((phantoms / "mr" / "images").iterdir())
    config = ConfigParser()
    config.read_config(adapted / "configs" / "inference.json")
    config["bundle_root"] = str(adapted)
    network = config.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(adapted / "models" / "model.pt", weights_only=True))
    data: dict[str, Any] = {"image": str(image)}
    for transform in config.get_parsed_content("preprocessing").transforms:
        data = transform(data)
    with torch.no_grad():
        data["pred"] = config.get_parsed_content("inferer")(data["image"][None], network)[0]
    for transform in config.get_parsed_content("postprocessing").transforms:
        data = data if isinstance(transform, SaveImaged) else transform(data)
    assert_equal_to_segment(data["pred"][0].numpy(), adapted, image)


def test_monai_deploy_runs_it(adapted: Path, phantoms: Path, tmp_path: Path) -> None:
    """All that it has is the TorchScript file; it brings the image itself, without a channel axis."""
    image = next((phantoms / "mr" / "images").iterdir())
    file = export_bundle(adapted, format="torchscript", output=tmp_path / "model.ts").file
    parser = ConfigParser()
    with zipfile.ZipFile(file) as archive:
        parser.read_meta(json.loads(archive.read("model/extra/metadata.json")))
        parser.read_config(json.loads(archive.read("model/extra/inference.json")))
    parser.parse()
    pre, post = (parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))
    pre = Compose([step for step in pre.transforms if "LoadImage" not in type(step).__name__])
    post = Compose([step for step in post.transforms if "SaveImage" not in type(step).__name__])
    network = torch.jit.load(file).eval()
    loaded = nib.load(image)
    meta = {
        "affine": loaded.affine.copy(),
        "original_affine": loaded.affine.copy(),
        "space": "RAS",
        "spatial_shape": np.asarray(loaded.shape),
        "original_channel_dim": "no_channel",
    }
    value = MetaTensor.ensure_torch_and_prune_meta(loaded.get_fdata(dtype=np.float32), meta)
    data = pre({"image": value})
    with torch.no_grad():
        outputs = {"pred": parser.get_parsed_content("inferer")(inputs=data["image"][None], network=network)[0]}
    labels = post({**outputs, **data})["pred"]
    assert_equal_to_segment(np.squeeze(labels.numpy(), 0), adapted, image)


def test_create_workflow_runs_it(adapted: Path, phantoms: Path, tmp_path: Path) -> None:
    workflow = create_workflow(
        config_file=str(adapted / "configs" / "inference.json"),
        workflow_type="inference",
        dataset_dir=str(phantoms / "mr" / "images"),
        output_dir=str(tmp_path),
        **common(adapted),
    )
    workflow.run()
    workflow.finalize()
    for image in (phantoms / "mr" / "images").iterdir():
        assert_equal_to_segment(np.asarray(nib.load(tmp_path / image.name).dataobj), adapted, image)


def assert_equal_to_segment(labels: np.ndarray, root: Path, image: Path) -> None:
    """At most one voxel of ten thousand differs, where two classes tie."""
    expected = Segmenter.from_bundle(root, device="cpu").segment(image).labels
    assert labels.shape == expected.shape
    assert (labels == expected).mean() > 0.9999


def test_a_bundle_is_handed_on_without_its_makers_folders_and_cases(
    adapted: Path, phantoms: Path, tmp_path: Path
) -> None:
    copy = hand_on(adapted, tmp_path / "copy").root
    assert str(phantoms) in (adapted / "configs" / "train.json").read_text()
    cases = [path.name.removesuffix(".nii.gz") for path in (phantoms / "ct" / "images").iterdir()]
    for path in [*(copy / "configs").iterdir(), *(copy / "docs").iterdir()]:
        text = path.read_text()
        assert str(phantoms) not in text
        assert str(adapted) not in text
        assert not [case for case in cases if f'"{case}"' in text]
    (copy / "models" / "model.pt").unlink()
    with pytest.raises(UserError, match=r"no models/model\.pt"):
        hand_on(copy, tmp_path / "again")
