import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.datasets import ExamDataset, check_exams, read_exams, require_sound_exams
from monai_transfer.errors import UserError
from tests.conftest import WriteVolume


def write_picture(path: Path, seed: int = 0, *, shape: tuple[int, ...] = (8, 10), dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)
    Image.fromarray(pixels).save(path)
    return path


def folder_per_class(root: Path, counts: dict[str, int]) -> Path:
    seed = 0
    for name, count in counts.items():
        for number in range(count):
            write_picture(root / name / f"{name}_{number}.png", seed)
            seed += 1
    return root


def table(root: Path, text: str) -> Path:
    path = root / "list.csv"
    path.write_text(text)
    return path


def test_a_folder_per_class(tmp_path: Path) -> None:
    exams = read_exams(folder_per_class(tmp_path, {"pneumonia": 2, "Normal": 3}))
    assert exams.counts == {"Normal": 3, "pneumonia": 2}  # what is not there comes first, so the finding is positive
    assert exams.exclusive
    assert [item["label"] for item in exams.items()] == [0, 0, 0, 1, 1]


def test_a_folder_inside_of_a_class_is_a_patient(tmp_path: Path) -> None:
    for number in range(2):
        write_picture(tmp_path / "lesion" / "anna" / f"{number}.png", number)
    write_picture(tmp_path / "healthy" / "0.png", 9)
    exams = read_exams(tmp_path)
    assert exams.patients == ("anna", "healthy_0")
    assert len(set(exams.names)) == 3  # files that share a name get their folders' before it


