"""Find which tensor of a file goes where in a network, and what surgery its shape needs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from monai.networks.nets import DynUNet
from torch import Tensor, nn

from monai_transfer.networks.levels import HEAD, bare, distinct_state, network_levels
from monai_transfer.networks.structure import StructureUNet
from monai_transfer.weights.layout import Layout, canonical
from monai_transfer.weights.nnunet import dynunet_names

COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Destination:
    """The network as the place where tensors go.

    Attributes:
        tensors: by name, each once.
        level_of: level of each name.
        transposed: names of kernels of transposed convolutions.
        beside: input channels of the first convolution, behind those of the images, that only this network has.
        constants: names of what no training changes, and a file need not have.
    """

    tensors: Mapping[str, Tensor]
    level_of: Mapping[str, str]
    transposed: frozenset[str]
    beside: int = 0
    constants: frozenset[str] = frozenset()

    @classmethod
    def of(cls, network: nn.Module) -> "Destination":
        """Read a network."""
        transposed = frozenset(
            f"{name}.weight"
            for name, module in bare(network).named_modules()
            if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        )
        level_of = {name: level for level, names in network_levels(network).items() for name in names}
        inner = bare(network)
        if not isinstance(inner, StructureUNet):
            return cls(distinct_state(network), level_of, transposed)
        constants = frozenset(f"structure.{name}" for name in inner.structure.state_dict())
        return cls(distinct_state(network), level_of, transposed, inner.beside, constants)

    def class_dimensions(self, name: str, classes: int) -> tuple[int, ...]:
        """Dimensions of a head's tensor along which ``classes`` classes lie."""
        shape = self.tensors[name].shape
        heads = [other for other, level in self.level_of.items() if level == HEAD]
        first = name.rsplit(".", 1)[0] == heads[0].rsplit(".", 1)[0]
        if first:
            output = 1 if name in self.transposed else 0
            return (output,) if len(shape) > output and shape[output] == classes else ()
        return tuple(dimension for dimension in range(min(2, len(shape))) if shape[dimension] == classes)


def surgery_for(name: str, source: tuple[int, ...], destination: Destination, *, axis: int) -> tuple[str, ...] | None:
    """Return the steps that fit a tensor of shape ``source`` to the network's ``name``; None where none do.

    Steps are ``inflate`` (2D to 3D), ``channels`` (input channels of the first convolutions) and ``classes`` (head).
    """
    target = tuple(destination.tensors[name].shape)
    level = destination.level_of[name]
    steps: list[str] = []
    if len(source) == 4 and len(target) == 5 and name not in destination.transposed:
        plane = list(target[2:])
        length = plane.pop(axis)
        source = (*source[:2], *_insert(source[2:], axis, length))
        steps.append("inflate")
    if len(source) != len(target):
        return None
    different = [dimension for dimension, pair in enumerate(zip(source, target, strict=True)) if pair[0] != pair[1]]
    if not different:
        return tuple(steps)
    if level == HEAD and all(dimension < 2 for dimension in different):
        return (*steps, "classes")
    if different == [1] and len(target) >= 4 and level in ("stem", "network"):
        return (*steps, "channels")
    return None


def pair_tensors(
    tensors: Mapping[str, Tensor], destination: Destination, layout: Layout, network: nn.Module, *, axis: int
) -> dict[str, str]:
    """Pair the file's names with the network's: the pairing that covers most of the network.

    Publishers and trainers put prefixes before the same names (``module.``, ``model.``, ``encoder.``, ``backbone.``);
    every way to take one from the file and to put one of the network's in its place is tried.

    Returns:
        The network's name to the file's name.
    """
    renamed = _renamed(tensors, layout, network)
    targets = {canonical(name): name for name in destination.tensors}
    shapes = {name: tuple(tensors[source].shape) for name, source in renamed.items()}
    best: tuple[tuple[int, int, int], dict[str, str]] = ((0, 0, 0), {})
    for ours in _prefixes(targets, depth=2):
        for theirs in _prefixes(renamed, depth=3):
            pairs, fitting = {}, 0
            for name, source in renamed.items():
                place = targets.get(ours + name[len(theirs) :]) if name.startswith(theirs) else None
                if place is None:
                    continue
                pairs[place] = source
                if surgery_for(place, shapes[name], destination, axis=axis) is not None:
                    fitting += destination.tensors[place].numel()
            # of equal coverage the shortest prefixes win
            score = (fitting, len(pairs), -len(ours) - len(theirs))
            if pairs and score > best[0]:
                best = (score, pairs)
    return best[1]


def _renamed(tensors: Mapping[str, Tensor], layout: Layout, network: nn.Module) -> dict[str, str]:
    """Comparable names to the file's names."""
    if layout.kind in ("nnunet", "nnunet_v1") and isinstance(bare(network), DynUNet):
        return {target: name for name, target in dynunet_names(tensors).items()}
    return {canonical(name): name for name in tensors if not re.search(r"\.all_modules\.|^decoder\.encoder\.", name)}


def _prefixes(names: Mapping[str, str], *, depth: int) -> list[str]:
    """Leading words of ``names`` up to ``depth``, without numbers, and the empty one."""
    found = {""}
    for name in names:
        words = name.split(".")
        for count in range(1, min(depth, len(words) - 1) + 1):
            prefix = ".".join(words[:count]) + "."
            if not re.search(r"\d", prefix):
                found.add(prefix)
    return sorted(found)


def _insert(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    items = list(values)
    items.insert(axis if axis >= 0 else len(items) + 1 + axis, value)
    return tuple(items)
