"""The page of what is read and refused lists what is tried; ``python tests/test_docs_reading.py`` writes it anew."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.bundle.test_reading import BROKEN
from tests.inference.test_output_folder import SITUATIONS
from tests.volumes.test_odd_files import READ, REFUSED

PAGE = Path(__file__).parents[1] / "docs" / "reading.md"
HEAD = """# What is read, what is refused, and why

Every command reads through one door: `check`, training, `segment`, `evaluate` and `translate` see the same voxels on
the same grid, and so does plain MONAI wherever it reads rightly. What the door is not sure of it refuses, in one
sentence that names the file and the remedy; what is odd but sure is read with a warning, which `check` prints and
`manifest.json` keeps. In a folder the rest goes on.

- **Where a volume lies.** A coded sform counts, else a coded qform. A coded one that is broken is never replaced by
  another: a guess would swap left and right in silence. A file without either is refused; every
  command that reads volumes takes its own guess with `--assume-affine`. The label map of `segment` carries the affine
  of its input to the last bit.
- **Claims before memory.** What a header claims is compared with the size of the file (a gzip holds at most 1032
  times its bytes) and with the free memory before anything is allocated; checksums are verified to the end.
- **DICOM.** The position and orientation of every frame are compared with the grid. A tilted gantry gives a sheared
  affine; missing, double or uneven slices are refused with their numbers, or interpolated with `--allow-irregular`;
  localizers, segmentations, dose and reports in the folder are listed as left out.
- **Label values.** They may have gaps: 17 and 2035 are two classes, and come out as 17 and 2035. Values within 0.001
  of a whole number are rounded, with a warning; masks of 0/255 among masks of 0/1 are refused.
- **Names.** A label, a case or a folder may be called anything. What MONAI's configurations, a page, a table or a
  file system would take for more than a name is written so that it stays a name.
- **Free text.** What scanners write into a NIfTI header may name the patient: results are written without it, unless
  `--keep-header-text` is given. Nothing of a DICOM header but the grid goes into a result.
- **Bundles are code.** One that this installation did not make runs nothing of its own without `--trust`.

The lists below are generated from the tests (`python tests/test_docs_reading.py`): each entry is a file that a test
makes and reads.
"""
WHY = {
    "affine": "an affine that is not a grid in space would put the label map anywhere",
    "checksum": "the file was changed on its way, so its voxels may be wrong",
    "colour": "a colour picture is not a scan: give grey values",
    "complex": "complex numbers are no intensities: export the magnitude",
    "empty": "there are no voxels",
    "format": "NIfTI, DICOM, NRRD, MetaImage and MGH are read",
    "missing": "there is no file, or only what stands for one that was not fetched",
    "no_orientation": "left and right are unknown; `--assume-affine` takes the file's own guess",
    "not_3d": "a volume has three axes, and at most one more for channels",
    "not_a_file": "pipes, devices and folders are never opened",
    "not_finite": "a network makes nothing of NaN and infinity",
    "unreadable": "the file is cut off or damaged, or claims more than it can hold",
}
"""Why each kind is refused."""


def page() -> str:
    """The page as the tests have it."""
    kinds = defaultdict(list)
    for name, (_, kind) in REFUSED.items():
        kinds[kind].append(name)
    rows = [f"| `{kind}` | {WHY[kind]} | {_listed(names)} |" for kind, names in sorted(kinds.items())]
    warned = {name: ", ".join(f"`{note}`" for note in sorted(notes)) for name, (_, notes) in READ.items()}
    parts = [
        HEAD,
        "## Volumes that are refused\n",
        *_table(("kind", "why", "tried"), rows),
        "## Odd volumes that are read\n",
        *_table(("file", "warning"), [f"| {name} | {notes or 'none'} |" for name, notes in warned.items()]),
        "## Bundles that are refused\n",
        f"One sentence each, before anything is run: {_listed(BROKEN)}.\n",
        "## Output folders that are refused\n",
        f"`segment` never writes where its inputs lie: {_listed(SITUATIONS)}.\n",
    ]
    return "\n".join(parts)


def _listed(names: Iterable[str] | Mapping[str, object]) -> str:
    return "; ".join(names)


def _table(head: tuple[str, ...], rows: list[str]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows, ""]


def test_the_page_lists_what_the_tests_try() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
