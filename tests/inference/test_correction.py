"""Labels of a bundle that keeps an atlas, corrected on the whole working grid."""

import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from typer.testing import CliRunner

from monai_transfer.adaptation import LabelAtlas, correct_new_scan
from monai_transfer.adaptation.atlas_file import write_atlas
from monai_transfer.bundle.reading import read_bundle
from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.inference import correction
from monai_transfer.inference.pipeline import Clock, atlas_of
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.inference.segmentation import SegmentOptions
from monai_transfer.inference.segmenter import Segmenter
from monai_transfer.inference.whole_image import over_whole_image, whole_image
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading
from tests.inference.conftest import BANDS, MakeBundle, write_nifti

ROI = (16, 16, 16)


def layout(by: int = 0) -> torch.Tensor:
    """Class 1 beside class 2 and below class 3, ``(1, 30, 28, 26)``."""
    label = torch.zeros(1, 30, 28, 26, dtype=torch.long)
    label[0, 5 + by : 13 + by, 6:16, 5:13], label[0, 18 + by : 24 + by, 8:14, 6:12] = 1, 2
    label[0, 6 + by : 14 + by, 8:18, 17:23] = 3
    return label


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout in intensities of the network's bands, with noise and another class 2 where none lies."""
    values = torch.tensor([-200.0, -33.0, 133.0, 300.0])[layout(1)[0]].numpy()
    values[2:5, 20:24, 2:6] = 133.0
    noisy = values + np.random.default_rng(0).normal(0, 60, values.shape)
    return write_nifti(tmp_path_factory.mktemp("scan") / "scan.nii.gz", noisy.astype(np.float32), np.eye(4))


@pytest.fixture(scope="module")
def corrected(make_bundle: MakeBundle) -> Path:
    root = make_bundle(network=BANDS, pixdim=(1.0, 1.0, 1.0), roi=ROI, overlap=0.25)
    write_atlas(LabelAtlas([layout(by) for by in (-1, 0, 1, 2)], classes=4), root / "models" / "anatomy.safetensors")
    return root


@pytest.fixture(scope="module")
def beside_coil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same body without the stray class, seen by a coil behind it."""
    values = torch.tensor([-200.0, -33.0, 133.0, 300.0])[layout(1)[0]].numpy()
    noisy = values + np.random.default_rng(0).normal(0, 15, values.shape)
    field = np.exp(1.5 - 4.5 * np.linspace(0, 1, values.shape[1]))[:, None].clip(max=1)
    return write_nifti(
        tmp_path_factory.mktemp("coil") / "scan.nii.gz", ((noisy + 200) * field - 200).astype(np.float32), np.eye(4)
    )


def expected(root: Path, scan: Path) -> np.ndarray:
    """By MONAI's inferer over the whole image, and the atlas that the file holds."""
    bundle = read_bundle(root)
    image = preprocess(read_volume(scan), bundle.preprocessing, key="image").as_tensor()
    inferer = SlidingWindowInferer(ROI, overlap=0.25, mode="gaussian")
    with torch.no_grad():
        probabilities = inferer(image[None], bundle.network)[0].softmax(0)
    atlas = atlas_of(bundle)
    assert atlas is not None
    return correct_new_scan(image, probabilities, atlas).argmax(0).numpy()


def labels(root: Path, scan: Path, **options: object) -> np.ndarray:
    asked = SegmentOptions(runtime="torch", skip_empty=False, **options)  # type: ignore[arg-type]
    return Segmenter.from_bundle(root, device="cpu", options=asked).segment(scan).labels


def test_labels_are_those_of_the_corrected_prediction(corrected: Path, scan: Path) -> None:
    found = labels(corrected, scan)
    assert np.array_equal(found, expected(corrected, scan))
    plain = labels(corrected, scan, correct=False)
    truth = layout(1)[0].numpy()
    assert (found == truth).mean() > 0.99 > (plain == truth).mean()
    elsewhere = np.s_[2:5, 20:24, 2:6]
    assert (found[elsewhere] > 0).sum() < 0.1 * (plain[elsewhere] > 0).sum()


