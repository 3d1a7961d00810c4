"""Published weights by short name: where they come from, under which licence, and how to know the right file.

File names and the first eight digits of the SHA-256 of torchvision's files are those that torchvision publishes; the
SHA-256 of MedicalNet's files are those of their pages on Hugging Face; those of OBELISK's and brainchop's files were
taken at the commits that their addresses name. ``None`` means that no checksum is published.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from monai_transfer.errors import UserError

MEDICALNET_PREPROCESSING = "one channel, each volume standardised to zero mean and unit deviation over its body"
IMAGENET_PREPROCESSING = (
    "RGB in 0 to 1, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225); one standardised channel serves with 'sum'"
)
BRAINCHOP_PREPROCESSING = "T1 head, 1 mm, 256³, from the 2nd to the 98th percentile to 0 to 1"
SWIN_PREPROCESSING = "CT, one channel, -1000 to 1000 HU scaled to 0 to 1, 1.5 × 1.5 × 2 mm, windows of 96³"

_TORCHVISION = "https://download.pytorch.org/models/"
_MONAI = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
_BRAINCHOP = "https://raw.githubusercontent.com/neuroneural/brainchop-models/3d81b598b4c3d09e61d8a3664247fc939ccd384c/"
_OBELISK = "https://raw.githubusercontent.com/mattiaspaul/OBELISK/b80daf8f84748b7e12d3c6a20336a3dbf4c11bca/models/"
_IMAGENET_LICENCE = "BSD-3-Clause (code); trained on ImageNet, whose terms allow research use"


@dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        name: ``SOURCE:NAME``, the SPEC.
        file: its published name.
        url: where it is.
        licence: of the weights.
        megabytes: size, 10⁶ bytes; None where it is not published.
        sha256: 64 digits, or the first eight where only they are published, or None.
        preprocessing: what its network was trained on.
        network: what it fits: a backbone of ``FlexibleUNet``, or a network of MONAI.
        reference: the paper.
        repository: on Hugging Face, ``""`` where the file is elsewhere.
        refusal: why it cannot be loaded here, ``""`` where it can.
        packaged: whether the file comes with this package.

    Example:
        >>> published = find("imagenet:resnet18")
        >>> published.file, published.network
        ('resnet18-f37072fd.pth', 'resnet18')
    """

    name: str
    file: str
    url: str
    licence: str
    megabytes: float | None
    sha256: str | None
    preprocessing: str
    network: str
    reference: str
    repository: str = ""
    refusal: str = ""
    packaged: bool = False


def _shapes(name: str, network: str, megabytes: float, sha256: str) -> Published:
    file = f"shapes_{name}.safetensors"
    return Published(
        name=f"shapes:{name}",
        file=file,
        url=f"package:monai_transfer/weights/packaged/{file}",
        licence="Apache-2.0",
        megabytes=megabytes,
        sha256=sha256,
        preprocessing="none: random shapes (no torsos) in random contrasts, by `pretrain`; one channel of any modality",
        network=network,
        reference="docs/pretraining.md; after Dey et al. 2025, arXiv:2411.02372",
        packaged=True,
    )


def _medicalnet(name: str, file: str, megabytes: float, sha256: str | None) -> Published:
    depth = file.removeprefix("resnet_").split(".")[0].split("_")[0]
    repository = f"TencentMedicalNet/MedicalNet-Resnet{depth}"
    return Published(
        name=f"medicalnet:{name}",
        file=file,
        url=f"https://huggingface.co/{repository}/resolve/main/{file}",
        licence="MIT",
        megabytes=megabytes,
        sha256=sha256,
        preprocessing=MEDICALNET_PREPROCESSING,
        network=f"resnet{depth}",
        reference="Chen et al. 2019, Med3D, arXiv:1904.00625",
        repository=repository,
    )


def _imagenet(name: str, file: str, mebibytes: float, reference: str, refusal: str = "") -> Published:
    return Published(
        name=f"imagenet:{name}",
        file=file,
        url=_TORCHVISION + file,
        licence=_IMAGENET_LICENCE,
        megabytes=round(mebibytes * 1.048576, 1),
        sha256=file.rsplit("-", 1)[1].removesuffix(".pth"),
        preprocessing=IMAGENET_PREPROCESSING,
        network=name.removesuffix("_v1"),
        reference=reference,
        refusal=refusal,
    )


