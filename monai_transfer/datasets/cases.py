"""A data set: named cases, each with its image files and perhaps a label, and what the labels mean."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import Reading, natural_key

_LONGEST_NAME = 200
"""Characters of a case's name, which becomes the name of a file beside an ending of its own."""


@dataclass(frozen=True)
class Case:
    """One subject.

    Attributes:
        name: unique in its data set.
        images: one file per channel.
        label: the label map, where there is one.
        fold: which fold of a cross-validation it is in, where its list says so.

    Example:
        >>> Case("a", (Path("images/a.nii.gz"),), Path("labels/a.nii.gz")).as_item()
        {'name': 'a', 'image': 'images/a.nii.gz', 'label': 'labels/a.nii.gz'}
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None
    fold: int | None = None

    def as_item(self) -> dict[str, Any]:
        """The case as an entry of a MONAI datalist."""
        paths = [str(path) for path in self.images]
        item: dict[str, Any] = {"name": self.name, "image": paths[0] if len(paths) == 1 else paths}
        if self.label is not None:
            item["label"] = str(self.label)
        return item


@dataclass(frozen=True)
class Fault:
    """Something about one file of a data set.

    Attributes:
        path: the file.
        case: the case that it belongs to; empty for a file without a case.
        kind: a short word for programs.
        message: one sentence: the file, what is wrong, and the remedy.

    Example:
        >>> fault = Fault(Path("a.nii.gz"), "a", "missing", "a.nii.gz does not exist: restore it.")
        >>> fault.case, fault.kind
        ('a', 'missing')
    """

    path: Path
    case: str
    kind: str
    message: str


@dataclass(frozen=True)
class CaseDataset:
    """Cases in natural order of their names.

    Attributes:
        root: the folder or file that was read.
        cases: the subjects.
        label_names: label value -> name, 0 being ``background``; empty when nobody wrote them down.
        channel_names: one name per channel of the images.
        faults: what the names of the files tell already, such as a label without an image.
        warnings: what is odd about them but can be used, such as images that ``dataset.json`` does not list.
        reading: how strictly the files are read, by whatever uses the cases.

    Example:
        >>> cases = tuple(Case(f"ct_{n}", (Path(f"ct_{n}.nii.gz"),)) for n in (1, 2, 3, 4))
        >>> dataset = CaseDataset(Path("scans"), cases)
        >>> [part.names for part in dataset.split(0.25)]
        [('ct_1', 'ct_2', 'ct_3'), ('ct_4',)]
    """

    root: Path
    cases: tuple[Case, ...]
    label_names: dict[int, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ("image",)
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    # it travels with the cases, so that no step reads them by other rules than the check did
    reading: Reading = field(default_factory=Reading)

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.cases)

    @property
    def labelled(self) -> Self:
        """The cases that have a label."""
        return self._with(case for case in self.cases if case.label is not None)

    @property
    def unlabelled(self) -> Self:
        """The same cases, their labels put away."""
        return self._with(replace(case, label=None) for case in self.cases)

    @property
    def names(self) -> tuple[str, ...]:
        """The cases' names."""
        return tuple(case.name for case in self.cases)

    def items(self) -> list[dict[str, Any]]:
        """The cases as a MONAI datalist."""
        return [case.as_item() for case in self.cases]

    def only(self, names: Collection[str]) -> Self:
        """The cases of exactly these names, which configurations write down: ``scan[1]`` is a name and no pattern.

        Raises:
            UserError: a name is that of no case.
        """
        wanted, known = set(names), set(self.names)
        if wanted - known:
            missing = min(wanted - known)
            raise UserError(f"{self.root} has no case named {missing!r}: its cases are {self._some_names()}.")
        return self._with(case for case in self.cases if case.name in wanted)

    def select(self, patterns: Sequence[str]) -> Self:
        """The cases whose names match any of the patterns that a user typed (``liver_0*``).

        A pattern that is the name of a case means that case, so ``scan[1]`` can be typed as it is.

        Raises:
            UserError: a pattern matches no case.
        """
        chosen: set[str] = set()
        for pattern in patterns:
            names = [pattern] if pattern in self.names else [n for n in self.names if fnmatchcase(n, pattern)]
            if not names:
                raise UserError(f"No case of {self.root} matches {pattern!r}: its cases are {self._some_names()}.")
            chosen.update(names)
        return self.only(chosen)

    def without(self, names: Collection[str]) -> Self:
        """The cases with other names than these."""
        return self._with(case for case in self.cases if case.name not in names)

    def split(self, share: float) -> tuple[Self, Self]:
        """Two sets of different subjects; the last ``share`` of the names, at least one, makes the second.

        Raises:
            UserError: there is only one case, or nothing would be left for the first set.
        """
        held = max(1, round(share * len(self.cases)))
        if held >= len(self.cases):
            raise UserError(
                f"{self.root} holds {len(self.cases)} case(s), too few to set {held} aside: add cases or "
                "give the sets separately."
            )
        return self._with(self.cases[:-held]), self._with(self.cases[-held:])

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that the list of the cases names, rising."""
        return tuple(sorted({case.fold for case in self.cases if case.fold is not None}))

    def split_fold(self, fold: int) -> tuple[Self, Self]:
        """The cases of other folds, and those of this one; a case without a fold is in none.

        Raises:
            UserError: no case is in it, or all are.
        """
        held = [case for case in self.cases if case.fold == fold]
        if not held or len(held) == len(self.cases):
            named = ", ".join(map(str, self.folds)) or "none"
            raise UserError(f"{self.root} cannot hold the fold {fold} out: its cases are in the folds {named}.")
        return self._with(case for case in self.cases if case.fold != fold), self._with(held)

    def names_for(self, values: Iterable[int]) -> dict[int, str]:
        """Label value -> name for these values and background; ``label_3`` where nobody wrote a name down."""
        wanted = sorted({0, *values, *self.label_names})
        default = {0: "background"}
        return {value: self.label_names.get(value, default.get(value, f"label_{value}")) for value in wanted}

    def _with(self, cases: Iterable[Case]) -> Self:
        chosen = tuple(sorted(cases, key=lambda case: natural_key(case.name)))
        return replace(self, cases=chosen)

    def _some_names(self) -> str:
        shown = ", ".join(self.names[:5])
        return f"{shown}, …" if len(self.cases) > 5 else shown or "none"


def require_name(name: str, where: Path) -> None:
    """Make sure that a name in a description can become the name of a file.

    Raises:
        UserError: it cannot.
    """
    odd = not name.strip(". ") or any(mark in name for mark in "/\\") or not name.isprintable()
    if odd or len(name) > _LONGEST_NAME:
        short = name if len(name) < 40 else name[:40] + "…"
        raise UserError(
            f"{where}: the case {short!r} cannot be the name of a file: name it by at most {_LONGEST_NAME} letters, "
            "digits and hyphens."
        )


def uniquely_named(cases: list[Case], base: Path) -> list[Case]:
    """The cases, named by their folders too where files of several folders have equal names.

    Raises:
        UserError: a name is not a text, or two cases have the same name or names that many disks do not tell apart.
    """
    for case in cases:
        if not _is_text(case.name):
            raise UserError(f"The name of {str(case.images[0])!a} is not written in UTF-8: rename the file.")
    if len({case.name for case in cases}) < len(cases):
        cases = [replace(case, name=_long_name(case, base)) for case in cases]
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise UserError(f"The case {twice[0]!r} of {base} is there more than once: list each image once.")
    alike: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        alike[case.name.casefold()].append(case.name)
    for names in alike.values():
        if len(names) > 1:
            raise UserError(
                f"The cases {names[0]!r} and {names[1]!r} of {base} differ only in capital letters, which many disks "
                "do not keep apart: rename one of them."
            )
    return cases


def spread(cases: Sequence[Case], most: int) -> list[Case]:
    """At most ``most`` cases at even distances, the first and the last among them."""
    if len(cases) <= most:
        return list(cases)
    step = (len(cases) - 1) / max(1, most - 1)
    return [cases[round(number * step)] for number in range(most)]


def plain_path(path: Path) -> Path:
    """The absolute path without ``..``; links stay, for those of git-annex lead to numbers instead of names."""
    return Path(os.path.normpath(path.absolute()))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding, which Python carries along as halves of characters
        return False
    return True


def _long_name(case: Case, base: Path) -> str:
    folder, top = plain_path(case.images[0]).parent, plain_path(base)
    parts = folder.relative_to(top).parts if folder.is_relative_to(top) else folder.parts[1:]
    return "_".join([*parts, case.name])
