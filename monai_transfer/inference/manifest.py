"""``manifest.json``: what became of every input, written after each of them, by any number of processes."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from monai_transfer.files import write_text

NAME = "manifest.json"


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: the output folder.
        head: what stands before the cases: versions, bundle, options.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.lock = FileLock(folder / f".{NAME}.lock")
        self.head = dict(head)
        folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Any]:
        """The manifest as it stands; empty when there is none or it is broken."""
        with suppress(OSError, ValueError):
            content = json.loads(self.path.read_text())
            if isinstance(content, dict) and isinstance(content.get("cases"), list):
                return content
        return {"cases": []}

    def record(self, entry: Mapping[str, Any]) -> None:
        """Add the entry of one case, in place of an older one of the same name."""
        with self.lock:
            others = [c for c in self.read()["cases"] if c.get("case") != entry["case"]]
            cases = sorted([*others, dict(entry)], key=lambda c: str(c.get("case")))
            write_text(self.path, json.dumps({**self.head, "cases": cases}, indent=2) + "\n")

    def finished(self) -> dict[str, dict[str, Any]]:
        """The cases that an earlier run with the same bundle and options finished, by name."""
        content = self.read()
        if any(content.get(key) != self.head.get(key) for key in ("bundle", "options")):
            return {}
        return {c["case"]: c for c in content["cases"] if c.get("status") == "ok"}
