"""The streamed result against plain MONAI, on every kind of grid."""

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_transfer.errors import UserError
from monai_transfer.inference import Cleaning, Segmenter, SegmentOptions
from monai_transfer.inference.cleaning import single_pieces_of
from monai_transfer.inference.sinks import ProbabilitySink

from .conftest import BANDS, MakeBundle, body, stock, write_nifti

EXACT = SegmentOptions(skip_empty=False)
CODES = ["".join(c) for c in itertools.product("RL", "AP", "SI")]
ORIENTATIONS = ["".join(p) for code in CODES for p in itertools.permutations(code)]
CROP = {
    "_target_": "CropForegroundd",
    "keys": "image",
    "source_key": "image",
    "select_fn": "$lambda x: x > 0.2",
    "allow_smaller": True,
}


def agreement(root: Path, image: Path, options: SegmentOptions = EXACT) -> float:
    labels, _ = stock(root, image)
    ours = Segmenter.from_bundle(root, device="cpu", options=options).segment(image).labels
    expected = labels[0] if len(labels) == 1 else np.moveaxis(labels, 0, -1)
    assert ours.shape == expected.shape
    return float((ours == expected).mean())


def affine_of(codes: str, spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine with the given axis codes: columns of the given lengths along the named directions."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (code, length) in enumerate(zip(codes, spacing, strict=True)):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[row, axis] = length if code in "RAS" else -length
    affine[:3, 3] = [12.5, -30.25, 7.0]
    return affine


def test_labels_equal_those_of_plain_monai(bundle: Path, ct: Path) -> None:
    labels, _ = stock(bundle, ct)
    assert len(np.unique(labels)) == 4
    assert agreement(bundle, ct) >= 0.9999


def test_labels_equal_with_a_random_network(make_bundle: MakeBundle, ct: Path) -> None:
    assert agreement(make_bundle(smooth=False), ct) >= 0.9999


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_labels_equal_on_any_grid(make_bundle: MakeBundle, tmp_path: Path, data: st.DataObject) -> None:
    """Shapes (smaller than the window too), spacings, orientations, overlaps, blending, class counts, crops."""
    shape = data.draw(st.tuples(*[st.integers(5, 34)] * 3), label="shape")
    spacing = data.draw(st.tuples(*[st.floats(0.6, 3.0)] * 3), label="spacing")
    codes = data.draw(st.sampled_from(ORIENTATIONS), label="orientation")
    classes = data.draw(st.integers(2, 7), label="classes")
    made: dict[str, Any] = {
        "roi": data.draw(st.tuples(*[st.integers(6, 20)] * 3), label="roi"),
        "overlap": data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.7]), label="overlap"),
        "mode": data.draw(st.sampled_from(["gaussian", "constant"]), label="mode"),
        "pixdim": data.draw(st.sampled_from([None, (1.5, 1.5, 2.0), (0.9, 2.0, 1.1)]), label="pixdim"),
        "extra": data.draw(st.sampled_from([[], [CROP]]), label="extra"),
        "nearest": data.draw(st.booleans(), label="nearest"),
    }
    names = {str(n): f"label {n}" for n in range(classes)}
    root = make_bundle(network={**BANDS, "out_channels": classes}, channels=names, **made)
    image = write_nifti(tmp_path / "image.nii.gz", body(shape, seed=sum(shape)), affine_of(codes, spacing))
    assert agreement(root, image) >= 0.9999 - 1.01 / np.prod(shape)  # one tie in a tiny volume is no fault


def test_an_oblique_grid(bundle: Path, tmp_path: Path) -> None:
    turn = np.array([[0.9, -0.3, 0.1], [0.28, 0.95, -0.05], [-0.08, 0.07, 0.99]])
    rotation, _ = np.linalg.qr(turn)
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array([1.0, 1.3, 2.2])
    image = write_nifti(tmp_path / "oblique.nii.gz", body((30, 26, 18)), affine)
    assert agreement(bundle, image) >= 0.9999


