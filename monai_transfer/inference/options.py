"""What may be asked of a segmentation: checked before anything that takes seconds is imported."""

from dataclasses import field
from typing import Annotated

from pydantic import Field

from monai_transfer.options import Precision, Runtime, validated
from monai_transfer.volumes.volume import Reading

WindowBatch = Annotated[int, Field(title="--batch", ge=1, le=4096)]


@validated
class Cleaning:
    """What is mended.

    Attributes:
        largest_component: names of labels of which only the largest connected piece is kept; ``("all",)`` for all.
        fill_holes: give background that one label encloses to that label.
        smallest_ml: pieces smaller than this many millilitres become background.
    """

    largest_component: tuple[str, ...] = ()
    fill_holes: bool = False
    smallest_ml: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    def __bool__(self) -> bool:
        return bool(self.largest_component) or self.fill_holes or self.smallest_ml > 0


@validated
class SegmentOptions:
    """What may be asked of a segmentation beyond the label map.

    Attributes:
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        runtime: what computes the network: ``"torch"``, ``"openvino"``, ``"onnx"`` (both on a CPU), or ``"auto"``:
            OpenVINO on a CPU for large volumes where it is installed, else PyTorch.
        skip_empty: do not compute windows that hold only air.
        probabilities: keep the class probabilities on the native grid.
        uncertainty: keep the entropy of the class probabilities on the native grid.
        mirror_axes: axes of test-time mirroring, () for none.
        batch: windows per forward pass; None takes the bundle's, or what the GPU's free memory holds.
        compile: run the network through ``torch.compile``.
        cleaning: what is mended in the finished label map.
        reading: how strictly the volumes are read.
    """

    precision: Precision = "float32"
    runtime: Runtime = "auto"
    skip_empty: bool = True
    probabilities: bool = False
    uncertainty: bool = False
    mirror_axes: tuple[Annotated[int, Field(title="--mirror", ge=0, le=2)], ...] = ()
    batch: WindowBatch | None = None
    compile: bool = False
    cleaning: Cleaning = field(default_factory=Cleaning)
    reading: Reading = field(default_factory=Reading)
