import json
import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library is told what to do with memory")
def test_memory_of_freed_tensors_is_kept_for_the_next_ones() -> None:
    script = """
import resource, torch
from monai_transfer.machine import keep_memory

def pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = pages(4)
keep_memory()
pages(16)  # older versions of the library keep some blocks for themselves before they give one out again
print(given_back, pages(4))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept < given_back / 4


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
