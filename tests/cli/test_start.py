"""What needs neither torch nor MONAI does not wait for them: together they take seven seconds of processor time."""

import subprocess
import sys
from pathlib import Path

import pytest

QUICK = {
    "help": ("--help",),
    "version": ("--version",),
    "help of a command": ("segment", "--help"),
    "bundles": ("bundles", "list"),
    "weights": ("weights", "list", "--json"),
    "phantom": ("phantom", "--modality", "ct", "--output", "out", "--subjects", "1", "--size", "0.2"),
    "no command": ("nonsense",),
    "no option": ("segment", "--bogus"),
    "no value": ("train", "--data", "absent"),
    "phantom out of range": ("phantom", "--modality", "ct", "--output", "out", "--subjects", "0"),
    "steps out of range": ("train", "--data", "absent", "--output", "out", "--steps", "0"),
    "unknown network": ("finetune", "--data", "absent", "--weights", "x.pt", "--output", "out", "--network", "foo"),
    "unknown device": ("evaluate", "--data", "absent", "--bundle", "absent", "--output", "out", "--device", "foo"),
    "absent source": ("adapt", "--source", "absent", "--target", "absent", "--output", "out"),
    "absent domain": ("translate", "--source", "absent", "--target", "absent", "--output", "out"),
    "absent bundle": ("segment", "absent.nii.gz", "--bundle", "absent", "--output", "out"),
    "absent volume": ("segment", "absent.nii.gz", "--bundle", "made", "--output", "out"),
    "absent weights": ("weights", "inspect", "absent.pt"),
    "absent data": ("check", "absent"),
}
_CODE = """
import sys
from monai_transfer.cli.app import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", sorted({"torch", "monai", "ignite"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", QUICK.values(), ids=QUICK)
def test_the_answer_does_not_wait_for_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    from monai_transfer.bundle.folder import BundleFolder

    BundleFolder.create("segmentation_transfer", tmp_path / "made")
    command = [sys.executable, "-c", _CODE, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert "loaded: []" in result.stderr, result.stderr
