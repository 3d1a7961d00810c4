"""The model card of a bundle: docs/README.md and the measured scores in its metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai_transfer.bundle.facts import ATLAS_FILE, FINDER
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.evaluation import ScoreTable
from monai_transfer.files import write_text
from monai_transfer.text import markdown

_USE = """## Use

```
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES --output_dir OUT
```

{segment}

For research. Not a medical device.
"""

_BESIDE = {
    ATLAS_FILE: "corrects labels by models/anatomy.safetensors",
    FINDER: "looks in the box that models/finder finds",
}
"""What lies beside the weights -> what `segment` does with it, and plain MONAI does not."""


def write_model_card(
    bundle: BundleFolder,
    *,
    title: str,
    plan: Plan,
    sentences: Sequence[str],
    scores: Mapping[str, ScoreTable],
    run: Mapping[str, Any],
) -> None:
    """Write what the bundle does, how well, and how it was made.

    Args:
        bundle: the bundle.
        title: heading.
        plan: the choices of its training.
        sentences: what the scores say in words.
        scores: what was scored, by name.
        run: what was run, by heading.
    """
    names = ", ".join(markdown(name) for value, name in sorted(plan.label_names.items()) if value > 0)
    told = [markdown(sentence) for sentence in sentences]
    lines = [f"# {markdown(title)}", "", f"Labels: {names}.", "", "## Scores", "", *told, ""]
    if scores:
        lines += ["| arm | Dice | IoU | HD95 (mm) | ASSD (mm) |", "|---|---|---|---|---|"]
        lines += [_row(arm, table) for arm, table in scores.items()]
        lines.append("")
    lines += [
        "## How it was made",
        "",
        *(f"- {heading}: {markdown(str(text))}" for heading, text in run.items()),
        "",
        _USE.format(segment=_segmenting(bundle)),
    ]
    write_text(bundle.root / "docs" / "README.md", "\n".join(lines))
    bundle.change("metadata", {"eval_metrics": {arm: table.figures() for arm, table in scores.items()}})


def _segmenting(bundle: BundleFolder) -> str:
    beside = [does for name, does in _BESIDE.items() if (bundle.root / "models" / name).exists()]
    more = f"besides, it {' and '.join(beside)}" if beside else "it gives the same label maps"
    return f"`monai-transfer segment IMAGES --bundle . --output OUT` is faster; {more}."


def _row(arm: str, table: ScoreTable) -> str:
    cells = [f"{table.mean(metric):.3f}" for metric in ("dice", "iou")]
    cells += [f"{table.mean(metric):.2f}" for metric in ("hd95_mm", "assd_mm")]
    return f"| {markdown(arm)} | {' | '.join(cells)} |"
