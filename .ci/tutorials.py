"""Tutorials as other things: notebooks beside them, and pages of the documentation.

``python .ci/tutorials.py`` writes ``tutorials/*.ipynb`` anew; ``tests/test_notebooks.py`` sees that they are current.
"""

import json
import re
from pathlib import Path

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def cells(source: str) -> list[tuple[str, str]]:
    """The cells of a file in the percent format: kind (``markdown`` or ``code``) and text."""
    found = []
    for part in re.split(r"^# %%", source, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        lines = body.strip("\n").splitlines()
        if kind == "markdown":
            lines = [re.sub(r"^# ?", "", line) for line in lines]
        found.append((kind, "\n".join(lines)))
    return found


def notebook(source: str) -> str:
    """The content of an ``.ipynb`` file without outputs."""
    content = []
    for number, (kind, text) in enumerate(cells(source)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        content.append(cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": content, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def page(source: str) -> str:
    """The same as Markdown."""
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells(source)) + "\n"


def main() -> None:
    """Write a notebook for every tutorial."""
    for path in sorted(TUTORIALS.glob("*.py")):
        path.with_suffix(".ipynb").write_text(notebook(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
