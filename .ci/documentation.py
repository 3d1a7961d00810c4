"""What the documentation site has beyond ``docs/``: the start page, tutorials, and a reference page for each room.

A hook of MkDocs (see ``mkdocs.yml``): pages are made while the site is built and never lie in the repository.
"""

import ast
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "monai_transfer"
sys.path.insert(0, str(Path(__file__).parent))

from tutorials import page as tutorial_page  # noqa: E402  (beside this file, which is no package)

_MOVED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "tutorials": "tutorials/01_finetune.md"}
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")


def public_names(module: Path) -> list[str]:
    """What a package's ``__all__`` lists."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def rooms() -> dict[str, list[str]]:
    """Package -> its public names, in the order of the folders; packages without any are left out."""
    inits = [PACKAGE / "__init__.py", *sorted(PACKAGE.glob("*/__init__.py"))]
    named = {".".join(path.parent.relative_to(ROOT).parts): public_names(path) for path in inits}
    return {module: names for module, names in named.items() if names}


def generated() -> Iterator[tuple[str, str]]:
    """Path on the site -> Markdown."""
    yield "start.md", (ROOT / "README.md").read_text(encoding="utf-8")
    yield "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield "contributing.md", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "tutorials").glob("*.py")):
        yield f"tutorials/{path.stem}.md", tutorial_page(path.read_text(encoding="utf-8"))
    for module, names in rooms().items():
        entries = [f"::: {module}.{name}\n" for name in names]
        yield f"reference/{module}.md", "\n".join([f"# `{module}`\n", *entries])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in generated():
        files.append(File.generated(config, path, content=_with_links_of_the_site(text, path)))
    return files


def on_page_markdown(markdown: str, *, page: object, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of ``docs/`` in the repository lead to their pages on the site."""
    return _with_links_of_the_site(markdown, page.file.src_uri)  # type: ignore[attr-defined]


def _with_links_of_the_site(text: str, page_path: str) -> str:
    here = posixpath.dirname(page_path)

    def moved(match: re.Match[str]) -> str:
        target = match[1]
        if "://" in target:
            return target
        inside = re.sub(r"^(\.\./)+", "", target)
        if inside in _MOVED:
            return posixpath.relpath(_MOVED[inside], here or ".")
        if inside.startswith("tutorials/") and inside.endswith(".py"):
            return posixpath.relpath(inside[:-3] + ".md", here or ".")
        if inside.startswith("docs/"):
            return posixpath.relpath(inside.removeprefix("docs/"), here or ".")
        return target

    return _LINK.sub(moved, text)
