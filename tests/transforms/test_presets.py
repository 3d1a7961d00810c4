"""The presets equal what a bundle's inference spells out, and give tensors a network can train on."""

from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import list_data_collate

from monai_transfer.bundle.allowed import is_allowed_expression
from monai_transfer.bundle.config_parts import inference_preprocessing
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms
from monai_transfer.transforms import ClassIntensities, IntensityProfile, preset
from monai_transfer.transforms.presets import ABSENT, Augmentation, Modality, clip_to_foreground, standardise_foreground


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    root = tmp_path_factory.mktemp("phantoms")
    items = {}
    for modality in ("ct", "mr"):
        write_phantoms(root / modality, modality=modality, subjects=1, size=0.3)  # type: ignore[arg-type]
        name = f"{modality}_001.nii.gz"
        items[modality] = {
            "image": str(root / modality / "images" / name),
            "label": str(root / modality / "labels" / name),
        }
    return items


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_the_bundles_spelling_gives_the_same_tensor(case: dict[str, dict[str, str]], modality: str) -> None:
    spelled = inference_preprocessing(modality, spacing=(8.0, 8.0, 8.0), window=(-160.0, 240.0))  # type: ignore[arg-type]
    parser = ConfigParser({"imports": ["$import monai"], "chain": {"_target_": "Compose", "transforms": spelled}})
    theirs = parser.get_parsed_content("chain")({"image": case[modality]["image"]})["image"]
    ours = preset(modality, "infer", spacing=[8.0] * 3)({"image": case[modality]["image"]})["image"]  # type: ignore[arg-type]
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(ours.affine, theirs.affine)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_channels_are_normalised_apart_and_an_absent_one_is_a_constant(
    case: dict[str, dict[str, str]], modality: Modality
) -> None:
    alone = preset(modality, "infer", spacing=[8.0] * 3)(case[modality])["image"]
    volume = nibabel.load(case[modality]["image"])
    scaled = nibabel.Nifti1Image(3 * volume.get_fdata(dtype="float32"), volume.affine)
    empty = nibabel.Nifti1Image(0 * volume.get_fdata(dtype="float32") - 2000, volume.affine)
    folder = Path(case[modality]["image"]).parent
    files = [case[modality]["image"], str(folder / "scaled.nii"), str(folder / "empty.nii")]
    nibabel.save(scaled, files[1])
    nibabel.save(empty, files[2])
    ours = preset(modality, "infer", spacing=[8.0] * 3)({"image": files})["image"]
    spelled = inference_preprocessing(modality, spacing=(8.0, 8.0, 8.0), window=(-160.0, 240.0), channels=3)
    parser = ConfigParser(
        {"imports": ["$import monai", "$import torch"], "chain": {"_target_": "Compose", "transforms": spelled}}
    )
    theirs = parser.get_parsed_content("chain")({"image": files})["image"]
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(ours[0].as_tensor(), alone[0].as_tensor())
    assert (ours[2] == ABSENT[modality]).all()
    assert all(is_allowed_expression(step["func"]) for step in spelled if step["_target_"] == "Lambdad")
    if modality == "mr":
        torch.testing.assert_close(ours[1].as_tensor(), alone[0].as_tensor(), rtol=1e-4, atol=1e-4)


def test_ct_intensities_are_the_window(case: dict[str, dict[str, str]]) -> None:
    image = preset("ct", "infer", spacing=[8.0] * 3)({"image": case["ct"]["image"]})["image"]
    assert float(image.min()) == -1
    assert float(image.max()) == 1


