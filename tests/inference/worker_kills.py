"""Workers of a local cluster that are killed at random moments, and once the client with all of them.

``python -m tests.inference.worker_kills FOLDER CASES KILLS`` prints what docs/machines.md says of it. One case of them
ends every process that computes it.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from .deadly import label_maps, write_deadly_bundle, write_scans

WORKERS = 4
PATIENCE = 900.0
"""Seconds without a new result after which a run is taken for stalled."""


def segment_with_kills(folder: Path, *, cases: int, kills: int, seed: int = 0) -> dict[str, Any]:
    """Segment cases on a cluster while it is killed bit by bit, and compare with a run without one.

    Raises:
        AssertionError: a case is missing, there twice, or has other bytes; or nothing goes on.
    """
    poison = cases // 3
    scans, bundle = write_scans(folder / "scans", cases, poison=poison), write_deadly_bundle(folder / "bundle")
    output, chance = folder / "out", random.Random(seed)
    begin = time.monotonic()
    first = _Client(scans, bundle, output)
    first.kill_workers(kills // 2, chance, until=cases // 2)
    first.process.kill()  # the scheduler is in it, and its workers end when it is gone
    first.process.wait()
    kept = len(label_maps(output))
    second = _Client(scans, bundle, output)
    second.kill_workers(kills - first.killed, chance, until=cases)
    assert second.process.wait(PATIENCE) == 1, second.log.read_text()[-3000:]  # one case of all failed

    entries = json.loads((output / "manifest.json").read_text())["cases"]
    names = [f"case{number:03d}" for number in range(cases)]
    assert [entry["case"] for entry in entries] == names
    failed = [entry for entry in entries if entry["status"] != "ok"]
    assert [entry["case"] for entry in failed] == [names[poison]]
    assert failed[0]["log"].count(" begun on ") > 3
    assert [path.name for path in (output / "logs").iterdir()] == [f"{names[poison]}.log"]
    (scans / f"{names[poison]}.nii.gz").unlink()
    subprocess.run(_command(scans, bundle, folder / "alone"), check=True, capture_output=True)
    assert label_maps(output) == label_maps(folder / "alone")
    return {"cases": cases, "worker kills": first.killed + second.killed, "results before the client was killed": kept,
            "seconds": round(time.monotonic() - begin)}  # fmt: skip


class _Client:
    """A command that segments on a cluster, and whose workers can be killed."""

    def __init__(self, scans: Path, bundle: Path, output: Path) -> None:
        self.output, self.killed = output, 0
        self.log = output.with_suffix(".log")
        command = [*_command(scans, bundle, output), "--cluster", f"local:{WORKERS}", "--resume"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill_workers(self, kills: int, chance: random.Random, *, until: int) -> None:
        """Kill workers at moments that follow the results, until so many are there or the command has ended.

        The kills are spread over the results, and where they fall behind follow each other within two seconds, so that
        workers that are just starting are hit too; none waits until the next one is due, or a fast machine would be
        done before.
        """
        start = found = len(label_maps(self.output))
        last, wait = time.monotonic(), 0.0
        while self.process.poll() is None and (self.killed < kills or found < until):
            time.sleep(0.02)
            now, before, found = time.monotonic(), found, len(label_maps(self.output))
            if found > before:
                last = now
            assert now - last < PATIENCE, f"{found} results and no more"
            due, next_due = (start + (until - start) * (self.killed + more) / (kills + 1) for more in (0, 1))
            may = found > due and (now > wait or found > next_due)
            if self.killed < kills and may and (workers := self._workers()):
                chance.choice(workers).kill()
                self.killed += 1
                wait = now + chance.uniform(0, 2)

    def _workers(self) -> list[psutil.Process]:
        """The forks of the server that multiprocessing starts for them, once it has begun to work."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [
                fork for child in children if "forkserver" in " ".join(child.cmdline()) for fork in child.children()
            ]
        except psutil.NoSuchProcess:
            return []


def _command(scans: Path, bundle: Path, output: Path) -> list[str]:
    segment = [sys.executable, "-m", "monai_transfer", "segment", str(scans), "--bundle", str(bundle)]
    return [*segment, "--output", str(output), "--device", "cpu", "--trust"]


if __name__ == "__main__":
    for name, value in segment_with_kills(Path(sys.argv[1]), cases=int(sys.argv[2]), kills=int(sys.argv[3])).items():
        print(f"{name}: {value}")
