from pathlib import Path

import pytest

from monai_transfer.volumes.volume import channel_of, is_volume, list_volumes, natural_key, stem, without_channel


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NII.GZ", "a.nrrd", "a.mha", "a.mgz"])
def test_volumes_by_ending(name: str) -> None:
    assert is_volume(Path(name))
    assert stem(Path(name)) == "a"


@pytest.mark.parametrize("name", ["._a.nii.gz", ".a.tmp.nii.gz", "a.json", "a.gz", "a.png"])
def test_other_files_are_no_volumes(name: str) -> None:
    assert not is_volume(Path(name))


def test_dots_in_a_name_are_kept() -> None:
    assert stem(Path("sub.01.t1.nii.gz")) == "sub.01.t1"


def test_natural_order() -> None:
    names = ["case_10", "case_2", "Case_1", "b", "7"]
    assert sorted(names, key=natural_key) == ["7", "b", "Case_1", "case_2", "case_10"]


def test_channels() -> None:
    assert channel_of("liver_007_0001") == 1
    assert without_channel("liver_007_0001") == "liver_007"
    assert channel_of("liver_007") is None
    assert without_channel("liver_007") == "liver_007"


def test_absent_folder_has_no_volumes(tmp_path: Path) -> None:
    assert list_volumes(tmp_path / "nowhere") == []
