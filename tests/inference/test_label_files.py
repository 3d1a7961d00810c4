"""Label maps in the formats of other programs: what is read back is the label map, in its place."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.volumes.reading import read_volume
from monai_transfer.workflows.segmenting import segment
from tests.inference.conftest import MakeBundle, body, write_nifti
from tests.volumes.dicom_files import axial, tilted, write_series


def run(given: Path, bundle: Path, out: Path, **options: object) -> list[dict]:
    return segment(given, bundle, out, device="cpu", options=SegmentOptions(**options))["cases"]


@pytest.mark.parametrize("kind", ["nrrd", "seg.nrrd", "mha", "mgz"])
def test_a_format_by_name(bundle: Path, ct: Path, tmp_path: Path, kind: str) -> None:
    (entry,) = run(ct, bundle, tmp_path / "out", format=kind)
    assert entry["output"] == str(tmp_path / "out" / f"ct.{kind}")
    assert {p.name for p in (tmp_path / "out").glob("ct*")} == {f"ct.{kind}"}
    expected, found = Segmenter.from_bundle(bundle, device="cpu").segment(ct), read_volume(Path(entry["output"]))
    np.testing.assert_array_equal(found.array[0], expected.labels)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    (again,) = segment(ct, bundle, tmp_path / "out", device="cpu", options=SegmentOptions(format=kind), resume=True)[
        "cases"
    ]
    assert again == entry


def test_the_format_of_the_input(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image = write_nifti(folder / "a.nii.gz", body((12, 12, 12)))
    for name in ("b.nrrd", "c.mha"):
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(image)), str(folder / name))
    nibabel.save(nibabel.load(image), folder / "d.nii")
    nibabel.save(nibabel.MGHImage(body((12, 12, 12)), nibabel.load(image).affine), folder / "e.mgz")
    write_series(folder / "f", axial(np.arange(-20.0, 16.0, 1.5)))
    outputs = [Path(entry["output"]).name for entry in run(folder, bundle, tmp_path / "out", format="same")]
    assert outputs == ["a.nii.gz", "b.nrrd", "c.mha", "d.nii", "e.mgz", "f.nii.gz"]
    np.testing.assert_array_equal(
        read_volume(tmp_path / "out" / "b.nrrd").array, read_volume(tmp_path / "out" / "a.nii.gz").array
    )


def test_slicer_reads_names_values_and_colours(make_bundle: MakeBundle, ct: Path, tmp_path: Path) -> None:
    names = {"0": "background", "1": "left\nkidney", "2": "muscle", "3": "bone"}
    (entry,) = run(ct, make_bundle(channels=names), tmp_path / "out", format="seg.nrrd", masks=True)
    image = SimpleITK.ReadImage(entry["output"])
    assert image.GetMetaData("Segment0_Name") == "left kidney"
    assert [image.GetMetaData(f"Segment{n}_LabelValue") for n in range(3)] == ["1", "2", "3"]
    assert image.GetMetaData("Segment2_Extent") == "0 44 0 37 0 28"
    assert len(image.GetMetaData("Segment0_Color").split()) == 3
    mask = SimpleITK.ReadImage(str(tmp_path / "out" / "ct_labels" / "muscle.seg.nrrd"))
    assert (mask.GetMetaData("Segment0_Name"), mask.HasMetaDataKey("Segment1_Name")) == ("muscle", False)


def test_overlapping_labels_are_layers(make_bundle: MakeBundle, ct: Path, tmp_path: Path) -> None:
    root = make_bundle(sigmoid=True)
    (entry,) = run(ct, root, tmp_path / "out", format="seg.nrrd")
    image = SimpleITK.ReadImage(entry["output"])
    expected = Segmenter.from_bundle(root, device="cpu").segment(ct).labels
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0, 3), expected)
    assert [image.GetMetaData(f"Segment{n}_Layer") for n in range(4)] == ["0", "1", "2", "3"]
    assert {image.GetMetaData(f"Segment{n}_LabelValue") for n in range(4)} == {"1"}


def test_a_leaning_grid_is_refused(bundle: Path, tmp_path: Path) -> None:
    positions, axes = tilted(np.arange(-20.0, 16.0, 1.5), 20)
    write_series(tmp_path / "scan", positions, axes)
    (entry,) = run(tmp_path / "scan", bundle, tmp_path / "out", format="nrrd")
    assert "leaning grid, which NRRD cannot hold: omit --format" in entry["error"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".nrrd" or "making" in path.name]