def _monai(name: str, file: str, reference: str) -> Published:
    return Published(
        name=f"monai:{name}",
        file=file,
        url=_MONAI + file,
        licence="Apache-2.0",
        megabytes=None,
        sha256=None,
        preprocessing=SWIN_PREPROCESSING,
        network="SwinUNETR(feature_size=48)",
        reference=reference,
    )


def _brainchop(name: str, folder: str, megabytes: float, sha256: str, channels: int, labels: str) -> Published:
    return Published(
        name=f"brainchop:{name}",
        file=f"{folder}/model.pth",  # with its folder: all of them are called model.pth
        url=f"{_BRAINCHOP}{folder}/model.pth",
        licence="none stated: ask its authors before you pass it on",
        megabytes=megabytes,
        sha256=sha256,
        preprocessing=f"{BRAINCHOP_PREPROCESSING}; {labels}",
        network=f"meshnet{channels}",
        reference="Fedorov et al. 2017, arXiv:1612.00940",
    )


def _obelisk(name: str, file: str, megabytes: float, sha256: str, refusal: str = "") -> Published:
    return Published(
        name=f"obelisk:{name}",
        file=file,
        url=_OBELISK + file,
        licence="MIT",
        megabytes=megabytes,
        sha256=sha256,
        preprocessing="abdominal CT in HU as it is, cropped to the body and resampled to 144³; 8 organs",
        network="none here" if refusal else "all_conv_unet",
        reference="Heinrich, Oktay and Bouteldja 2019, OBELISK-Net",
        refusal=refusal,
    )


_RESNET = "He et al. 2016"
_VGG = "Simonyan and Zisserman 2015"
_DENSENET = "Huang et al. 2017"
_INCEPTION = (
    "Inception-v3 has no five levels that halve the grid (its unpadded convolutions give 149, 147, 73, 71, 35, 17, 8 "
    "from 299), so it cannot be the encoder of a U-Net; as a 2D classifier take it from torchvision, or use "
    "imagenet:densenet121 here"
)

_OFFSETS = (
    "it samples the image at learnt offsets of a fixed grid of 144³, and has no encoder that a U-Net could start from; "
    "use obelisk:allconvunet, its all-convolutional twin"
)