def test_a_sheared_grid_goes_the_long_way_round(bundle: Path, tmp_path: Path) -> None:
    affine = np.array([[-1.2, 0, 0, 5], [0, 1.0, 0.3, 6], [0, 0, 1.9, 7], [0, 0, 0, 1.0]])
    image = write_nifti(tmp_path / "sheared.nii.gz", body((24, 22, 18)), affine)
    assert agreement(bundle, image) >= 0.9999


def test_padding_and_flips_are_undone(make_bundle: MakeBundle, ct: Path) -> None:
    extra = [
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [60, 8, 8]},
        {"_target_": "DivisiblePadd", "keys": "image", "k": 8},
        {"_target_": "Flipd", "keys": "image", "spatial_axis": [0, 2]},
    ]
    assert agreement(make_bundle(extra=extra), ct) >= 0.9999


def test_overlapping_labels(make_bundle: MakeBundle, ct: Path) -> None:
    root = make_bundle(sigmoid=True)
    assert agreement(root, ct) >= 0.9999
    result = Segmenter.from_bundle(root, device="cpu", options=EXACT).segment(ct)
    assert result.labels.shape[-1] == 4
    assert set(result.volumes_ml) == set(result.label_names.values())


def test_a_hundred_and_five_classes(make_bundle: MakeBundle, tmp_path: Path) -> None:
    names = {str(n): f"label {n}" for n in range(105)}
    root = make_bundle(network={**BANDS, "out_channels": 105}, channels=names)
    image = write_nifti(tmp_path / "image.nii.gz", body((31, 28, 25)))
    assert agreement(root, image) >= 0.9999


def test_bfloat16(bundle: Path, ct: Path) -> None:
    assert agreement(bundle, ct, SegmentOptions(skip_empty=False, precision="bfloat16")) >= 0.99


def test_probabilities_and_uncertainty(bundle: Path, ct: Path) -> None:
    _, expected = stock(bundle, ct)
    options = SegmentOptions(skip_empty=False, probabilities=True, uncertainty=True)
    result = Segmenter.from_bundle(bundle, device="cpu", options=options).segment(ct)
    assert result.probabilities is not None
    assert result.entropy is not None
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-4)
    clipped = np.clip(expected, 1e-7, 1)
    np.testing.assert_allclose(result.entropy, -(clipped * np.log(clipped)).sum(axis=0) / np.log(4), atol=1e-3)
    np.testing.assert_array_equal(result.labels, Segmenter.from_bundle(bundle, options=EXACT).segment(ct).labels)


def test_many_probabilities_lie_in_a_file() -> None:
    few, many = ProbabilitySink((3, 4, 5), 2), ProbabilitySink((3, 4, 5), 2, most=10)
    assert isinstance(many.array, np.memmap)
    values = torch.rand(2, 4, 5)
    for sink in (few, many):
        sink.take(1, slice(0, 4), slice(0, 5), [0, 1], values.clone())
    np.testing.assert_array_equal(many.array, few.array)
    np.testing.assert_allclose(few.array[:, 1] / 65535, values, atol=1e-5)


def test_an_ensemble_averages_probabilities(make_bundle: MakeBundle, ct: Path) -> None:
    members = [make_bundle(smooth=False, seed=n) for n in (1, 2)]
    expected = np.mean([stock(root, ct)[1] for root in members], axis=0).argmax(axis=0)
    result = Segmenter.from_bundle(members, device="cpu", options=EXACT).segment(ct)
    assert (result.labels == expected).mean() >= 0.9999


def test_members_of_an_ensemble_must_match(make_bundle: MakeBundle) -> None:
    with pytest.raises(UserError, match="another preprocessing"):
        Segmenter.from_bundle([make_bundle(), make_bundle(pixdim=(1.0, 1.0, 1.0))], device="cpu")
    with pytest.raises(UserError, match="another inferer"):
        Segmenter.from_bundle([make_bundle(), make_bundle(roi=(8, 8, 8))], device="cpu")


