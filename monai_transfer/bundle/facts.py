"""What a bundle says about itself: its files as plain values; nothing is evaluated, imported or opened by them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.fetching import fetch_bundle
from monai_transfer.bundle.trust import is_foreign
from monai_transfer.errors import UserError, behind
from monai_transfer.files import read_object
from monai_transfer.text import plain

MOST_BYTES = 16 * 2**20
"""Configurations have kilobytes; a list of thousands of case names still has less than this."""

MOST_VALUES = 500_000
"""Aliases let a YAML file of a hundred bytes stand for billions of values: so many are looked at, and no more."""

DEEPEST = 100
"""MONAI's parser calls itself once per level; configurations have about ten."""


_FILES = ("train", "inference")
"""The configurations that say what a bundle is."""

OPTIONAL_CHANNELS = "optional_channels"
"""Entry of the metadata: whether the network was trained to do without some of its channels."""

ATLAS_FILE = "anatomy.safetensors"
"""Beside the weights of an adapted bundle: what its labels are corrected by."""

FINDER = "finder"
"""Beside the weights of a bundle that looks at a part of each image: the bundle that finds where."""

DIAGNOSIS = "diagnosis"
"""Configuration and weights of the second network of a bundle that segments and names classes."""

_PLANNED = ("spacing", "roi_size", "window", "size")
"""What of a training's working grid a new training may take over."""


@dataclass(frozen=True)
class BundleFacts:
    """A bundle as its files spell it.

    Attributes:
        root: its folder.
        network_def: the network's definition, of the training where there is one; None where none is spelled out.
        label_names: value -> name of its classes.
        options: its working grid (``spacing`` in mm, ``roi_size`` or ``size`` in voxels, ``window`` in HU), as far as
            it is plain numbers.
        modality: of its images, as the metadata spells it.
        in_channels: image channels, None when the metadata does not say.
        out_channels: output channels, None when the metadata does not say.
        trains: whether its training names network and labels the way this package does.
        diagnoses: whether it names the class of an image, as the bundles made from ``diagnosis_transfer`` do.
        both: whether it segments, and has a second network that names classes.
        foreign: whether it was made elsewhere, or edited since.
        concerns: what its inference, and its finder's, ask for beyond the allow-list; of a bundle that was made here
            nothing is listed.
    """

    root: Path
    network_def: Mapping[str, Any] | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    options: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    modality: str | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    trains: bool = False
    diagnoses: bool = False
    both: bool = False
    foreign: bool = True
    concerns: tuple[str, ...] = ()


def inspect_bundle(root: str | Path) -> BundleFacts:
    """Read the facts of a bundle; nothing of it is evaluated, imported or built.

    Raises:
        UserError: the folder is not a bundle, or one of its files is broken.

    Example:
        >>> from monai_transfer.bundle.trust import template
        >>> facts = inspect_bundle(template("segmentation_transfer"))
        >>> facts.network_def["_target_"], facts.foreign, facts.concerns
        ('UNet', False, ())
    """
    root = require_bundle(root)
    metadata = read_metadata(root)
    train, inference = (parse_config(path) if (path := config_file(root, name)) else {} for name in _FILES)
    image, pred = formats_of(metadata)
    definition = next((d for part in (train, inference) if isinstance(d := part.get("network_def"), dict)), None)
    trains = isinstance(train.get("network_def"), dict) and isinstance(train.get("labels"), dict)
    foreign, inner = is_foreign(root), finder_in(root)
    own = bundle_concerns(root, inference) if foreign else ()
    return BundleFacts(
        root=root,
        network_def=definition,
        label_names=_by_value(label_names(train["labels"] if trains else pred.get("channel_def"), root), metadata),
        options={name: numbers for name in _PLANNED if (numbers := _numbers(train.get(name))) is not None},
        modality=str(image["modality"]) if "modality" in image else None,
        in_channels=whole_number(image.get("num_channels")),
        out_channels=whole_number(pred.get("num_channels")),
        trains=trains,
        diagnoses="temperature" in inference and "thresholds" in inference,
        both=config_file(root, DIAGNOSIS) is not None,
        foreign=foreign,
        concerns=own if inner is None else (*own, *inspect_bundle(inner).concerns),
    )


def bundle_concerns(root: Path, inference: Mapping[str, Any]) -> tuple[str, ...]:
    """What the inference of a bundle, and its folder of scripts, ask for beyond the allow-list."""
    scripts = root / "scripts"
    code = [f"scripts/: holds {path.name}" for path in sorted(scripts.glob("*"))[:20]] if scripts.is_dir() else []
    return (*code, *concerns_of(dict(inference), "inference"))


def is_published(spec: str | Path) -> bool:
    """Whether a bundle is named as one of the zoo's or of Hugging Face (of which ``hf:…/…/FILE`` is a file).

    Example:
        >>> is_published("zoo:spleen_ct_segmentation"), is_published("bundles/organs")
        (True, False)
    """
    text = str(spec)
    return text.startswith("zoo:") or (text.startswith("hf:") and text.count("/") < 2)


