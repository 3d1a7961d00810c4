"""The notebooks are those of the tutorials; ``python .ci/tutorials.py`` writes them anew."""

import json
from pathlib import Path

import pytest

from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_the_notebook_of_a_tutorial_is_current(tutorial: Path) -> None:
    made = load_script("tutorials").notebook(tutorial.read_text(encoding="utf-8"))
    assert tutorial.with_suffix(".ipynb").read_text(encoding="utf-8") == made


def test_a_notebook_holds_the_text_and_the_code_of_its_cells_in_order() -> None:
    made = json.loads(
        load_script("tutorials").notebook("# %% [markdown]\n# # Title\n#\n# words\n\n# %%\nx = 1\nx + 1\n")
    )
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code"]
    assert "".join(made["cells"][0]["source"]) == "# Title\n\nwords"
    assert "".join(made["cells"][1]["source"]) == "x = 1\nx + 1"
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)


def test_every_notebook_has_its_tutorial() -> None:
    assert [path.stem for path in sorted((ROOT / "tutorials").glob("*.ipynb"))] == [path.stem for path in TUTORIALS]
