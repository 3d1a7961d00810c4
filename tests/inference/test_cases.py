"""Which inputs form a case, what is left out, and what the results are called."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monai_transfer.errors import UserError
from monai_transfer.inference.cases import find_cases
from monai_transfer.inference.output_folder import MANIFEST, SIDECARS, files_of, harmless, names_apart

from .conftest import write_nifti


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _names(*inputs: Path, channels: int | None = None) -> list[str]:
    return [case.name for case in find_cases(list(inputs), channels=channels).cases]


def _skipped(*inputs: Path) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in find_cases(list(inputs)).skipped}


def test_find_cases(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.nii.gz", "b/x.nii.gz", "b/y.nrrd", "b/.hidden.nii", "b/y.txt", "set/imagesTr/p.nii")
    _touch(tmp_path, "set/labelsTr/p.nii")
    assert _names(tmp_path) == ["a_x", "b_x", "y", "p"]
    assert _names(tmp_path / "b" / "y.txt") == ["y"]
    with pytest.raises(UserError, match="does not exist"):
        find_cases([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No volumes"):
        find_cases([tmp_path / "empty"])


@pytest.mark.parametrize(
    "name",
    ["s_dseg.nii.gz", "s_seg.nii", "s.seg.nrrd", "s_label.nii.gz", "s_labels.mha", "s-label.nii", "s_mask.nii.gz",
     "s_probseg.nii.gz", "S_SEG.NII.GZ", "derivatives/s.nii.gz", "labels/s.nii", "labelsTs/s.nii.gz"],
)  # fmt: skip
def test_label_maps_in_a_folder_are_left_out_and_named(tmp_path: Path, name: str) -> None:
    _touch(tmp_path, "s.nii.gz", name)
    assert _names(tmp_path) == ["s"]
    assert "by its name" in _skipped(tmp_path)[Path(name).parts[0]]
    assert _names(tmp_path / name) != []  # who names it wants it


@pytest.mark.parametrize("name", ["segment_3.nii.gz", "masked.nii", "label7.nii.gz", "relabel.nii", "nose_g.nii"])
def test_images_whose_names_only_resemble_labels_are_taken(tmp_path: Path, name: str) -> None:
    _touch(tmp_path, name)
    assert len(_names(tmp_path)) == 1


def test_earlier_results_are_left_out(tmp_path: Path) -> None:
    _touch(tmp_path, "s.nii.gz", "out/s.nii.gz", "other/t.nii.gz")
    (tmp_path / "out" / MANIFEST).write_text('{"bundle": {}, "cases": []}')
    (tmp_path / "other" / MANIFEST).write_text('{"name": "an extension of a browser"}')
    assert _names(tmp_path) == ["t", "s"] or sorted(_names(tmp_path)) == ["s", "t"]
    assert "results of monai-transfer" in _skipped(tmp_path)["out"]
    with pytest.raises(UserError, match=r"No volumes.*was left out \(results"):
        find_cases([tmp_path / "out"])


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"cases": 3, "bundle": 1}', "[" * 100_000])
def test_a_broken_manifest_is_none(tmp_path: Path, text: str) -> None:
    _touch(tmp_path, "s.nii.gz")
    (tmp_path / MANIFEST).write_text(text)
    assert _names(tmp_path) == ["s"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "gigabytes"])
def test_what_only_bears_the_name_of_a_manifest_is_not_read(tmp_path: Path, kind: str) -> None:
    _touch(tmp_path, "s.nii.gz")
    if kind == "pipe":
        os.mkfifo(tmp_path / MANIFEST)
    elif kind == "device":
        (tmp_path / MANIFEST).symlink_to("/dev/zero")
    elif kind == "folder":
        (tmp_path / MANIFEST).mkdir()
    else:
        (tmp_path / MANIFEST).touch()
        os.truncate(tmp_path / MANIFEST, 8 << 30)
    assert _names(tmp_path) == ["s"]


def test_one_file_under_several_paths_is_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "s.nii.gz")
    (tmp_path / "zz.nii.gz").symlink_to("s.nii.gz")
    monkeypatch.chdir(tmp_path)
    given_paths = [tmp_path / "s.nii.gz", Path("s.nii.gz"), Path("./../") / tmp_path.name / "s.nii.gz", tmp_path]
    assert _names(*given_paths) == ["s"]
    assert "the same file" in _skipped(tmp_path)["zz.nii.gz"]


def test_a_link_into_an_annex_gives_the_name_not_the_target(tmp_path: Path) -> None:
    _touch(tmp_path, ".git/annex/SHA256-1.nii.gz")
    (tmp_path / "sub-01.nii.gz").symlink_to(".git/annex/SHA256-1.nii.gz")
    assert _names(tmp_path) == ["sub-01"]


def test_a_link_that_leads_nowhere_is_a_case_that_fails(tmp_path: Path) -> None:
    (tmp_path / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    (case,) = find_cases([tmp_path]).cases
    with pytest.raises(UserError, match=r"gone\.nii\.gz"):
        case.read()


def test_folders_that_link_back_end(tmp_path: Path) -> None:
    _touch(tmp_path, "a/s.nii.gz")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert _names(tmp_path) == ["s"]
    assert _skipped(tmp_path)["up"] == "a folder that was read already"


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    _touch(tmp_path, "s.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    assert _names(tmp_path) == ["s"]
    assert "pipe" in _skipped(tmp_path)["pipe.nii.gz"]
    (case,) = find_cases([tmp_path / "pipe.nii.gz"]).cases
    with pytest.raises(UserError, match="pipe or device"):
        case.read()


def test_channels_are_grouped(tmp_path: Path) -> None:
    _touch(tmp_path, "p_0000.nii.gz", "p_0001.nii.gz", "q_0000.nii.gz", "q_0001.nii.gz")
    cases = find_cases([tmp_path], channels=2).cases
    assert [c.name for c in cases] == ["p", "q"]
    assert [len(c.paths) for c in cases] == [2, 2]
    assert len(_names(tmp_path, channels=1)) == 4


@pytest.mark.parametrize(
    "names",
    [("p_0000.nii.gz",), ("p_0001.nii.gz", "p_0002.nii.gz"), ("p_0000.nii", "p_0000.nrrd"),
     ("p_0000.nii", "p_0001.nii", "p_0002.nii")],
)  # fmt: skip
def test_channels_that_are_not_all_there(tmp_path: Path, names: tuple[str, ...]) -> None:
    _touch(tmp_path, *names)
    (case,) = find_cases([tmp_path], channels=2).cases
    with pytest.raises(UserError, match=r"p has the channels .* the bundle takes 0000 to 0001"):
        case.read()


def test_a_bundle_that_does_without_a_channel_gets_air_in_its_place(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(-5, 19, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    nibabel.save(image, tmp_path / "p_0001.nii.gz")
    (case,) = find_cases([tmp_path], channels=3, optional=True).cases
    assert (case.name, case.absent, case.fault) == ("p", (0, 2), None)
    channels = case.read().array
    assert channels.shape == (3, 2, 3, 4)
    assert (channels[[0, 2]] == -5).all()
    np.testing.assert_array_equal(channels[1], np.asarray(image.dataobj))
    (tmp_path / "p_0003.nii.gz").touch()
    (case,) = find_cases([tmp_path], channels=3, optional=True).cases
    with pytest.raises(UserError, match="the bundle takes 0000 to 0002"):
        case.read()


@pytest.mark.parametrize(
    ("wishes", "names"),
    [
        ([["ct_scan_2"], ["scan", "ct_scan"], ["scan", "ct_scan"]], ["ct_scan_2", "ct_scan", "ct_scan_3"]),
        ([["x_probabilities"], ["x"]], ["x_probabilities", "x_2"]),
        ([["x"], ["x_preview"], ["x_uncertainty"]], ["x", "x_preview", "x_uncertainty_2"]),
        ([["Scan", "a_Scan"], ["scan", "b_scan"]], ["a_Scan", "b_scan"]),
        ([["\u00e9", "a_\u00e9"], ["e\u0301", "b_e\u0301"]], ["a_\u00e9", "b_\u00e9"]),
        ([["a/b", "1_a"], ["a:b", "2_b"]], ["1_a", "2_b"]),
        ([["x", "x"], ["x", "x"]], ["x", "x_2"]),
    ],
)
def test_names_never_meet(wishes: list[list[str]], names: list[str]) -> None:
    assert names_apart(wishes) == names


@given(st.lists(st.lists(st.text(alphabet="xX_2probailtes.é", max_size=18), min_size=1, max_size=2), max_size=12))
def test_no_two_files_of_a_run_are_one(wishes: list[list[str]]) -> None:
    files = [file.casefold() for name in names_apart(wishes) for file in files_of(name)]
    assert len(set(files)) == len(files)
    assert not {MANIFEST, *SIDECARS} & set(files)


@given(st.text())
@example("- 0")
def test_names_are_harmless(text: str) -> None:
    name = harmless(text)
    assert name == harmless(name)
    assert 0 < len(name.encode()) <= 160
    assert not set(name) & set('/\\:*?"<>|\n\r\t\0')
    assert name[0] not in "-. "
    assert name[-1] not in ". "


@pytest.mark.parametrize(
    "name", ["a" * 240, "é" * 120, "..", "...", "-rf", "NUL", "com1", "a\u202eb", "\x1b[31m", "\udcff"]
)
def test_odd_names_can_be_written(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / f"{harmless(name)}_probabilities.nii.gz", np.zeros((2, 2, 2), np.uint8))
    assert harmless(name) not in ("", ".", "..", "NUL", "com1")


def test_long_names_that_begin_alike_stay_apart(tmp_path: Path) -> None:
    assert harmless("a" * 200 + "1") != harmless("a" * 200 + "2")


def test_a_file_without_a_name_is_called_after_its_folder(tmp_path: Path) -> None:
    _touch(tmp_path / "series", ".nii.gz")
    assert _names(tmp_path / "series" / ".nii.gz") == ["series"]
