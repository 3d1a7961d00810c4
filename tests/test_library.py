"""The package's front door: what it exports, and what importing it costs."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import monai_transfer


def test_every_export_is_there_and_documented() -> None:
    for name in monai_transfer.__all__:
        function = getattr(monai_transfer, name)
        assert inspect.isfunction(function)
        assert function.__name__ == name
        assert "Raises:" in inspect.getdoc(function)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        monai_transfer.nothing  # noqa: B018


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, monai_transfer; sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_help_imports_no_torch() -> None:
    """So that it answers at once."""
    code = "import sys, monai_transfer.cli.app; sys.exit(any(name in sys.modules for name in ('torch', 'monai')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_reading_a_bundle_imports_no_job() -> None:
    """MONAI's parser asks every loaded module for all its members."""
    script = (
        "import sys, monai_transfer; from monai.bundle import ConfigParser\n"
        "ConfigParser({'a': {'_target_': 'Identity'}}).get_parsed_content('a')\n"
        "print([name for name in sys.modules if name.startswith('monai_transfer.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "['monai_transfer.imports']"
