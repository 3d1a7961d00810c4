import json

import torch

from monai_transfer.machine import hardware, versions


def test_hardware_is_json_and_names_the_machine() -> None:
    found = json.loads(json.dumps(hardware()))
    assert found["cores"] >= 1
    assert found["processor"]
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_versions_of_what_decides_the_figures() -> None:
    assert versions()["torch"] == torch.__version__
    assert {"python", "monai", "monai-transfer"} <= set(versions())
