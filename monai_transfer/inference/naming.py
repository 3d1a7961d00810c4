"""What the results of a run are called: every name is known before it begins, harmless, and met by no other.

The label map of a case is ``NAME.nii.gz``; what may be asked for beside it is ``NAME_probabilities.nii.gz`` and so on.
A case called ``x_probabilities`` would therefore write over the side product of ``x``. So names are given to all cases
at once, and each is given only where *all* its files are still free, whether or not they are asked for this time: the
names then do not depend on the options.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

LABELS = ".nii.gz"
PROBABILITIES = "_probabilities.nii.gz"
UNCERTAINTY = "_uncertainty.nii.gz"
PREVIEW = "_preview.png"
PRODUCTS = (LABELS, PROBABILITIES, UNCERTAINTY, PREVIEW)
"""What may follow the name of a case."""

MANIFEST = "manifest.json"
SIDECARS = ("labels.json", "labels.itksnap.txt", "labels.ctbl")
_LONGEST = 160
"""Bytes of a case's name. File systems allow 255; viewers and converters add endings of their own to the results."""

_HARMFUL = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
"""What some file system forbids, a terminal obeys, or turns the direction of writing round."""

_DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
"""Names that open a device on Windows, whatever their ending."""


def harmless(name: str) -> str:
    """A name that every file system takes and no shell, viewer or terminal trips over.

    Example:
        >>> harmless("a/b: c?")
        'a_b_ c_'
        >>> harmless("CON"), harmless(" .hidden. "), harmless("")
        ('CON_', 'hidden', 'case')
    """
    plain = _HARMFUL.sub("_", unicodedata.normalize("NFC", name)).strip(" .").lstrip("-")
    plain = f"{plain}_" if _DEVICES.match(plain) else plain or "case"
    if len(plain.encode()) <= _LONGEST:
        return plain
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain.encode()[: _LONGEST - 9].decode(errors='ignore').rstrip()}-{digest}"


def files_of(name: str) -> list[str]:
    """All files that a case of this name may have."""
    return [name + product for product in PRODUCTS]


def names_apart(wishes: Sequence[Sequence[str]]) -> list[str]:
    """Give each case a name of which no file meets that of another, upper and lower case being the same.

    Args:
        wishes: for each case the names to try, the plainest first. A first wish that several cases share is nobody's.

    Returns:
        one name per case; with a number at its end where all wishes were taken.

    Example:
        >>> names_apart([["x"], ["x_probabilities"], ["scan", "a_scan"], ["SCAN", "b_SCAN"]])
        ['x', 'x_probabilities_2', 'a_scan', 'b_SCAN']
    """
    wishes = [[harmless(wish) for wish in each] for each in wishes]
    first = Counter(_key(each[0]) for each in wishes)
    taken = {_key(name) for name in (MANIFEST, *SIDECARS)}
    names: dict[int, str] = {}
    # Those whose plain name is theirs alone choose first, so that a numbered name never takes it from them.
    shared = [first[_key(each[0])] > 1 for each in wishes]
    for case in sorted(range(len(wishes)), key=lambda index: shared[index]):
        wanted = wishes[case][1:] or wishes[case] if shared[case] else wishes[case]
        names[case] = next(name for name in _numbered(wanted) if taken.isdisjoint(map(_key, files_of(name))))
        taken |= {_key(file) for file in files_of(names[case])}
    return [names[case] for case in range(len(wishes))]


def _numbered(wishes: Sequence[str]) -> Iterable[str]:
    yield from wishes
    number = 2
    while True:
        yield harmless(f"{wishes[-1]}_{number}")
        number += 1


def _key(name: str) -> str:
    """What file systems that do not tell upper from lower case, or composed from decomposed letters, compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