def require_bundle(root: str | Path) -> Path:
    """The absolute folder of a bundle; ``zoo:NAME`` and ``hf:OWNER/REPOSITORY`` are fetched where they are not here.

    Raises:
        UserError: there is no such folder, it holds no ``configs``, or it cannot be fetched.
    """
    folder = (fetch_bundle(root) if is_published(root) else Path(root).expanduser()).resolve()
    if not folder.is_dir():
        raise UserError(f"{root} is not a bundle folder; name one with --bundle ('monai-transfer bundles list' helps).")
    if not (folder / "configs").is_dir():
        raise UserError(f"{root} is not a bundle: its folder configs is missing; give the bundle's own folder.")
    return folder


def read_metadata(root: Path) -> dict[str, Any]:
    """The content of ``configs/metadata.json``, empty where there is none.

    Raises:
        UserError: the file is broken.
    """
    path = root / "configs" / "metadata.json"
    return parse_config(path) if path.exists() else {}


def formats_of(metadata: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the metadata say of the image and of the prediction; empty where they say nothing that can be read."""
    found = []
    for keys in (("inputs", "image"), ("outputs", "pred")):
        part: Any = metadata.get("network_data_format")
        for key in keys:
            part = part.get(key) if isinstance(part, Mapping) else None
        found.append(part if isinstance(part, Mapping) else {})
    return found[0], found[1]


def label_names(names: Any, root: Path) -> dict[int, str]:
    """Value -> name of the classes.

    Raises:
        UserError: a value is not a whole number.
    """
    if not isinstance(names, Mapping):
        return {}
    try:
        return {int(value): plain(str(name)) for value, name in names.items()}
    except ValueError as error:
        raise UserError(
            f"{root} numbers its labels by something else than whole numbers ({error}): mend it."
        ) from error


def _by_value(names: Mapping[int, str], metadata: Mapping[str, Any]) -> dict[int, str]:
    """Names by the values of label maps, where these are not the numbers of the outputs."""
    values = metadata.get("label_values")
    if not isinstance(values, list) or not all(whole_number(value) for value in values if value != 0):
        return dict(names)
    return {values[number] if number < len(values) else number: name for number, name in names.items()}


def whole_number(value: Any) -> int | None:
    """A positive whole number, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    """A list of numbers; a text in it could be an expression, and is not carried into another configuration."""
    if not isinstance(value, list) or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in value):
        return None
    return tuple(value)


def config_file(root: Path, name: str) -> Path | None:
    """The file of a configuration, JSON before YAML, as MONAI writes them; None where there is none."""
    found = (root / "configs" / f"{name}{suffix}" for suffix in (".json", ".yaml", ".yml"))
    return next((path for path in found if path.exists()), None)


def parse_config(path: Path) -> dict[str, Any]:
    """Return the content of a JSON or YAML file; a network that is spelled out has its one name there.

    Raises:
        UserError: the file is absent, too large or too deep, is neither JSON nor YAML, says something twice, or does
            not hold an object.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "inference.json"
        ...     _ = path.write_text('{"network_def": {"_target_": "UNet"}}')
        ...     print(parse_config(path))
        {'network_def': {'_target_': 'UNet'}}
    """
    content = read_object(path, most=MOST_BYTES, remedy="give the folder of a complete bundle, or make it anew")
    _require_bounded(content, path)
    if not isinstance(content.get("network_def"), str):
        return content
    from monai_transfer.bundle.networks import recognised  # here: it reads bundles by this file

    return recognised(content)


def _require_bounded(content: dict[str, Any], path: Path) -> None:
    waiting: list[tuple[Any, int]] = [(content, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST:
            raise UserError(f"{path} is nested too deeply to be a configuration: make the bundle anew.")
        if seen > MOST_VALUES:
            raise UserError(f"{path} stands for more than {MOST_VALUES} values: make the bundle anew.")
        if isinstance(value, dict):
            odd = next((name for name in value if not isinstance(name, str)), None)
            if odd is not None:
                raise UserError(f"{path} uses {odd!r} as a name: write names as texts in quotes.")
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]


def finder_in(root: Path) -> Path | None:
    """The bundle that finds where another looks; ``None`` where that looks at whole images, as every finder does."""
    place = root / "models" / FINDER
    is_finder = root.name == FINDER and (root.parent.parent / "configs").is_dir()
    return place if place.is_dir() and not is_finder else None


def files_beside(root: Path) -> list[Path]:
    """What a bundle reads beside configuration and weights, in a fixed order: its atlas, and all of its finder."""
    place = finder_in(root)
    of_finder = [] if place is None else sorted(path for path in place.glob("*/*") if path.is_file())
    return [*root.glob(f"models/{ATLAS_FILE}"), *of_finder]


@contextmanager
def in_one_sentence(config: Path) -> Iterator[None]:
    """Turn whatever a configuration raises, through the parser's own layers, into one sentence for the user.

    Raises:
        UserError: any exception was raised inside.
    """
    try:
        yield
    except Exception as error:
        *_, first = chain = list(behind(error))
        for meant in chain:
            if isinstance(meant, UserError):
                raise meant from error
        reason = " ".join(f"{type(first).__name__}: {first}".split())[:300]
        raise UserError(f"{config} cannot be built ({reason}): mend it or make the bundle anew.") from error
