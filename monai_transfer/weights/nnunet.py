"""Names of nnU-Net's plain-encoder networks in MONAI's ``DynUNet``, which is the same network under other names."""

import re
from collections.abc import Mapping

from torch import Tensor


def dynunet_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the names of an nnU-Net file (version 1 or 2, plain encoder) to those of ``DynUNet``.

    The modules that nnU-Net registers twice (``all_modules``, ``decoder.encoder``) and the heads of deep supervision
    are left out. Convolution biases have no place in ``DynUNet``: the instance normalisation that follows cancels them.

    Isensee et al., "nnU-Net: a self-configuring method", Nature Methods 2021.

    Returns:
        The file's name to the name in ``DynUNet``, for each tensor that has one.
    """
    version_2 = any(re.match(r"encoder\.stages\.", name) for name in tensors)
    rules = _rules(tensors, _VERSION_2 if version_2 else _VERSION_1)
    mapping = {}
    for name in tensors:
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, name):
                mapping[name] = match.expand(replacement)
                break
    return _one_based(mapping)


_VERSION_2 = {
    "stage": r"encoder\.stages\.{stage}\.0\.convs\.(\d)\.",
    "convolution": r"conv\.weight",
    "norm": r"norm\.(weight|bias)",
    "decoder": r"decoder\.stages\.(\d+)\.convs\.(\d)\.",
    "up": r"decoder\.transpconvs\.(\d+)\.(weight|bias)",
    "head": r"decoder\.seg_layers\.{head}\.(weight|bias)",
    "count": r"encoder\.stages\.(\d+)\.",
}
_VERSION_1 = {
    "stage": r"conv_blocks_context\.{stage}\.blocks\.(\d)\.",
    "bottom": r"conv_blocks_context\.{stage}\.(\d)\.blocks\.0\.",
    "convolution": r"conv\.weight",
    "norm": r"instnorm\.(weight|bias)",
    "decoder": r"conv_blocks_localization\.(\d+)\.(\d)\.blocks\.0\.",
    "up": r"tu\.(\d+)\.(weight|bias)",
    "head": r"seg_outputs\.{head}\.(weight|bias)",
    "count": r"conv_blocks_context\.(\d+)\.",
}


def _rules(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> list[tuple[str, str]]:
    stages = 1 + max(int(match.group(1)) for name in tensors if (match := re.match(names["count"], name)))
    rules = []
    for stage in range(stages):
        last = stage == stages - 1
        place = "input_block" if stage == 0 else "bottleneck" if last else f"downsamples.{stage - 1}"
        pattern = (names.get("bottom", names["stage"]) if last else names["stage"]).replace("{stage}", str(stage))
        rules.append((pattern + names["convolution"], rf"{place}.conv@\1.conv.weight"))
        rules.append((pattern + names["norm"], rf"{place}.norm@\1.\2"))
    rules.append((names["decoder"] + names["convolution"], r"upsamples.\1.conv_block.conv@\2.conv.weight"))
    rules.append((names["decoder"] + names["norm"], r"upsamples.\1.conv_block.norm@\2.\3"))
    rules.append((names["up"], r"upsamples.\1.transp_conv.conv.\2"))
    rules.append((names["head"].replace("{head}", str(stages - 2)), r"output_block.conv.conv.\1"))
    return rules


def _one_based(mapping: Mapping[str, str]) -> dict[str, str]:
    """Turn ``conv@0`` into ``conv1``: nnU-Net counts from 0, ``DynUNet`` from 1."""
    return {
        name: re.sub(r"@(\d)", lambda match: str(int(match.group(1)) + 1), target) for name, target in mapping.items()
    }
