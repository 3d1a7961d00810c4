"""Lists of pairs of domains for a bench: a TOML file with one ``[[pairs]]`` table for each."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_transfer.bundle.request import Domains, PlanOptions, choose_domains
from monai_transfer.errors import UserError
from monai_transfer.files import LARGEST_OBJECT
from monai_transfer.options import validated

TRAINING = ("spacing", "window", "network", "steps", "learning_rate", "batch_size", "body_scale")
"""Options of a training that a pair may set; the rest (seed, device) is of the whole bench."""

_DATA_SETS = ("source", "target", "test")
_CASES = ("source_cases", "target_cases", "test_cases")
_FIELDS = ("name", *_DATA_SETS, *_CASES, *TRAINING, "kept_back")
_NEEDED = ("name", "source", "target")

# a name becomes a folder on any file system, and a cell of a table
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@validated
class Pair:
    """A source, a target and how to train on them.

    Attributes:
        name: of the pair, for folders and tables.
        source: data set with labels.
        target: data set of the domain to adapt to.
        test: labelled target data set for the scores; without one, ``test_cases`` or a share of the target.
        source_cases: name patterns of the training cases of the source; all by default.
        target_cases: name patterns of the target training cases; all by default.
        test_cases: name patterns of the test cases.
        training: the options that are the pair's own.
        kept_back: whether the pair takes no part in choosing a method.

    Example:
        >>> Pair(name="../up", source=Path("CT"), target=Path("MR"))
        Traceback (most recent call last):
        monai_transfer.errors.UserError: --name ../up is not possible: give 1 to 64 letters, digits and . _ + -.
    """

    name: str
    source: Path
    target: Path
    test: Path | None = None
    source_cases: tuple[str, ...] = ()
    target_cases: tuple[str, ...] = ()
    test_cases: tuple[str, ...] = ()
    training: PlanOptions = PlanOptions()
    kept_back: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that is not a name of a folder."""
        if _NAME.fullmatch(self.name) is None:
            raise UserError(f"--name {self.name} is not possible: give 1 to 64 letters, digits and . _ + -.")

    def domains(self) -> Domains:
        """The cases; see :func:`~monai_transfer.bundle.request.choose_domains`."""
        return choose_domains(
            self.source,
            self.target,
            self.test,
            source_cases=self.source_cases,
            target_cases=self.target_cases,
            test_cases=self.test_cases,
        )

    def options(self, given: PlanOptions) -> dict[str, Any]:
        """Options of the training of every arm; what is given goes before what the pair sets."""
        return {**self.training.given, **given.given}


def read_pairs(path: str | Path) -> list[Pair]:
    r"""Read a list of pairs; paths in it are relative to the file.

    Args:
        path: a TOML file.

    Raises:
        UserError: the file cannot be read or is no such list; it names the pair, the field and what can stand there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "pairs.toml"
        ...     _ = file.write_text('[[pairs]]\nname = "ct-mr"\nsource = "CT"\ntarget = "MR"\nspacing = 3.0')
        ...     pair = read_pairs(file)[0]
        >>> pair.name, pair.source.name, pair.training.spacing
        ('ct-mr', 'CT', (3.0, 3.0, 3.0))
    """
    file = Path(path)
    entries = _entries(file)
    pairs = [_pair(file, number, entry) for number, entry in enumerate(entries, start=1)]
    taken: dict[str, int] = {}
    for number, pair in enumerate(pairs, start=1):
        # some file systems do not tell capitals from small letters
        if (first := taken.setdefault(pair.name.lower(), number)) != number:
            raise UserError(f"{file}, pair {number}: pair {first} has the name {pair.name} too; give each its own.")
    return pairs


def _entries(file: Path) -> Sequence[Any]:
    """The tables of the file, as far as it is one of pairs."""
    if file.exists() and (not file.is_file() or file.stat().st_size > LARGEST_OBJECT):  # a device would have no end
        raise UserError(f"{file} cannot be read (no file of less than {LARGEST_OBJECT >> 20} MB): name one of pairs.")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): name a TOML file of pairs with --pairs.") from None
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{file} is not a TOML file in UTF-8 ({reason}): mend it, or name another.") from None
    if unknown := sorted(set(content) - {"pairs"}):
        raise UserError(f"{file} has {unknown[0]!r} outside of a pair: put each pair under a line [[pairs]].")
    entries = content.get("pairs")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file} has no pairs: put each under a line [[pairs]], with name, source and target.")
    return entries


def _pair(file: Path, number: int, entry: Any) -> Pair:
    where = f"{file}, pair {number}"
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is not a table: write [[pairs]] on a line and its fields below it.")
    if unknown := sorted(set(entry) - set(_FIELDS)):
        raise UserError(f"{where}: {unknown[0]} is not a field; there are {', '.join(_FIELDS)}.")
    if missing := [name for name in _NEEDED if name not in entry]:
        raise UserError(f"{where}: {missing[0]} is missing; every pair needs {', '.join(_NEEDED)}.")
    fields = dict(entry)
    for name in _CASES:
        if name in fields and not isinstance(fields[name], list):
            raise UserError(f"{where}: {name} {fields[name]} is not possible: give a list of names or patterns.")
    if isinstance(fields.get("spacing"), int | float):
        fields["spacing"] = [fields["spacing"]] * 3
    for name in _DATA_SETS:
        if isinstance(fields.get(name), str):
            fields[name] = file.parent / Path(fields[name]).expanduser()
    try:
        training = PlanOptions(**{name: fields.pop(name) for name in TRAINING if name in fields})
        return Pair(training=training, **fields)
    except UserError as error:
        raise UserError(f"{where}: {_of_field(str(error))}") from None


def _of_field(sentence: str) -> str:
    """A sentence about an option as one about the field of that name."""
    return re.sub(r"^--[a-z-]+", lambda option: option[0].removeprefix("--").replace("-", "_"), sentence)
