import json

import pytest
import torch

from monai_transfer import machine
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


def test_trainings_share_threads_and_memory_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    free = {"bytes": 100 << 30}
    monkeypatch.setattr(machine, "free_memory", lambda: free["bytes"])
    assert machine.trainings_at_once(torch.device("cpu"), 3) == 3
    assert machine.trainings_at_once(torch.device("cuda"), 3) == 1
    free["bytes"] = 9 << 30
    assert machine.trainings_at_once(torch.device("cpu"), 3) == 2
    free["bytes"] = 1 << 30
    assert machine.trainings_at_once(torch.device("cpu"), 3) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    free["bytes"] = 100 << 30
    assert machine.trainings_at_once(torch.device("cpu"), 3) == 1
