import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_transfer.bundle.arms import ORACLE, SOURCE_ONLY, Arm
from monai_transfer.bundle.config_parts import precision_config
from monai_transfer.bundle.configs import adaptation_configs, finetuning_configs, make_arm, supervised_configs
from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains, choose_domains, plan_adaptation
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.bundle.trust import template
from monai_transfer.datasets import Case, CaseDataset, read_dataset
from monai_transfer.options import Precision
from monai_transfer.phantoms import write_phantoms
from monai_transfer.transforms.presets import label_preset
from tests.conftest import WriteVolume
from tests.test_literals import CANARY, HOSTILE

RECIPE = Arm("adapted")


def a_plan(names: dict[int, str], **options: object) -> Plan:
    return Plan("ct", "mr", names, (4.0, 4.0, 4.0), (32, 32, 32), torch.device("cpu"), **options)  # type: ignore[arg-type]


def cases(root: Path, names: list[str]) -> CaseDataset:
    made = tuple(Case(name, (root / f"{n}.nii.gz",), root / f"{n}_label.nii.gz") for n, name in enumerate(names))
    return CaseDataset(root, made)


def domains(tmp_path: Path, names: list[str]) -> Domains:
    return Domains(cases(tmp_path / "source", names), cases(tmp_path / "target", names), None)


def parse(content: dict[str, object], key: str) -> object:
    return ConfigParser(json.loads(json.dumps(content))).get_parsed_content(key)


def test_nothing_from_data_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [text for text in HOSTILE if text]
    plan = a_plan(dict(enumerate(["background", *names])))
    where = domains(tmp_path / "$open('canary', 'w')", names)
    adapted = adaptation_configs(plan, where, RECIPE)
    supervised = supervised_configs(plan, where.source, None)
    tuned = finetuning_configs(
        plan,
        where.source,
        definition=network_definition("unet", classes=plan.classes),
        strategy=Strategy(),
        weights=f"$open('{CANARY}', 'w')",
        learning_rate=1e-3,
        validation=where.source,
        joint=where.target,
        joint_modality="ct",
    )
    for content, key in ((adapted["train"], "labels"), (supervised["train"], "labels")):
        assert list(parse(content, key).values()) == ["background", *names]  # type: ignore[attr-defined]
    assert parse(adapted["train"], "target_cases") == names
    assert parse(supervised["train"], "train_cases") == names
    assert parse(supervised["train"], "dataset_dir") == str(where.source.root)
    assert parse(adapted["train"], "target_dir") == str(where.target.root)
    assert parse(tuned["finetune"], "weights") == f"$open('{CANARY}', 'w')"
    assert parse(tuned["finetune"], "validation_cases") == names
    assert parse(tuned["finetune"], "joint_cases") == names
    formats = "network_data_format#outputs#pred#channel_def"
    assert list(parse(adapted["metadata"], formats).values()) == ["background", *names]  # type: ignore[attr-defined]
    assert not (tmp_path / CANARY).exists()


def test_source_bodies_are_read_in_the_size_of_the_targets(tmp_path: Path) -> None:
    plan, where = a_plan({0: "background", 1: "liver"}, body_scale=0.8), domains(tmp_path, ["a", "b", "c"])
    train = adaptation_configs(plan, where, RECIPE)["train"]
    assert train["source_spacing"] == [5.0, 5.0, 5.0]  # a body of 0.8 of the size has 0.8 of the voxels
    assert train["spacing"] == [4.0, 4.0, 4.0]
    # source-only has not seen the target, and the oracle learns the target's own bodies
    for arm in (SOURCE_ONLY, ORACLE):
        train = adaptation_configs(plan, where, arm)["train"]
        assert parse(train, "source_spacing") == [4.0, 4.0, 4.0]


