"""The house rules that a machine can check."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ComponentLocator

import monai_transfer

PACKAGE = Path(monai_transfer.__file__).parent
ROOMS = (
    "imports",
    "chatter",
    "errors",
    "options",
    "text",
    "files",
    "progress",
    "machine",
    "processes",
    "volumes",
    "losses",
    "networks",
    "transforms",
    "datasets",
    "phantoms",
    "weights",
    "finetuning",
    "adaptation",
    "pretraining",
    "engines",
    "bundle",
    "inference",
    "evaluation",
    "figures",
    "workflows",
    "benchmarks",
    "cli",
)
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 300, 60
LONG_FILES: set[str] = set()
LONG_FUNCTIONS = {
    "preset",
    "adapt_command",
    "finetune",
    "finetune_command",
    "segment",
    "segment_command",
    "translate_source",
}
"""What is longer than that, options of commands most of all; these sets only shrink."""


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
    parts = (module.split(".") for module in modules if module.startswith("monai_transfer."))
    return {part[1] for part in parts if len(part) > 1 and part[1] in ROOMS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = _room(path)
    if room not in ROOMS:
        return
    upwards = {other for other in _imported_rooms(path) if ROOMS.index(other) > ROOMS.index(room)}
    assert not upwards, f"{room} imports from {upwards}"


def test_every_room_is_known() -> None:
    assert {_room(path) for path in FILES} == {*ROOMS, "__init__", "__main__"}


def test_there_is_no_drawer_for_helpers() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "misc", "common")]


def test_no_public_name_is_one_of_monai() -> None:
    """A short ``_target_`` that MONAI has too resolves to MONAI's or to ours, by chance."""
    ours: dict[str, str] = {}
    for module_info in pkgutil.walk_packages(monai_transfer.__path__, "monai_transfer."):
        if module_info.name.endswith("__main__"):
            continue
        module = importlib.import_module(module_info.name)
        for name, member in inspect.getmembers(module, lambda m: inspect.isclass(m) or inspect.isfunction(m)):
            if member.__module__ == module_info.name and not name.startswith("_"):
                ours[name] = module_info.name
    found = {name: ComponentLocator().get_component_module_name(name) for name in ours}
    clashes = {
        name: [module for module in ([where] if isinstance(where, str) else where) if module.startswith("monai.")]
        for name, where in found.items()
        if where is not None
    }
    assert {name for name, modules in clashes.items() if modules} == set()


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            assert not call.startswith(("pickle.", "cloudpickle.")), path
            if call == "torch.load":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("weights_only") == "True", path


def test_the_package_can_be_imported_on_windows() -> None:
    for path in FILES:
        imported = {name.split(".")[0] for name in _imported_modules(path)}
        assert not imported & {"fcntl", "resource", "pwd", "grp", "termios"}, path


def _imported_modules(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_no_public_name_is_defined_twice() -> None:
    """One thought has one name and one place: a second definition is the start of a disagreement."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_name_that_is_imported_late_is_that_of_a_module() -> None:
    """Where somebody imported the module first its package would give that in place of what it defines."""
    offered = {
        path.with_name(f"{name.name}.py")
        for path in FILES
        if path.name == "__init__.py" and "imported_late" in path.read_text()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert not [path for path in offered if path.exists()]


def test_files_and_functions_stay_short() -> None:
    long_files, long_functions = [], set()
    for path in FILES:
        text = path.read_text()
        if len(text.splitlines()) > LONGEST_FILE:
            long_files.append(str(path.relative_to(PACKAGE)))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION:
                long_functions.add(node.name)
    assert set(long_files) <= LONG_FILES
    assert long_functions <= LONG_FUNCTIONS


def test_bundles_name_what_a_room_exports() -> None:
    """Modules can then move inside their room, and bundles that were made before still run."""
    configs = (PACKAGE.parent / "bundles").glob("*/configs/*.json")
    targets = {
        target for path in configs for target in re.findall(r'"_target_": "(monai_transfer[^"]+)"', path.read_text())
    }
    assert len(targets) > 20
    assert {target for target in targets if target.count(".") != 2 or locate(target) is None} == set()
    # named so by bundles that were made before the room exported it
    assert locate("monai_transfer.volumes.monai_reader.load_volumes") is not None
