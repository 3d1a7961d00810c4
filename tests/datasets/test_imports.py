import subprocess
import sys

from monai_transfer import datasets


def test_checking_files_does_not_load_torch() -> None:
    code = "import sys, monai_transfer.datasets.integrity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    assert all(hasattr(datasets, name) for name in datasets.__all__)
    assert not hasattr(datasets, "nonsense")
