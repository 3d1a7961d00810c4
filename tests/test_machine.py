import json

import torch

from monai_transfer.machine import free_memory, hardware, peak_memory_mb, versions


def test_hardware_is_json_and_names_the_machine() -> None:
    found = json.loads(json.dumps(hardware()))
    assert found["cores"] >= 1
    assert found["processor"]
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_versions_of_what_decides_the_figures() -> None:
    assert versions()["torch"] == torch.__version__
    assert {"python", "monai", "monai-transfer"} <= set(versions())


def test_free_and_peak_memory() -> None:
    assert 0 < free_memory() < 1 << 50
    assert peak_memory_mb() > 50
