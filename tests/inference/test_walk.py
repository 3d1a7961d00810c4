"""How many files of the package a reader meets on the way from ``segment`` to a label map."""

import gc
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import monai_transfer
from monai_transfer.cli.segment import segment_command
from tests.inference.conftest import BANDS, MakeBundle, band_weights

PACKAGE = str(Path(monai_transfer.__file__).parent)
MOST = 28
"""Files between ``segment`` and the label map: a new one takes the place of another, or is one step too many."""


def files_entered(work: Callable[[], Any]) -> set[str]:
    """The files of the package of which a function runs; importing them does not count."""
    entered: set[str] = set()

    def look(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name != "<module>":
            entered.add(code.co_filename[len(PACKAGE) + 1 :])

    # what an earlier test left behind is not collected, nor its generators closed, on the way
    gc.collect()
    gc.disable()
    before = sys.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
        gc.enable()
    return entered


def test_from_segment_to_a_written_file(make_bundle: MakeBundle, ct: Path, tmp_path: Path) -> None:
    root, out = make_bundle(network=BANDS), tmp_path / "out"
    torch.save(band_weights(4), root / "models" / "model.pt")

    def command() -> None:
        segment_command([ct], [root], out, trust=True)

    command()  # what is imported late is imported now
    shutil.rmtree(out)
    entered = files_entered(command)
    assert list(out.glob("*.nii.gz"))
    assert len(entered) <= MOST, " ".join(sorted(entered))