def test_mirroring_changes_nothing_for_a_symmetric_network(bundle: Path, ct: Path) -> None:
    mirrored = SegmentOptions(skip_empty=False, mirror_axes=(0, 1, 2))
    assert agreement(bundle, ct, mirrored) >= 0.9999


def test_empty_windows_are_left_out(make_bundle: MakeBundle, tmp_path: Path) -> None:
    root = make_bundle(roi=(8, 8, 8), overlap=0.25, pixdim=None)
    volume = np.full((64, 40, 40), -1000, dtype=np.int16)
    volume[:20, 10:30, 10:30] = body((20, 20, 20), seed=1)
    image = write_nifti(tmp_path / "image.nii.gz", volume)
    result = Segmenter.from_bundle(root, device="cpu").segment(image)
    computed, planned = result.windows
    assert 0 < computed < planned / 2
    every = Segmenter.from_bundle(root, device="cpu", options=EXACT).segment(image)
    assert (result.labels == every.labels).all()  # what is left out changes nothing
    # a processor's kernels may break a tie of two classes the other way for another batch of windows
    assert (result.labels == stock(root, image)[0][0]).mean() >= 0.9999


def test_noise_is_never_left_out(make_bundle: MakeBundle, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(50, 40, (30, 30, 30)).astype(np.float32)
    image = write_nifti(tmp_path / "noise.nii.gz", noise)
    computed, planned = Segmenter.from_bundle(make_bundle(roi=(8, 8, 8)), device="cpu").segment(image).windows
    assert computed == planned


def two_cubes() -> np.ndarray:
    volume = np.full((30, 30, 30), -1000, dtype=np.int16)
    volume[4:14, 4:14, 4:14] = 300
    volume[20:24, 20:24, 20:24] = 300
    return volume


def test_cleaning_and_volumes(bundle: Path, tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "image.nii.gz", two_cubes(), np.diag([2.0, 2.0, 2.0, 1.0]))
    plain = Segmenter.from_bundle(bundle, device="cpu", options=EXACT).segment(image)
    options = SegmentOptions(skip_empty=False, cleaning=Cleaning(largest_component=("bone",)))
    cleaned = Segmenter.from_bundle(bundle, device="cpu", options=options).segment(image)
    assert (plain.labels[20:24, 20:24, 20:24] == 3).any()
    assert not (cleaned.labels[18:26, 18:26, 18:26] == 3).any()
    assert cleaned.volumes_ml["bone"] == pytest.approx((cleaned.labels == 3).sum() * 8 / 1000)
    options = SegmentOptions(cleaning=Cleaning(largest_component=("brain",)))
    with pytest.raises(UserError, match="no label 'brain'"):
        Segmenter.from_bundle(bundle, device="cpu", options=options).segment(image)


def test_the_bundles_own_cleaning_is_kept(make_bundle: MakeBundle, tmp_path: Path) -> None:
    root = make_bundle()
    config = root / "configs" / "inference.json"
    extra = '{"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [3]}'
    config.write_text(config.read_text().replace('"argmax": true}', f'"argmax": true}}, {extra}'))
    image = write_nifti(tmp_path / "image.nii.gz", two_cubes())
    labels = Segmenter.from_bundle(root, device="cpu", options=EXACT).segment(image).labels
    assert (labels[4:14, 4:14, 4:14] == 3).any()
    assert not (labels[18:26, 18:26, 18:26] == 3).any()


def test_labels_in_one_piece_are_those_of_monai(make_bundle: MakeBundle, tmp_path: Path) -> None:
    root = make_bundle()
    config = root / "configs" / "inference.json"
    extra = (
        '{"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [3, 2], '
        '"is_onehot": false, "independent": true}'
    )
    config.write_text(config.read_text().replace('"argmax": true}', f'"argmax": true}}, {extra}'))
    image = write_nifti(tmp_path / "image.nii.gz", two_cubes())
    segmenter = Segmenter.from_bundle(root, device="cpu", options=EXACT)
    assert [single_pieces_of(step) for step in segmenter.bundle.decision.after] == [(3, 2)]
    assert (segmenter.segment(image).labels == 3).any()
    assert not (segmenter.segment(image).labels[18:26, 18:26, 18:26] == 3).any()
    assert agreement(root, image) == 1.0


@pytest.mark.parametrize("shape", [(40, 33), (9, 12)])
def test_2d(make_bundle: MakeBundle, tmp_path: Path, shape: tuple[int, int]) -> None:
    network = {**BANDS, "_target_": "UNet", "spatial_dims": 2, "channels": [4, 8], "strides": [2]}
    for key in ("kernel_size", "padding"):
        network.pop(key)
    root = make_bundle(smooth=False, network=network, roi=(16, 16), pixdim=(1.5, 1.5))
    config = root / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"axcodes": "RAS"', '"axcodes": "RA"'))
    image = write_nifti(tmp_path / "image.nii.gz", body(shape), np.diag([0.8, -1.1, 1.0, 1.0]))
    assert agreement(root, image) >= 0.9999 - 1.01 / np.prod(shape)


def test_wrong_input_is_named(bundle: Path, tmp_path: Path) -> None:
    segmenter = Segmenter.from_bundle(bundle, device="cpu")
    four = write_nifti(tmp_path / "four.nii.gz", np.zeros((8, 8, 8, 3), np.int16))
    with pytest.raises(UserError, match=r"four.nii.gz has 3 volumes or channels; the bundle expects 1"):
        segmenter.segment(four)
    flat = write_nifti(tmp_path / "flat.nii.gz", np.zeros((8, 8), np.int16))
    with pytest.raises(UserError, match="2D image"):
        segmenter.segment(flat)
    with pytest.raises(UserError, match="does not exist"):
        segmenter.segment(tmp_path / "missing.nii.gz")


def test_a_bundle_must_be_complete(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a bundle folder"):
        Segmenter.from_bundle(tmp_path / "nothing")
    root = make_bundle()
    (root / "models" / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="fetch it again"):
        Segmenter.from_bundle(root)
    (root / "models" / "model.pt").unlink()
    with pytest.raises(UserError, match=r"model.pt is missing"):
        Segmenter.from_bundle(root)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_metadata_of_another_network_are_one_sentence(make_bundle: MakeBundle, ct: Path, count: int) -> None:
    root = make_bundle(channels={str(number): f"organ {number}" for number in range(count)})
    with pytest.raises(UserError, match=f"has 4 outputs where .* speaks of {count}"):
        Segmenter.from_bundle(root, device="cpu").segment(ct)


def test_precision_must_be_known(bundle: Path) -> None:
    with pytest.raises(UserError, match="--precision double"):
        Segmenter.from_bundle(bundle, options=SegmentOptions(precision="double"))
    with pytest.raises(UserError, match="needs a CUDA device"):
        Segmenter.from_bundle(bundle, device="cpu", options=SegmentOptions(precision="float16"))


def test_six_orientations_of_one_brain(bundle: Path, shared_data: Path) -> None:
    segmenter = Segmenter.from_bundle(bundle, device="cpu", options=EXACT)
    results = []
    for path in sorted((shared_data / "formats" / "12_same_brain_many_orientations").iterdir()):
        result = segmenter.segment(path)
        source = nibabel.load(path)
        assert result.labels.shape == source.shape
        np.testing.assert_allclose(result.affine, source.affine)
        results.append(nibabel.as_closest_canonical(nibabel.Nifti1Image(result.labels, result.affine)).get_fdata())
    assert len(results) == 6
    assert all((r == results[0]).mean() > 0.999 for r in results)
