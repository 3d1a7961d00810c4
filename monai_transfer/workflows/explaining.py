"""Where a network that segments looked for each label, on the grid of the file and as a page of pictures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.errors import UserError
from monai_transfer.figures.heat import heat_picture, write_heat_page
from monai_transfer.files import replacing, require_folder, write_text
from monai_transfer.inference.boxes import PartSeen
from monai_transfer.inference.cases import InputCase, find_cases
from monai_transfer.inference.explanation import Method, drawn_masks, label_saliency, to_native
from monai_transfer.inference.output_folder import harmless, require_apart
from monai_transfer.inference.parts import part_seen
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.machine import choose_device
from monai_transfer.text import one_line
from monai_transfer.volumes.reading import write_volume
from monai_transfer.volumes.volume import Reading

EXPLANATIONS = "explanation.json"
PAGE = "explanation.html"


def explain(
    inputs: Sequence[str | Path],
    bundle: str | Path,
    output: str | Path,
    *,
    labels: Sequence[str] = (),
    method: Method = "gradcam",
    device: str = "auto",
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    trust: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Map what spoke for each label in each volume; a bundle that looks in boxes is explained within them.

    Writes ``<case>_<label>.nii.gz`` on the grid of the volume, 0 to 1, for every label that the network finds there,
    ``explanation.html`` with the hottest slice of each, and ``explanation.json``.

    Args:
        inputs: volumes and folders of volumes.
        bundle: a bundle that segments.
        output: the folder of the results.
        labels: names of the labels; all of them by default.
        method: ``gradcam``, ``gradcam++`` or ``occlusion``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reading: how strictly the volumes are read.
        trust: let a bundle that was not made here run whatever code it names.
        overwrite: whether results that are there may be replaced.
        progress: called with (done, all, name) before each volume.

    Returns:
        The content of ``explanation.json``.

    Raises:
        UserError: there is no input, one lies in the output folder, the bundle does not segment, it has no such label,
            or results are there already.
    """
    root, chosen = Path(output).expanduser(), choose_device(device)
    given = [Path(path).expanduser() for path in inputs]
    require_apart(given, root)
    if inspect_bundle(bundle).diagnoses:
        raise UserError(f"{bundle} names the class of an image: use monai-transfer diagnose --explain.")
    if (root / EXPLANATIONS).exists() and not overwrite:
        raise UserError(f"{root / EXPLANATIONS} is there already: choose another --output, or add --overwrite.")
    ready = read_bundle(bundle, device=chosen, trust=trust)
    ready.network.to(chosen)
    cases = find_cases(given, channels=ready.in_channels, optional=ready.optional_channels, output=root).cases
    wanted = _labels(ready, labels)
    require_folder(root)
    entries, seen = [], part_seen(ready)
    for done, case in enumerate(cases):
        if progress is not None:
            progress(done, len(cases), case.name)
        entries.append(_entry(case, ready, seen, wanted, root, method, reading))
    record = {"bundle": str(ready.root), "checksum": ready.checksum, "explained_by": method, "volumes": entries}
    write_text(root / EXPLANATIONS, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    _write_page(record, root)
    return record


def _write_page(record: dict[str, Any], root: Path) -> None:
    """The hottest slice of every map."""
    pictures = [
        (f"{entry['name']}: {found['label']}", root / found["picture"])
        for entry in record["volumes"]
        for found in entry["maps"]
    ]
    write_heat_page(root / PAGE, pictures, title="Where the network looked", method=record["explained_by"])


def _labels(bundle: InferenceBundle, names: Sequence[str]) -> dict[int, str]:
    """Number of the output -> name of the label, of those that are asked for."""
    every = {number: one_line(name) for number, name in bundle.decision.drawn(bundle.label_names).items()}
    unknown = [name for name in names if name not in every.values()]
    if unknown:
        raise UserError(
            f"--label {unknown[0]} is none of the bundle's labels: choose from {', '.join(every.values())}."
        )
    return {number: name for number, name in every.items() if not names or name in names}


def _entry(
    case: InputCase,
    bundle: InferenceBundle,
    seen: PartSeen,
    labels: dict[int, str],
    root: Path,
    method: Method,
    reading: Reading,
) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": case.name, "input": str(case.path), "status": "ok", "error": None, "maps": []}
    device = next(bundle.network.parameters()).device
    try:
        volume = case.read(reading)
        box, part = seen(volume)
        working = preprocess(part, bundle.preprocessing, key=bundle.image_key, device=device)
        settings: dict[str, Any] = {"window": bundle.window.roi_size, "decision": bundle.decision}
        masks = drawn_masks(bundle.network, working, **settings)
        for number, name in labels.items():
            heat = label_saliency(bundle.network, working, masks, number, method=method, **settings)
            if heat is None:
                continue
            native = np.zeros(volume.shape, np.float32)
            native[box] = to_native(heat, working, bundle.preprocessing, key=bundle.image_key)
            stem = harmless(f"{case.name}_{name}")
            write_volume(native, root / f"{stem}.nii.gz", affine=volume.affine)
            with replacing(root / f"{stem}.png") as file:
                Image.fromarray(heat_picture(volume.array[0], native, affine=volume.affine)).save(file, format="PNG")
            entry["maps"].append({"label": name, "map": f"{stem}.nii.gz", "picture": f"{stem}.png"})
    except UserError as error:
        entry |= {"status": "failed", "error": str(error)}
    return entry