def test_mr_intensities_are_standardised_within_the_foreground() -> None:
    image = torch.cat([torch.zeros(1, 600), torch.linspace(50, 100, 399)[None], torch.tensor([[9999.0]])], dim=1)
    clipped = clip_to_foreground(image)
    assert float(clipped.max()) < 500
    foreground = clipped >= clipped.mean()
    scaled = standardise_foreground(clipped)[foreground]
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scaled.std(correction=0)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("augmentation", get_args(Augmentation))
def test_a_labelled_training_case_is_a_crop_with_whole_labels(
    case: dict[str, dict[str, str]], augmentation: Augmentation
) -> None:
    style = [preset("mr", "infer", spacing=[8.0] * 3)({"image": case["mr"]["image"]})]
    chain = preset("ct", "train", spacing=[8.0] * 3, roi_size=[16] * 3, augmentation=augmentation, references=style)
    chain.set_random_state(seed=0)
    (sample,) = chain(dict(case["ct"]))
    assert sample["image"].shape == sample["label"].shape == (1, 16, 16, 16)
    assert set(sample["label"].unique().tolist()) <= {0, 1, 2, 3, 4, 5}


def test_a_style_needs_images_of_the_target() -> None:
    with pytest.raises(UserError, match="augmentation fourier needs references"):
        preset("ct", "train", spacing=[8.0] * 3, roi_size=[16] * 3, augmentation="fourier")


def test_a_histogram_is_borrowed_from_a_reference(case: dict[str, dict[str, str]]) -> None:
    style = [{"image": torch.linspace(7.0, 9.0, 1000).reshape(1, 10, 10, 10)}]
    chain = preset("ct", "train", spacing=[8.0] * 3, roi_size=[16] * 3, augmentation="histogram", references=style)
    chain.set_random_state(seed=0)
    medians = [float(chain(dict(case["ct"]))[0]["image"].median()) for _ in range(20)]
    assert 10 < sum(5 < median < 11 for median in medians) < 20


def test_an_unlabelled_training_case_keeps_its_plain_view(case: dict[str, dict[str, str]]) -> None:
    chain = preset("mr", "train", spacing=[8.0] * 3, roi_size=[48] * 3, labelled=False, augmentation="modality")
    chain.set_random_state(seed=1)
    sample = chain({"image": case["mr"]["image"]})
    assert sample["image"].shape == sample["weak"].shape == (1, 48, 48, 48)
    assert not torch.equal(sample["image"], sample["weak"])
    assert "label" not in sample


@pytest.mark.parametrize(("augmentation", "unknown"), [("modality", 0.9), ("standard", 0.0)])
def test_a_labelled_case_is_painted_once_the_target_is_measured(
    case: dict[str, dict[str, str]], augmentation: Augmentation, unknown: float
) -> None:
    intensities = ClassIntensities(unknown)
    chain = preset(
        "ct", "train", spacing=[8.0] * 3, roi_size=[32] * 3, augmentation=augmentation, intensities=intensities
    )

    def liver_is_brightest() -> int:
        chain.set_random_state(seed=2)
        found = 0
        for _ in range(20):
            sample = chain(dict(case["ct"]))[0]
            image, label = sample["image"], sample["label"]
            liver, rest = image[label == 1], image[label != 1]
            found += bool(len(liver)) and bool(liver.median() > rest.quantile(0.95))
        return found

    before = liver_is_brightest()
    mean = torch.full((6, 1), float("nan"))
    mean[1] = 50.0
    profile = IntensityProfile(torch.zeros(1), torch.ones(1), mean, torch.full((6, 1), 0.1))
    intensities.renew([profile])
    assert before < 6
    assert liver_is_brightest() > 10


def test_a_seed_fixes_the_augmentation(case: dict[str, dict[str, str]]) -> None:
    chain = preset("ct", "train", spacing=[8.0] * 3, roi_size=[16] * 3, augmentation="modality")
    samples = []
    for _ in range(2):
        chain.set_random_state(seed=5)
        samples.append(chain(dict(case["ct"]))[0]["image"])
    torch.testing.assert_close(samples[0], samples[1], rtol=0, atol=0)