def test_the_size_of_bodies_is_measured_where_it_is_not_given(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "ct", modality="ct", subjects=3, size=0.3)
    write_phantoms(tmp_path / "mr", modality="mr", subjects=3, size=0.3, seed=100)
    for path in (tmp_path / "mr").glob("*/*.nii.gz"):  # children: the same voxels, 0.7 times as long
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([0.7, 0.7, 0.7, 1])), path)
    where = Domains(read_dataset(tmp_path / "ct"), read_dataset(tmp_path / "mr"), None)
    plan = plan_adaptation(where, spacing=(12.0, 12.0, 12.0))
    assert plan.body_scale == pytest.approx(0.7, rel=0.08)
    assert plan.source_spacing == pytest.approx([12 / plan.body_scale] * 3)
    # labels of the source then have as many voxels as those of the target, not three times as many
    voxels = [
        np.mean([int((read({"label": case.label})["label"] > 0).sum()) for case in cases.cases])
        for cases, read in (
            (where.source, label_preset(spacing=plan.source_spacing)),
            (where.target, label_preset(spacing=plan.spacing)),
        )
    ]
    assert voxels[0] == pytest.approx(voxels[1], rel=0.3)
    assert plan_adaptation(where, spacing=(12.0, 12.0, 12.0), body_scale=1.0).body_scale == 1.0


def test_a_function_of_its_arguments_alone(tmp_path: Path) -> None:
    plan, where = a_plan({0: "background", 1: "liver"}), domains(tmp_path, ["a", "b", "c", "d", "e"])
    first = adaptation_configs(plan, where, RECIPE)
    first["train"]["train"]["handlers"].clear()
    assert adaptation_configs(plan, where, RECIPE)["train"]["train"]["handlers"]


def test_the_split_is_two_lists(tmp_path: Path) -> None:
    plan, where = a_plan({0: "background", 1: "liver"}), domains(tmp_path, ["a", "b", "c", "d", "e"])
    train = adaptation_configs(plan, where, RECIPE)["train"]
    assert (train["source_cases"], train["validation_cases"]) == (["a", "b", "c", "d"], ["e"])
    oracle = adaptation_configs(plan, where, ORACLE)["train"]
    assert oracle["source_dir"] == str(where.target.root)
    assert oracle["source_cases"] == oracle["validation_cases"] == ["a", "b", "c", "d", "e"]
    floor = adaptation_configs(plan, where, SOURCE_ONLY)["train"]
    assert [bool(arm["atlas_file"]) for arm in (train, oracle, floor)] == [True, True, False]
    few = adaptation_configs(plan, domains(tmp_path, ["a", "b"]), SOURCE_ONLY)["train"]
    assert few["source_cases"] == few["validation_cases"] == ["a", "b"]


@pytest.mark.parametrize(("epochs", "expected"), [(40, (100, 300, 250, 600)), (4, (10, 30, 25, 50))])
def test_an_override_of_the_epochs_moves_the_schedule(epochs: int, expected: tuple[int, ...], tmp_path: Path) -> None:
    plan, where = a_plan({0: "background", 1: "liver"}, steps=1000), domains(tmp_path, ["a", "b", "c"])
    train = {**adaptation_configs(plan, where, RECIPE)["train"], "max_epochs": epochs}
    names = ("warm_up", "ramp", "measure_from", "label_from")
    assert tuple(parse(train, name) for name in names) == expected


@pytest.mark.parametrize("subjects", [2, 4])
def test_the_atlas_is_made_of_every_source_case_once(subjects: int, tmp_path: Path) -> None:
    """Of two cases both are learnt from and watched: counted twice, each would be judged by an atlas of itself."""
    write_phantoms(tmp_path / "ct", modality="ct", subjects=subjects, size=0.2)
    write_phantoms(tmp_path / "mr", modality="mr", subjects=1, size=0.2)
    where = choose_domains(tmp_path / "ct", tmp_path / "mr")
    plan = plan_adaptation(where, device="cpu", spacing=[16.0] * 3, steps=2)
    parser = ConfigParser(adaptation_configs(plan, where, RECIPE)["train"])
    parser.get_parsed_content("imports")
    assert len(parser.get_parsed_content("anatomy#dataset")) == subjects


