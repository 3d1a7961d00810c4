import json
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.datasets import CaseDataset, read_dataset
from monai_transfer.errors import UserError
from monai_transfer.workflows.training import choose_cases


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def shape(dataset: CaseDataset) -> dict[str, tuple[tuple[str, ...], str | None]]:
    """Name -> file names of the images, and of the label."""
    return {
        case.name: (tuple(path.name for path in case.images), case.label.name if case.label else None)
        for case in dataset.cases
    }


def test_images_and_labels_with_equal_names(tmp_path: Path) -> None:
    touch(tmp_path, "images/b10.nii.gz", "images/b9.nrrd", "labels/b9.nii.gz", "images/._b9.nrrd")
    write_json(tmp_path / "labels.json", {"cord": 1})
    dataset = read_dataset(tmp_path)
    assert shape(dataset) == {"b9": (("b9.nrrd",), "b9.nii.gz"), "b10": (("b10.nii.gz",), None)}
    assert dataset.names == ("b9", "b10")
    assert dataset.label_names == {0: "background", 1: "cord"}


def test_decathlon(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/spleen_2.nii.gz", "imagesTr/spleen_10.nii.gz", "imagesTs/spleen_1.nii.gz")
    touch(tmp_path, "labelsTr/spleen_2.nii.gz", "labelsTr/spleen_10.nii.gz")
    write_json(
        tmp_path / "dataset.json",
        {
            "modality": {"0": "CT"},
            "labels": {"0": "background", "1": "spleen"},
            "training": [
                {"image": f"./imagesTr/spleen_{n}.nii.gz", "label": f"./labelsTr/spleen_{n}.nii.gz"} for n in (10, 2)
            ],
            "test": ["./imagesTs/spleen_1.nii.gz"],
        },
    )
    dataset = read_dataset(tmp_path)
    assert dataset.names == ("spleen_2", "spleen_10")
    assert dataset.channel_names == ("CT",)
    assert dataset.label_names == {0: "background", 1: "spleen"}
    assert read_dataset(tmp_path, section="test").names == ("spleen_1",)
    assert len(read_dataset(tmp_path, section="all")) == 3
    assert read_dataset(tmp_path / "dataset.json").names == dataset.names


def test_case_numbers_of_four_digits_are_no_channels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/la_0001.nii.gz", "imagesTr/la_0002.nii.gz", "labelsTr/la_0001.nii.gz")
    assert read_dataset(tmp_path).names == ("la_0001", "la_0002")
    touch(tmp_path, "flat/ct_0000.nii.gz", "flat/ct_0001.nii.gz")
    assert read_dataset(tmp_path / "flat").names == ("ct_0000", "ct_0001")


def test_the_list_wins_and_its_missing_files_stay_for_the_check(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    write_json(tmp_path / "dataset.json", {"training": [{"image": "./imagesTr/gone.nii.gz"}]})
    dataset = read_dataset(tmp_path)
    assert dataset.names == ("gone",)
    assert [(warning.kind, warning.path.name) for warning in dataset.warnings] == [("unlisted", "a.nii.gz")]


def test_nnunet_channels(tmp_path: Path) -> None:
    touch(tmp_path, *[f"imagesTr/brats_{n}_000{c}.nii.gz" for n in (1, 2) for c in (1, 0)])
    touch(tmp_path, "labelsTr/brats_1.nii.gz")
    write_json(
        tmp_path / "dataset.json",
        {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "tumour": 1}, "numTraining": 2},
    )
    dataset = read_dataset(tmp_path)
    assert shape(dataset) == {
        "brats_1": (("brats_1_0000.nii.gz", "brats_1_0001.nii.gz"), "brats_1.nii.gz"),
        "brats_2": (("brats_2_0000.nii.gz", "brats_2_0001.nii.gz"), None),
    }
    assert dataset.channel_names == ("T1", "T2")


def test_nnunet_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTs/a_0000.nii.gz", "imagesTs/b_0000.nii.gz")
    assert read_dataset(tmp_path).names == ("a", "b")


def test_nnunet_1_lists_names_without_channels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    entry = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    write_json(tmp_path / "dataset.json", {"training": [entry]})
    assert read_dataset(tmp_path).names == ("a",)


def test_datalist(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.nii.gz", "y/a.nii.gz", "x/b.nii.gz", "x/c.nii.gz", "x/d1.nii.gz", "x/d2.nii.gz")
    path = write_json(
        tmp_path / "split.json",
        {
            "training": [{"image": "x/a.nii.gz", "label": "y/a.nii.gz"}, {"image": ["x/d1.nii.gz", "x/d2.nii.gz"]}],
            "validation": [{"image": str(tmp_path / "x/b.nii.gz")}],
            "test": ["x/c.nii.gz"],
        },
    )
    dataset = read_dataset(path)
    assert dataset.names == ("a", "b", "d1")
    assert dataset.cases[0].label == tmp_path / "y/a.nii.gz"
    assert read_dataset(path, section="test").names == ("c",)


def test_equal_file_names_take_their_folders_names(tmp_path: Path) -> None:
    entries = [{"image": f"sub-{n}/t1.nii.gz"} for n in (2, 1)]
    path = write_json(tmp_path / "list.json", {"training": entries})
    assert read_dataset(path).names == ("sub-1_t1", "sub-2_t1")
    path = write_json(tmp_path / "list.json", {"training": entries + entries})
    with pytest.raises(UserError, match="more than once"):
        read_dataset(path)


@pytest.mark.parametrize("entry", [{"label": "a.nii.gz"}, {"image": 3}, {"image": ["a.nii", None]}, {"image": []}])
def test_entries_without_an_image(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(UserError, match=r"list\.json.*image"):
        read_dataset(write_json(tmp_path / "list.json", {"training": [entry]}))


def test_class_labels_are_no_label_maps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a path"):
        read_dataset(write_json(tmp_path / "list.json", {"training": [{"image": "a.nii.gz", "label": 1}]}))


def test_bare_volumes(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.mgz", "notes.txt")
    assert shape(read_dataset(tmp_path)) == {"a": (("a.mgz",), None), "b": (("b.nii.gz",), None)}
    assert read_dataset(tmp_path / "a.mgz").names == ("a",)


def test_images_only(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz")
    assert shape(read_dataset(tmp_path)) == {"a": (("a.nii.gz",), None)}


def test_stray_labels_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz", "labels/b.nii.gz")
    assert [fault.path for fault in read_dataset(tmp_path).faults] == [tmp_path / "labels/b.nii.gz"]


def test_two_files_of_one_case(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz", "images/a.nrrd")
    with pytest.raises(UserError, match="same case"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "is empty"),
        (["labels/a.nii.gz"], "labels but no images"),
        (["readme.txt"], "no volumes"),
        (["images/readme.txt"], "no volumes"),
    ],
)
def test_nothing_to_read(tmp_path: Path, files: list[str], words: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=words):
        read_dataset(tmp_path)


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_dataset(tmp_path / "nowhere")
    touch(tmp_path, "a.txt")
    with pytest.raises(UserError, match="neither a volume nor a datalist"):
        read_dataset(tmp_path / "a.txt")


def test_real_volumes(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "neonatal_brain_t1_t2" / "T2")
    assert len(dataset) == len(dataset.labelled) == 12
    assert dataset.select(["ALBERT_0*"]).names[-1] == "ALBERT_08"


def _folded(folder: Path, folds: list[object]) -> Path:
    entries = []
    for number, fold in enumerate(folds):
        for part in ("image", "label"):
            (folder / f"{part}_{number}.nii.gz").touch()
        entry = {"image": f"image_{number}.nii.gz", "label": f"label_{number}.nii.gz"}
        entries.append(entry if fold is None else {**entry, "fold": fold})
    (folder / "datalist.json").write_text(json.dumps({"training": entries}))
    return folder / "datalist.json"


def test_folds_of_a_datalist_say_what_is_held_out(tmp_path: Path) -> None:
    data = _folded(tmp_path, [1, 0, 2, 1, None])
    first, second = choose_cases(data), choose_cases(data, fold=1)
    assert first.held is not None
    assert second.held is not None
    assert first.held.names == ("image_1",)
    assert second.held.names == ("image_0", "image_3")
    assert second.training.names == ("image_1", "image_2", "image_4")
    with pytest.raises(UserError, match=r"cannot hold the fold 3 out: its cases are in the folds 0, 1, 2\."):
        choose_cases(data, fold=3)


@pytest.mark.parametrize("fold", ["1", -1, True, 0.5])
def test_a_fold_is_a_number(tmp_path: Path, fold: object) -> None:
    with pytest.raises(UserError, match=r'the "fold" .* of an entry is not a number'):
        read_dataset(_folded(tmp_path, [fold]))
