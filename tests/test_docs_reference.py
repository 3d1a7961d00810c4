"""Every public name has its entry in the reference, and every page of it is on the site."""

from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.scripts import load_script

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def documentation() -> ModuleType:
    """The hook that makes the pages."""
    pytest.importorskip("mkdocs")
    return load_script("documentation")


def test_every_public_name_has_its_entry(documentation: ModuleType) -> None:
    pages = dict(documentation.generated())
    for module, names in documentation.rooms().items():
        entries = set(pages[f"reference/{module}.md"].split())
        assert {f"{module}.{name}" for name in names} <= entries
    inits = (ROOT / "monai_transfer").glob("*/__init__.py")
    rooms = {path.parent.name for path in inits if "__all__" in path.read_text()}
    assert {f"monai_transfer.{room}" for room in rooms} | {"monai_transfer"} == set(documentation.rooms())


def test_every_page_of_the_reference_is_on_the_site(documentation: ModuleType) -> None:
    class Loader(yaml.SafeLoader):
        """Reads the site's settings, tags of Python unheeded."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    (reference,) = [part["Reference"] for part in settings["nav"] if "Reference" in part]
    assert set(reference) == {f"reference/{module}.md" for module in documentation.rooms()}