def test_each_file_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_transfer.bundle import folder

    written: list[str] = []
    write = folder.write_text
    monkeypatch.setattr(folder, "write_text", lambda path, text: (written.append(path.name), write(path, text))[1])
    plan, where = a_plan({0: "background", 1: "liver"}), domains(tmp_path, ["a", "b", "c"])
    bundle = make_arm(where, plan, tmp_path / "bundle", RECIPE)
    assert sorted(written) == ["inference.json", "metadata.json", "train.json"]
    assert {path.name for path in (bundle.root / "configs").iterdir()} == {
        path.name for path in (template("domain_adaptation") / "configs").iterdir()
    }


def test_values_with_gaps_have_an_output_each(tmp_path: Path, write_volume: WriteVolume) -> None:
    plan, where = a_plan({0: "background", 17: "ball", 2035: "body"}), domains(tmp_path, ["a", "b", "c"])
    configs = adaptation_configs(plan, where, RECIPE)
    assert plan.classes == 3
    assert configs["train"]["label_values"] == [0, 17, 2035]
    assert configs["metadata"]["label_values"] == [0, 17, 2035]
    assert configs["inference"]["network_def"]["out_channels"] == 3
    *_, values, _ = parse(configs["inference"], "postprocessing").transforms  # type: ignore[attr-defined]
    found = values({"pred": torch.tensor([[0.0, 1.0, 2.0]])})["pred"]
    assert np.asarray(found).tolist() == [[0.0, 17.0, 2035.0]]
    assert configs["inference"]["postprocessing"]["transforms"][-1]["output_dtype"] == "$numpy.uint16"


def test_labels_in_one_piece_are_kept_in_one_before_they_get_their_values(tmp_path: Path) -> None:
    plan, where = a_plan({0: "background", 17: "ball", 2035: "body"}), domains(tmp_path, ["a", "b", "c"])
    configs = adaptation_configs(replace(plan, single_pieces=(2035,)), where, RECIPE)
    *_, pieces, values, _ = parse(configs["inference"], "postprocessing").transforms  # type: ignore[attr-defined]
    found = values(pieces({"pred": torch.tensor([[[2.0, 2.0, 0.0, 2.0], [1.0, 0.0, 0.0, 1.0]]])}))["pred"]
    assert np.asarray(found).tolist() == [[[2035.0, 2035.0, 0.0, 0.0], [17.0, 0.0, 0.0, 17.0]]]
    assert "KeepLargest" not in json.dumps(adaptation_configs(plan, where, RECIPE)["inference"])


def test_values_without_gaps_need_no_map(tmp_path: Path) -> None:
    plan, where = a_plan({0: "background", 1: "liver"}), domains(tmp_path, ["a", "b", "c"])
    configs = adaptation_configs(plan, where, RECIPE)
    assert configs["train"]["label_values"] is None
    assert "MapLabelValued" not in json.dumps(configs["inference"])


@pytest.mark.parametrize(
    ("precision", "device", "changes"),
    [
        ("float32", "cpu", {}),
        ("bfloat16", "cpu", {"amp": True}),
        ("float16", "cuda", {}),
        ("float32", "cuda", {"amp": False}),
        ("bfloat16", "cuda", {"amp": True, "train#trainer#amp_kwargs": {"dtype": "$torch.bfloat16"}}),
    ],
)
def test_a_configuration_says_in_which_precision_it_trains(
    precision: Precision, device: str, changes: dict[str, object]
) -> None:
    assert precision_config(precision, torch.device(device)) == changes


@pytest.mark.parametrize("able", [True, False])
def test_a_processor_that_multiplies_in_bfloat16_trains_in_it(
    able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai_transfer.machine.has_bfloat16", lambda: able)
    write_phantoms(tmp_path / "ct", modality="ct", subjects=3, size=0.2)
    where = choose_domains(tmp_path / "ct", tmp_path / "ct")
    usual, chosen = plan_adaptation(where, device="cpu"), plan_adaptation(where, device="cpu", precision="float32")
    train = adaptation_configs(usual, where, RECIPE)["train"]
    assert usual.precision == ("bfloat16" if able else "float32")
    assert ConfigParser({**train, "device": torch.device("cpu")}).get_parsed_content("amp") is able
    assert chosen.precision == "float32"