def test_uncorrected_labels_are_those_of_the_same_bundle_without_an_atlas(
    corrected: Path, scan: Path, tmp_path: Path
) -> None:
    without = shutil.copytree(corrected, tmp_path / "without")
    (without / "models" / "anatomy.safetensors").unlink()
    assert np.array_equal(labels(corrected, scan, correct=False), labels(without, scan))
    assert read_bundle(without).checksum != read_bundle(corrected).checksum


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_whichever_axis_slices_are_streamed(
    corrected: Path, scan: Path, axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import monai_transfer.inference.windows as windows

    rows, columns = (other for other in range(3) if other != axis)
    monkeypatch.setattr(windows, "streaming_order", lambda shape, roi: (axis, rows, columns))
    assert np.array_equal(labels(corrected, scan), expected(corrected, scan))


def test_a_network_sees_an_image_without_a_strong_field_as_well(
    corrected: Path, beside_coil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = layout(1)[0].numpy()

    def right(found: np.ndarray) -> float:
        return float(((found == truth) & (truth > 0)).sum() / (truth > 0).sum())

    counts: list[tuple[int, int]] = []
    asked = SegmentOptions(runtime="torch", skip_empty=False)
    segmenter = Segmenter.from_bundle(corrected, device="cpu", options=asked)
    twice = segmenter.segment(beside_coil, progress=lambda *seen: counts.append(seen)).labels
    bundle = read_bundle(corrected)
    image = whole_image(bundle, [beside_coil], Reading())
    judged = over_whole_image(bundle.network, bundle.window, atlas_of(bundle))(image[None])[0].argmax(0).numpy()
    assert np.array_equal(twice, judged)  # what estimates the Dice of labels sees the same ones
    assert all(done <= of for done, of in counts)
    assert counts[-1][0] == counts[-1][1] == 2 * counts[0][1]
    monkeypatch.setattr(correction, "_STRONG", 10.0)
    once = labels(corrected, beside_coil)
    assert right(twice) > 0.96
    assert right(once) < 0.95


def test_a_network_that_learnt_the_field_keeps_its_labels(beside_coil: Path) -> None:
    label = layout(1)[0]
    image = torch.from_numpy(nibabel.load(beside_coil).get_fdata(dtype=np.float32))[None]
    atlas = LabelAtlas([layout(by) for by in (-1, 0, 1, 2)], classes=4)
    sure = 0.01 + 0.96 * torch.nn.functional.one_hot(label, 4).movedim(-1, 0).float()
    seen: list[torch.Tensor] = []

    def unsure(even: torch.Tensor) -> torch.Tensor:
        seen.append(even)
        return torch.full_like(sure, 0.25)

    found = correction.corrected(image, sure, atlas, unsure).argmax(0)
    assert (found == label)[label > 0].float().mean() > 0.95
    assert len(seen) == 1
    stripe = [float(each[0][label == 3].std()) for each in (image, seen[0])]
    assert stripe[1] < 0.6 * stripe[0]  # it was asked about the image without the field


def test_the_strength_of_a_field_is_that_of_tissue_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, 20, 20, 20), generator=generator) + 1.0
    image[:, :4] = 0.0  # air, some of it labelled
    field = torch.linspace(-0.6, 0.6, 20)[:, None].expand(20, 20)
    even = torch.stack([image[0], image[1] * (-field).exp()])
    even[1, :2, :2] -= 1e-3  # a little below air
    labelled = torch.ones(20, 20, 20, dtype=torch.bool)
    assert correction._strength(image, even, labelled) == pytest.approx(float(field.std(correction=0)), rel=1e-3)
    assert correction._strength(image, image, labelled) == 0.0
    assert correction._strength(image, even, ~labelled) == 0.0


def test_a_stage_counts_no_time_of_stages_within_it() -> None:
    clock = Clock(torch.device("cpu"))
    with clock("restore"):
        with clock("network"):
            time.sleep(0.05)
        time.sleep(0.01)
    assert clock.seconds["network"] >= 0.05 > clock.seconds["restore"] >= 0.01


def test_a_volume_that_is_too_large_stays_as_the_network_draws_it(
    corrected: Path, scan: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(correction, "MOST_CORRECTED", 1000)
    assert np.array_equal(labels(corrected, scan), labels(corrected, scan, correct=False))
    assert "not corrected by anatomy" in caplog.text  # which a manifest has among the warnings


def test_an_atlas_of_other_labels_is_refused(make_bundle: MakeBundle, scan: Path) -> None:
    root = make_bundle(network=BANDS)
    write_atlas(LabelAtlas([layout().clamp(max=2)] * 3, classes=3), root / "models" / "anatomy.safetensors")
    with pytest.raises(UserError, match="knows 2 labels, the bundle 3"):
        Segmenter.from_bundle(root, device="cpu")


def test_the_command_corrects_unless_told_otherwise(corrected: Path, scan: Path, tmp_path: Path) -> None:
    for folder, options in (("corrected", []), ("plain", ["--uncorrected"])):
        asked = ["segment", str(scan), "--bundle", str(corrected), "--output", str(tmp_path / folder)]
        done = CliRunner().invoke(app, [*asked, "--runtime", "torch", "--all-windows", "--device", "cpu", *options])
        assert done.exit_code == 0, done.output
        written = np.asarray(nibabel.load(tmp_path / folder / "scan.nii.gz").dataobj)
        assert np.array_equal(written, labels(corrected, scan, correct=not options))
