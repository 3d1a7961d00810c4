"""``manifest.json``: what becomes of every input, written before the first and after each, by all processes."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from monai_transfer.files import cannot_write, sha256, write_text
from monai_transfer.inference.cases import InputCase
from monai_transfer.inference.naming import MANIFEST

_PRODUCT_OPTIONS = ("probabilities", "uncertainty")
"""Options that add files and change none."""


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: the output folder.
        head: what stands before the cases: versions, bundle, options, skipped inputs.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any]) -> None:
        self.folder, self.path = folder, folder / MANIFEST
        self.lock = FileLock(folder / f".{MANIFEST}.lock")
        self.head = dict(head)

    @property
    def made_with(self) -> str:
        """A digest of what decides the numbers in the results: the bundle, the labels and the options."""
        options = {name: value for name, value in self.head["options"].items() if name not in _PRODUCT_OPTIONS}
        facts = [self.head["bundle"], self.head["labels"], options]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def read(self) -> dict[str, Any]:
        """The manifest as it stands; empty when there is none or it is broken."""
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(self.path.read_text())
            if isinstance(content, dict) and isinstance(content.get("cases"), list):
                content["cases"] = [entry for entry in content["cases"] if isinstance(entry, dict)]
                return content
        return {"cases": []}

    def entries(self) -> dict[str, dict[str, Any]]:
        """The entries of the cases by name."""
        return {str(entry.get("case")): entry for entry in self.read()["cases"]}

    def record(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add the entries of cases, in place of older ones of the same names.

        Raises:
            UserError: when it cannot be written.
        """
        new = {str(entry["case"]): dict(entry) for entry in entries}
        try:
            with self.lock:
                cases = sorted((self.entries() | new).items())
                content = {**self.head, "cases": [entry for _, entry in cases]}
                write_text(self.path, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def is_finished(self, case: InputCase, products: Sequence[str], entry: Mapping[str, Any]) -> bool:
        """Whether an earlier run finished this case: the same input, bundle, options and products, the files unharmed.

        Args:
            case: the case as it lies there now.
            products: what is asked for, as the endings of files.
            entry: what the manifest says of the case of that name.
        """
        if entry.get("status") != "ok" or entry.get("made_with") != self.made_with:
            return False
        if not set(products) <= set(entry.get("asked", ())) or entry.get("identity") != case.identity():
            return False
        files = entry.get("files")
        return isinstance(files, dict) and bool(files) and all(self._is_whole(*file) for file in files.items())

    def _is_whole(self, name: str, recorded: Mapping[str, Any]) -> bool:
        path = self.folder / name
        try:
            return bool(path.stat().st_size == recorded["bytes"] and sha256(path) == recorded["sha256"])
        except (OSError, KeyError, TypeError):
            return False
