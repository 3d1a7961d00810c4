"""Which files are the channels of one image: ``a_0000.nii.gz`` and ``a_0001.nii.gz``, as nnU-Net names them."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from monai_transfer.datasets.descriptions import Description
from monai_transfer.volumes.volume import channel_of, stem, without_channel

NNUNET_FOLDERS = ("imagesTr", "imagesTs")
"""How nnU-Net and the Decathlon name their folders of images."""


def names_end_in_channels(
    names: Collection[str], labels: Collection[str], *, folder: str, description: Description
) -> bool:
    """Whether ``_0000`` at the end of every name is a channel and not the number of a case.

    Args:
        names: of the images, without the ending of their format.
        labels: names of the label maps, which never end in a channel.
        folder: the name of the images' folder.
        description: what is known of the data set.
    """
    if not names or any(channel_of(name) is None for name in names):
        return False
    if any(name in labels for name in names):
        return False
    if description.is_nnunet_2 or any(without_channel(name) in labels for name in names):
        return True
    described = len(description.channel_names)
    groups: dict[str, set[int]] = defaultdict(set)
    for name in names:
        groups[without_channel(name)].add(channel_of(name) or 0)
    if described == 1 and any(len(channels) > 1 for channels in groups.values()):
        return False
    # Nearly every image has its first channel. One that lost it must not make cases of everybody's channels.
    start_at_zero = sum(0 in channels for channels in groups.values())
    return 2 * start_at_zero > len(groups) and (folder in NNUNET_FOLDERS or described > 1 or len(groups) > 1)


def group_channels(images: Mapping[str, Path], described: int) -> dict[str, tuple[Path, ...]]:
    """The channels of every case, none left out.

    Args:
        images: name with the channel at its end -> file.
        described: how many channels the description names; 0 when it does not say.

    Returns:
        Name of the case -> one path per channel. A channel that is not there is named all the same, in its place:
        whoever reads the case is then told what is missing, and never takes the next channel for it.
    """
    groups: dict[str, dict[int, Path]] = defaultdict(dict)
    for name, image in images.items():
        groups[without_channel(name)][channel_of(name) or 0] = image
    count = max([described, *(number + 1 for channels in groups.values() for number in channels)])
    return {name: _complete(channels, count) for name, channels in groups.items()}


def _complete(channels: Mapping[int, Path], count: int) -> tuple[Path, ...]:
    sibling = next(iter(channels.values()))
    name, ending = without_channel(stem(sibling)), sibling.name[len(stem(sibling)) :]
    return tuple(channels.get(n, sibling.with_name(f"{name}_{n:04d}{ending}")) for n in range(count))
