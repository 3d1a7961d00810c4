"""Segmenting volumes with a bundle, adapted to them first where that is asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.inference.cases import require_there

if TYPE_CHECKING:
    from monai_transfer.inference import SegmentOptions
    from monai_transfer.inference.folder import FolderProgress


def segment(
    inputs: Sequence[str | Path],
    bundle: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    device: str = "auto",
    options: "SegmentOptions | None" = None,
    adapt: bool = False,
    trust: bool = False,
    say: Callable[[str], None] = lambda message: None,
    preview: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: "FolderProgress | None" = None,
) -> dict[str, Any]:
    """Segment files, folders and DICOM series with a bundle, or with several as an ensemble.

    Args:
        inputs: files and folders.
        bundle: a bundle folder, or several.
        output: the folder of the results; also gets ``manifest.json``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        options: what is asked for beyond the label map.
        adapt: adapt every network to the inputs first, without labels; the bundles stay as they are.
        trust: let bundles that were not made here run whatever code they name.
        say: called with a sentence on each network that was adapted.
        preview: also write ``<case>_preview.png``.
        resume: skip the cases that an earlier run finished in the same way.
        overwrite: whether results of other inputs, or made otherwise, may be replaced.
        progress: called as cases and windows are done.

    Returns:
        The manifest: versions, bundle, and one entry per case.

    Raises:
        UserError: when there is no input, or the bundle cannot be used.
    """
    given = [Path(path).expanduser() for path in inputs]
    require_there(given)

    from monai_transfer.inference import Segmenter, segment_folder  # here: MONAI takes seconds, a wrong path does not

    segmenter = Segmenter.from_bundle(bundle, device=device, options=options, trust=trust)
    if adapt:
        from monai_transfer.workflows.source_free import adapt_to_inputs, adaptation_sentence

        members = []
        for member in segmenter.bundles:
            changed, adapted = adapt_to_inputs(member, given, reading=segmenter.options.reading)
            say(adaptation_sentence(adapted))
            members.append(changed)
        segmenter = Segmenter(members, device=device, options=options)
    return segment_folder(
        given, segmenter, output, preview=preview, resume=resume, overwrite=overwrite, progress=progress
    )
