import subprocess
import sys

from monai_transfer import data


def test_checking_files_does_not_load_torch() -> None:
    code = "import sys, monai_transfer.data.integrity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    assert all(hasattr(data, name) for name in data.__all__)
    assert not hasattr(data, "nonsense")