def test_folders_of_splits(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        folder_per_class(tmp_path / split, {f"class_{n}": 1 for n in range(2)})
        write_picture(tmp_path / split / "class_0" / f"own_{number}.png", 50 + number)
    exams = read_exams(tmp_path)
    assert [len(exams.of_split(split)) for split in ("train", "validation", "test")] == [3, 3, 3]


def test_findings_with_gaps(tmp_path: Path) -> None:
    exams = read_exams(table(tmp_path, "image,patient,mass,effusion\na.png,p1,1,0\nb.png,p1,,1\nc.png,p2,,\n"))
    assert not exams.exclusive
    assert exams.class_names == ("mass", "effusion")
    assert exams.exams[1].target is not None
    assert math.isnan(exams.exams[1].target[0])
    assert exams.exams[2].target is None
    assert len(exams.labelled) == 2


def test_a_datalist(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    content = {
        "class_names": ["benign", "malignant"],
        "training": [{"image": "a.png", "label": "malignant", "patient": "x"}, {"image": "b.png", "label": 0}],
        "test": [{"image": "c.png", "label": 1}],
    }
    path.write_text(json.dumps(content))
    exams = read_exams(path)
    assert [exam.split for exam in exams.exams] == ["train", "train", "test"]
    assert exams.counts == {"benign": 1, "malignant": 2}


def test_several_channels(tmp_path: Path) -> None:
    exams = read_exams(table(tmp_path, "image_t1,image_t2,label\na1.nii.gz,a2.nii.gz,x\nb1.nii.gz,b2.nii.gz,y\n"))
    assert exams.channel_names == ("t1", "t2")
    assert len(exams.exams[0].images) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("label\nx\n", "no column of images"),
        ("image,label\na.png\n", "line 2"),
        ("image,label,split\na.png,x,holdout\n", "holdout"),
        ("image,mass\na.png,perhaps\n", "perhaps"),
        ("image,image\na,b\n", "twice"),
        ("image,label\na.png,x\nb/../a.png,y\n", "more than once"),
        ("image,name,label\na.png,../x,y\n", "name of a file"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_exams(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_beside_the_classes_is_refused(tmp_path: Path) -> None:
    folder_per_class(tmp_path, {"a": 1})
    write_picture(tmp_path / "stray.png")
    with pytest.raises(UserError, match="stray"):
        read_exams(tmp_path)


def test_a_split_keeps_patients_together_and_classes_alike(tmp_path: Path) -> None:
    lines = [f"{p}_{v}.png,{'lesion' if p % 4 == 0 else 'healthy'},p{p}" for p in range(40) for v in range(3)]
    exams = read_exams(table(tmp_path, "image,label,patient\n" + "\n".join(lines)))
    first, second = exams.split(0.2, seed=1)
    assert not set(first.patients) & set(second.patients)
    assert second.counts == {"healthy": 18, "lesion": 6}
    assert first.split(0.2)[0].names != exams.split(0.2, seed=2)[0].names
    assert exams.split(0.2, seed=1)[1].names == second.names


def test_a_split_needs_patients(tmp_path: Path) -> None:
    exams = read_exams(table(tmp_path, "image,label,patient\na.png,x,p\nb.png,y,p\n"))
    with pytest.raises(UserError, match="1 patient"):
        exams.split(0.5)


def test_the_same_classes_in_another_order(tmp_path: Path) -> None:
    exams = read_exams(folder_per_class(tmp_path, {"a": 1, "b": 1}))
    turned = exams.as_classes(("b", "c", "a"), exclusive=True)
    assert [exam.target for exam in turned.exams] == [(0.0, 0.0, 1.0), (1.0, 0.0, 0.0)]
    with pytest.raises(UserError, match="'a'"):
        exams.as_classes(("b", "c"), exclusive=True)


def _check(root: Path) -> tuple[ExamDataset, set[str]]:
    exams = read_exams(root)
    return exams, {fault.kind for fault in check_exams(exams).faults}


def test_pictures_are_sound_and_described(tmp_path: Path) -> None:
    folder_per_class(tmp_path, {"a": 2, "b": 2})
    report = check_exams(read_exams(tmp_path))
    assert report.sound
    assert (report.spatial_dims, report.channels, report.size) == (2, 1, (10, 8))
    write_picture(tmp_path / "b" / "colour.png", 7, shape=(8, 10, 3))
    assert check_exams(read_exams(tmp_path)).channels == 3


def test_grey_stored_as_colour_is_grey(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (8, 10), np.uint8)
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.stack([grey + ord(name[0])] * 3, -1)).save(tmp_path / name)
    assert check_exams(read_exams(tmp_path)).channels == 1


def test_a_patient_on_both_sides_is_a_fault(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / f"{name}.png", ord(name))
    path = table(tmp_path, "image,label,patient,split\na.png,x,anna,train\nb.png,y,anna,test\n")
    assert _check(path)[1] == {"leakage"}
    with pytest.raises(UserError, match="anna"):
        require_sound_exams(read_exams(path))


def test_the_same_pixels_twice(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        write_picture(tmp_path / name, 5)
    kinds = [fault.kind for fault in check_exams(read_exams(tmp_path)).faults]
    assert kinds == ["leakage", "contradiction"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("cut.png", None, "unreadable"), ("text.jpg", b"no picture", "unreadable"), ("flat.png", b"flat", "constant")],
)
def test_pictures_that_are_faults(tmp_path: Path, name: str, content: bytes | None, kind: str) -> None:
    folder_per_class(tmp_path, {"a": 1, "b": 1})
    path = tmp_path / "a" / name
    if content is None:
        write_picture(path, shape=(64, 64))
        path.write_bytes(path.read_bytes()[:200])
    elif content == b"flat":
        Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path)
    else:
        path.write_bytes(content)
    assert _check(tmp_path)[1] == {kind}


def test_pictures_and_volumes_do_not_mix(tmp_path: Path, write_volume: WriteVolume) -> None:
    write_picture(tmp_path / "a" / "1.png")
    write_volume("b/2.nii.gz")
    assert _check(tmp_path)[1] == {"mixed"}


def test_the_command(tmp_path: Path) -> None:
    folder_per_class(tmp_path / "data", {"a": 3, "b": 3})
    result = CliRunner().invoke(app, ["check", str(tmp_path / "data"), "--task", "diagnosis", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["classes"] == {"a": 3, "b": 3}
    write_picture(tmp_path / "data" / "b" / "twin.png", 0)
    result = CliRunner().invoke(app, ["check", str(tmp_path / "data"), "--task", "diagnosis"])
    assert result.exit_code == 1
    assert "same pixels" in result.stdout


def test_a_folder_can_be_named_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_per_class(tmp_path / "data", {"healthy": 1, "lesion": 1})
    monkeypatch.chdir(tmp_path)
    exams = read_exams("data")
    assert [exam.images[0].is_file() for exam in exams.exams] == [True, True]
    assert exams.names == read_exams(tmp_path / "data").names
