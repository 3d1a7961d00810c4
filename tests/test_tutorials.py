"""Every tutorial runs as it stands."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", sorted((ROOT / "tutorials").glob("*.py")), ids=lambda path: path.stem)
def test_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:  # a short path, for sockets; a tutorial leaves its folders there
        environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "TMPDIR": scratch}
        result = subprocess.run(
            [sys.executable, str(tutorial)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
        )
    assert result.returncode == 0, result.stderr[-3000:]
