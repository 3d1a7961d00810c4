#!/usr/bin/env bash
# As somebody new would: the wheel alone in an empty environment, from install to a segmented DICOM folder.
#   .ci/try_wheel.sh [PYTHON [FOLDER]]
# A second run with the same FOLDER keeps the environment and installs the wheel anew.
set -euo pipefail
python=${1:-python3}
folder=$(realpath -m "${2:-$(mktemp -d)}")
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder/home"
rm -rf "$folder/dist" "$folder/demo" "$folder/labels" "$folder/series"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/dist" "$here"
test -x "$folder/venv/bin/python" || "$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "$folder"/dist/*.whl
"$folder/venv/bin/python" -m pip install --quiet --no-deps --force-reinstall "$folder"/dist/*.whl

cd "$folder" # not in the checkout, whose package would be found first
run() { env -u PYTHONPATH HOME="$folder/home" "$folder/venv/bin/$1" "${@:2}"; }
run monai-transfer --version
run monai-transfer info
run monai-transfer bundles list
run monai-transfer demo --output demo --steps "${TRY_STEPS:-20}"
run python "$here/.ci/dicom_folder.py" demo/data/mr series
run monai-transfer segment series --bundle demo/bundle --output labels --preview --statistics
run python -W error - <<'PYTHON'
import json
import platform
from importlib.metadata import version
from pathlib import Path

import nibabel

report = Path("demo/report.html").read_text(encoding="utf-8")
assert report.rstrip().endswith("</html>") and "<img" in report and 'src="http' not in report
(case,) = json.loads(Path("labels/manifest.json").read_text())["cases"]
assert case["status"] == "ok", case
assert nibabel.load(case["output"]).shape and Path("labels/statistics.csv").stat().st_size
parts = ", ".join(f"{name} {version(name)}" for name in ("monai-transfer", "torch", "monai"))
print(f"tried on Python {platform.python_version()}: {parts}; the demo, and {case['output']} from a DICOM folder")
PYTHON
