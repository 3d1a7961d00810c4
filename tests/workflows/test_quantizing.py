"""A network with eight-bit convolutions: what it costs in Dice, and that nothing is written where that is too much."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.inference import Segmenter
from monai_transfer.workflows import exporting
from monai_transfer.workflows.quantizing import export_int8

from .test_exporting import a_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_bundle(tmp_path_factory.mktemp("int8") / "bundle", "unet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """Two cases whose truth is what the network says in float32, so its Dice is one."""
    root = tmp_path_factory.mktemp("data")
    segmenter = Segmenter.from_bundle(bundle, device="cpu")
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for number in range(2):
        smooth = ndimage.gaussian_filter(random.normal(size=(40, 34, 36)), 3)
        image = root / "images" / f"case_{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image((smooth / smooth.std()).astype(np.float32), np.diag([1.5, 1.5, 2, 1])), image)
        found = segmenter.segment(image)
        nibabel.save(nibabel.Nifti1Image(found.labels, found.affine), root / "labels" / image.name)
    return root


def require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.slow
def test_the_file_is_scored_and_kept_only_where_it_costs_little(bundle: Path, data: Path, tmp_path: Path) -> None:
    require_onnx()
    import onnx
    import onnxruntime

    before = sorted((bundle / "models").iterdir())
    with pytest.raises(UserError, match=r"falls from 1\.000 to 0\.\d+, by more than 0; --force keeps it"):
        export_int8(bundle, data, largest_loss=0)
    assert sorted((bundle / "models").iterdir()) == before

    given = ["--bundle", str(bundle), "--int8", "--calibrate", str(data), "--largest-loss", "0", "--force", "--json"]
    report = json.loads(CliRunner().invoke(app, ["export", *given], catch_exceptions=False).stdout)
    file = bundle / "models" / "model_int8.onnx"
    assert report["file"] == str(file)
    assert (report["cases"], report["window"], report["dice"]) == (2, [1, 32, 32, 32], 1.0)
    assert 0.9 < report["dice_int8"] < 1
    assert report["loss"] == pytest.approx(1 - report["dice_int8"], abs=1e-6)
    assert 0.95 < report["equal_labels"] < 1
    assert report["size_ratio"] < 0.8
    graph = onnx.load(file).graph
    weights = {each.name: each.data_type for each in graph.initializer}
    assert onnx.TensorProto.INT8 in weights.values()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((3, 1, 32, 32, 32), np.float32)})[0].shape == (3, 4, 32, 32, 32)
    assert "preprocessing" in json.loads(session.get_modelmeta().custom_metadata_map["inference"])


@pytest.mark.slow
def test_what_measures_and_was_not_learnt_stays_in_float32(data: Path, tmp_path: Path) -> None:
    require_onnx()
    import onnx

    root = a_bundle(tmp_path / "bundle", "unet_with_structure")
    done = export_int8(root, data, force=True)
    assert done.equal_labels > 0.95
    types = {each.name: each.data_type for each in onnx.load(done.file).graph.initializer}
    assert [types[name] for name in types if name.startswith("structure")] == [onnx.TensorProto.FLOAT] * 3
    assert list(types.values()).count(onnx.TensorProto.INT8) >= 8


def test_without_labels_there_is_nothing_to_score(bundle: Path, data: Path, tmp_path: Path) -> None:
    images = tmp_path / "unlabelled"
    images.mkdir()
    (images / "case_0.nii.gz").symlink_to(data / "images" / "case_0.nii.gz")
    with pytest.raises(UserError, match=r"no labelled cases: give --calibrate"):
        export_int8(bundle, images)


def test_packages_and_networks_that_do_not_go(bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"monai-transfer\[onnx\]"):
            export_int8(bundle, data)
    require_onnx()

    def fails(*given: Any) -> bytes:
        raise RuntimeError("this operation has no graph")

    monkeypatch.setitem(exporting._WRITERS, "onnx", fails)
    with pytest.raises(UserError, match=r"cannot be exported as onnx \(this operation has no graph\)"):
        export_int8(bundle, data)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--int8",), "--int8 and --calibrate belong together"),
        (("--calibrate", "data"), "--int8 and --calibrate belong together"),
        (("--int8", "--calibrate", "data", "--format", "torchscript"), "omit --format torchscript"),
        (("--int8", "--calibrate", "data", "--largest-loss", "2"), "--largest-loss 2"),
    ],
)
def test_options_that_do_not_go_together(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(app, ["export", "--bundle", "bundle", *given], catch_exceptions=False)