def test_bias_correction_runs_on_request(case: dict[str, dict[str, str]]) -> None:
    plain = preset("mr", "infer", spacing=[8.0] * 3)({"image": case["mr"]["image"]})["image"]
    corrected = preset("mr", "infer", spacing=[8.0] * 3, bias_correction=True)({"image": case["mr"]["image"]})["image"]
    assert plain.shape == corrected.shape
    assert not torch.allclose(plain.as_tensor(), corrected.as_tensor(), atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("pet", "infer"), "modality is 'pet'"), (("ct", "test"), "stage is 'test'"), (("ct", "train"), "needs roi_size")],
)
def test_what_does_not_exist_is_named(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset(*arguments, spacing=[1.0] * 3)  # type: ignore[arg-type]


def test_crops_move_to_the_device_that_deforms_them() -> None:
    on_gpu = preset("mr", "train", spacing=[8.0] * 3, roi_size=[16] * 3, device="cuda").transforms
    names = [type(step).__name__ for step in on_gpu]
    # whole volumes are cached before the crop, and stay on the CPU
    assert names.index("ToDeviced") == names.index("RandCropByPosNegLabeld") + 1
    assert names.index("RandDeformd") == names.index("ToDeviced") + 1
    on_cpu = preset("mr", "train", spacing=[8.0] * 3, roi_size=[16] * 3).transforms
    assert "ToDeviced" not in [type(step).__name__ for step in on_cpu]


def test_bodies_are_stretched_whole_and_in_parts_and_their_labels_with_them(tmp_path: Path) -> None:
    label = np.zeros((32, 32, 32), dtype=np.uint8)
    label[12:20, 12:20, 6:10] = label[12:20, 12:20, 22:26] = 1  # two organs, 16 voxels apart
    for name in ("image", "label"):
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), tmp_path / f"{name}.nii")
    item = {name: str(tmp_path / f"{name}.nii") for name in ("image", "label")}
    make = preset(
        "mr", "train", spacing=[1.0] * 3, roi_size=[32] * 3, augmentation="none", deformation=0.0, stretch=0.3
    ).set_random_state(0)
    thicknesses, distances = [], []
    for _ in range(30):
        made = make(item)[0]
        shape, image = made["label"][0] > 0, made["image"][0]
        between = (image.max() + image.min()) / 2
        assert float(((image > between) == shape).float().mean()) > 0.98  # the image moves as its label does
        heights = shape.any(0).any(0).nonzero()[:, 0]
        gap = int(heights.diff().argmax())
        thicknesses.append(gap + 1)
        distances.append(float(heights[gap + 1 :].float().mean() - heights[: gap + 1].float().mean()))
    assert max(distances) - min(distances) > 2
    assert max(thicknesses) > min(thicknesses)
    # the parts change each by its own factor
    ratios = [distance / thickness for distance, thickness in zip(distances, thicknesses, strict=True)]
    assert max(ratios) > 1.1 * min(ratios)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_stretched_and_other_cases_make_one_batch(case: dict[str, dict[str, str]], modality: Modality) -> None:
    make = preset(modality, "train", spacing=[8.0] * 3, roi_size=[16] * 3, stretch=0.2).set_random_state(0)
    made = [make(case[modality])[0] for _ in range(12)]  # some are stretched, some are not
    assert len({tuple((key, type(value)) for key, value in one.items()) for one in made}) == 1
    batch = list_data_collate(made)
    assert batch["image"].shape == batch["label"].shape == (12, 1, 16, 16, 16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augmentation", ["modality", "gin", "standard", "nnunet"])
def test_a_training_case_is_changed_on_the_gpu(case: dict[str, dict[str, str]], augmentation: Augmentation) -> None:
    look = IntensityProfile(torch.zeros(1), torch.ones(1), torch.full((6, 1), 0.5), torch.full((6, 1), 0.1), None)
    intensities = ClassIntensities()
    intensities.renew([look])
    make = preset(
        "mr",
        "train",
        spacing=[8.0] * 3,
        roi_size=[16] * 3,
        augmentation=augmentation,
        intensities=intensities,
        device="cuda",
    ).set_random_state(0)
    made = make(case["mr"])[0]  # a list of one crop
    assert made["image"].device.type == made["label"].device.type == "cuda"
    assert bool(made["image"].isfinite().all())
