"""The part of a volume that a bundle's network sees, for what is no segmentation: an explanation, or an adaptation."""

from monai_transfer.bundle.reading import InferenceBundle
from monai_transfer.inference.boxes import Box, PartSeen, box_found, in_all
from monai_transfer.inference.segmentation import SegmentOptions
from monai_transfer.inference.segmenter import Segmenter
from monai_transfer.volumes.volume import Volume


def part_seen(bundle: InferenceBundle) -> PartSeen:
    """What finds the box in which a bundle's network looks; without a finder that holds the whole volume.

    Args:
        bundle: its finder looks on the device of its network.
    """
    if bundle.finder is None:
        return in_all
    device = str(next(bundle.network.parameters()).device)
    finder = Segmenter([bundle.finder], device=device, options=SegmentOptions().for_a_look)
    names = bundle.decision.drawn(bundle.label_names)

    def seen(volume: Volume) -> tuple[Box, Volume]:
        box = box_found(finder.segment(volume), names.values())
        return box, volume.cropped(box)

    return seen