CATALOGUE: tuple[Published, ...] = (
    _shapes("unet", "unet", 10.5, "d62aead322e7e597410a939d3d0b8de0080959bbbaee5dc0b0430946b75362c8"),
    _shapes("resnet10", "resnet10_light", 2.7, "31f8088fd718caba8ba41e9a67eff555026897c38cfa9f28d97f1072c0066a6c"),
    _shapes("resnet18", "resnet18_light", 5.1, "d4a8c8b391aab10ff7e30c5a7c1806c2d9ef2aa9e0c330ea64c6d9ac38ce1a06"),
    _medicalnet(
        "resnet10", "resnet_10_23dataset.pth", 57.5, "afa8055f3e47f4a18239495d92a7abc587902c69c31c743de2b2784653b72605"
    ),
    _medicalnet(
        "resnet10_8datasets", "resnet_10.pth", 57.5, "2824951eaef30e115929b89bec72342380b08d14792bda1449974ac849e497c0"
    ),
    _medicalnet("resnet18", "resnet_18_23dataset.pth", 132.0, None),
    _medicalnet(
        "resnet18_8datasets", "resnet_18.pth", 132.0, "38b3a17444c5c18a795355a868e6a2d9ce9318054067f5373d337f55c0f61da3"
    ),
    _medicalnet(
        "resnet34", "resnet_34_23dataset.pth", 253.3, "3ea7188e396774e4ef95b66e5e90a78273bb33f6e58d3d717bf24f5f1aaeaa28"
    ),
    _medicalnet(
        "resnet34_8datasets", "resnet_34.pth", 253.3, "977a1be79298602fa35980de9c03789229ad36087fb1f4d9bde468aec653c658"
    ),
    _medicalnet(
        "resnet50", "resnet_50_23dataset.pth", 184.9, "ff48a62219073fb977fd3f4ddfb8dc1367f0ec156c8d6f6c37e205bd683a246e"
    ),
    _medicalnet(
        "resnet50_8datasets", "resnet_50.pth", 184.9, "5b6189cafbee2f5604a7279b62bc163365aa6a86a377e1dc260a14275cacbd84"
    ),
    _medicalnet(
        "resnet101", "resnet_101.pth", 341.3, "a26bbcf9b2ad35f048b0fa317234c003f171a4d719760e5c4aff9f793654ebcf"
    ),
    _imagenet("resnet18", "resnet18-f37072fd.pth", 44.7, _RESNET),
    _imagenet("resnet34", "resnet34-b627a593.pth", 83.3, _RESNET),
    _imagenet("resnet50", "resnet50-11ad3fa6.pth", 97.8, _RESNET),
    _imagenet("resnet50_v1", "resnet50-0676ba61.pth", 97.8, _RESNET),
    _imagenet("resnet101", "resnet101-63fe2227.pth", 170.5, _RESNET),
    _imagenet("vgg11", "vgg11-bbd30ac9.pth", 506.8, _VGG),
    _imagenet("vgg13", "vgg13-c768596a.pth", 507.5, _VGG),
    _imagenet("vgg16", "vgg16-397923af.pth", 527.8, _VGG),
    _imagenet("vgg19", "vgg19-dcbb9e9d.pth", 548.1, _VGG),
    _imagenet("vgg11_bn", "vgg11_bn-6002323d.pth", 506.9, _VGG),
    _imagenet("vgg13_bn", "vgg13_bn-abd245e5.pth", 507.6, _VGG),
    _imagenet("vgg16_bn", "vgg16_bn-6c64b313.pth", 527.9, _VGG),
    _imagenet("vgg19_bn", "vgg19_bn-c79401a0.pth", 548.1, _VGG),
    _imagenet("densenet121", "densenet121-a639ec97.pth", 30.8, _DENSENET),
    _imagenet("densenet169", "densenet169-b2777c0a.pth", 54.7, _DENSENET),
    _imagenet("inception_v3", "inception_v3_google-0cc3c7bd.pth", 103.9, "Szegedy et al. 2016", _INCEPTION),
    _monai("swin_ssl", "model_swinvit.pt", "Tang et al. 2022, arXiv:2111.14791"),
    _monai("swin_disruptive", "ssl_pretrained_weights.pth", "Valanarasu et al. 2023, arXiv:2307.16896"),
    _obelisk(
        "allconvunet",
        "allconvunet_tcia_fold1.pth",
        3.6,
        "7103c8ef1579077c3d88db61483ccea3aaa13dc4ba33244be92ee24fe01393fc",
    ),
    _obelisk(
        "hybrid",
        "obeliskhybrid_tcia_fold1.pth",
        0.9,
        "4337240affcf636fd8d7fddd10c86a0cb3877cabb6111d8bb1a0f9e0333212b6",
        _OFFSETS,
    ),
    _brainchop(
        "subcortical",
        "subcortical",
        0.8,
        "aa5235ab3a034135277c47f8e7c32849895c6e31ee6c4e942d63a6aec5ff4ee4",
        30,
        "18 classes",
    ),
    _brainchop(
        "aparc50",
        "meshnet/model30chan50cls",
        0.8,
        "4e411f33ad72148bda65e75ba5780bf95039dd29a8227165078e8f84fc407085",
        30,
        "50 classes",
    ),
    _brainchop(
        "mini",
        "meshnet/model18cls",
        0.4,
        "0798b61d58626010708284cab719f2674c817c789acb84e8eec5265a46e8fbbc",
        21,
        "18 classes",
    ),
)

SOURCES = ("shapes", "medicalnet", "imagenet", "monai", "obelisk", "brainchop")


def find(spec: str) -> Published:
    """Return the entry of ``SOURCE:NAME``.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    source, name = spec.split(":", 1)
    name = name.removesuffix("_23datasets") if source == "medicalnet" else name
    for entry in CATALOGUE:
        if entry.name == f"{source}:{name}":
            return entry
    near = get_close_matches(spec, [entry.name for entry in CATALOGUE], n=3, cutoff=0.4)
    known = ", ".join(near or [entry.name for entry in CATALOGUE if entry.name.startswith(source)])
    raise UserError(f"There are no published weights {spec!r}: did you mean {known}? (`monai-transfer weights list`)")
