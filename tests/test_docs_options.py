"""The page of options shows the ranges that are checked; ``python tests/test_docs_options.py`` writes it anew."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_transfer import options
from monai_transfer.benchmarks.comparison import BenchmarkSettings
from monai_transfer.benchmarks.files import FileSettings
from monai_transfer.benchmarks.growth import GrowthSettings
from monai_transfer.benchmarks.step_cost import StepSettings
from monai_transfer.bundle.diagnosis_plan import DiagnosisOptions
from monai_transfer.bundle.pretraining_plan import PretrainingPlan
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.inference.segmentation import Cleaning, SegmentOptions
from monai_transfer.workflows.source_free import TestTimeSettings

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
HEAD = """# Which values the options take

Every option is checked before anything is read or written, also with `--dry-run`. A value out of range ends the command
with status 2 and one sentence, such as

    error: --batch-size 0 is not possible: give a whole number from 1 to 1024.

Numbers must be finite. What depends on the data is checked once they are known and before anything is written: the
least memory that the classes, the windows and the batch need, and the working grid of the largest volume, are compared
with what is free. In Python the same classes refuse the same values with `monai_transfer.errors.UserError`, and
`monai_transfer.options.schema_of(CLASS)` gives their JSON schema.

The tables are generated from the types that are checked (`python tests/test_docs_options.py`).
"""
GROUPS: dict[str, Any] = {
    "Training: `train`, `finetune`, `adapt`, `translate`, `benchmark adaptation`": PlanOptions,
    "Strategy: `finetune`": Strategy,
    "Diagnosis: `train`, `finetune`, `adapt` with `--task diagnosis`": DiagnosisOptions,
    "Pretraining: `pretrain`": PretrainingPlan,
    "Source-free adaptation: `adapt --bundle`, `segment --adapt`": TestTimeSettings,
    "Segmentation: `segment`": SegmentOptions,
    "Cleaning of label maps: `segment`": Cleaning,
    "`benchmark inference`": BenchmarkSettings,
    "`benchmark files`": FileSettings,
    "`benchmark growth`": GrowthSettings,
    "`benchmark training`": StepSettings,
}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for title, cls in GROUPS.items() for line in _table(title, cls)), *_alone()]) + "\n"


def _table(title: str, cls: Any) -> Iterator[str]:
    meanings = dict(re.findall(r"^    (\w+): ((?:.|\n        )*)", inspect.cleandoc(cls.__doc__), re.M))
    yield f"## {title}\n"
    yield "| option | values | default | meaning |\n|---|---|---|---|"
    for name, part in options.schema_of(cls)["properties"].items():
        if "$ref" in part:
            continue  # a group of its own
        meaning = re.sub(r"\s+", " ", meanings[name]).replace(":data:", "").replace("``", "`").rstrip(".")
        default = "" if part.get("default") in (None, [], "") else f"`{part['default']}`"
        yield f"| `{options.option_of(name, part)}` | {options.range_of(part)} | {default} | {meaning} |"
    yield ""


def _alone() -> Iterator[str]:
    kinds = {name: kind for name, kind in vars(options).items() if getattr(kind, "__metadata__", None)}
    yield "## Every number by its type in `monai_transfer.options`\n\n| type | option | values |\n|---|---|---|"
    for name, kind in kinds.items():
        schema = options.schema_of(kind)
        yield f"| `{name}` | `{options.option_of(name, schema)}` | {options.range_of(schema)} |"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
