"""The rolling slab as a MONAI ``Inferer``, for a bundle's ``inference.json``."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers import Inferer

from monai_transfer.bundle.reading import WindowSettings
from monai_transfer.errors import UserError
from monai_transfer.inference.predictor import PRECISIONS, first_tensor
from monai_transfer.inference.windows import pad_to_plan, plan_windows, stream, wanted_windows
from monai_transfer.options import Precision
from monai_transfer.transforms.target import likeliest_class


class StreamingInferer(Inferer):
    """Sliding-window inference that keeps one slab of logits in memory.

    With ``output="labels"`` the slab is reduced to labels as it rolls, and a label map (B, 1, *spatial) is all that is
    ever held; the postprocessing then is ``Invertd(nearest_interp=True)`` alone. With ``output="logits"`` the result
    is that of ``SlidingWindowInferer`` with the same settings, (B, C, *spatial).

    .. code-block:: json

        "inferer": {"_target_": "monai_transfer.inference.StreamingInferer", "roi_size": [96, 96, 96],
                    "overlap": 0.5, "mode": "gaussian", "output": "labels"}

    Args:
        roi_size: voxels of a window along each axis.
        sw_batch_size: windows per forward pass.
        overlap: share of a window that the next one covers again.
        mode: ``"gaussian"`` or ``"constant"`` blending.
        sigma_scale: standard deviation of the gaussian as a share of the window.
        padding_mode: how a volume smaller than the window is padded.
        cval: the value of constant padding.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        skip_empty: do not compute windows that hold only air; they count as background (class 0).
        output: ``"logits"`` or ``"labels"``.

    Raises:
        UserError: for an unknown precision or output.

    Example:
        >>> inferer = StreamingInferer(roi_size=(8, 8, 8), output="labels")
        >>> labels = inferer(torch.ones(1, 1, 16, 8, 8), lambda windows: torch.cat([-windows, windows], dim=1))
        >>> tuple(labels.shape), int(labels.min())
        ((1, 1, 16, 8, 8), 1)
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: str = "constant",
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        precision: Precision = "float32",
        skip_empty: bool = False,
        output: str = "logits",
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise UserError(f"Precision '{precision}' is unknown; choose one of {', '.join(PRECISIONS)}.")
        if output not in ("logits", "labels"):
            raise UserError(f"Output '{output}' is unknown; choose 'logits' or 'labels'.")
        self.roi_size, self.sw_batch_size, self.overlap, self.mode = roi_size, sw_batch_size, overlap, mode
        self.sigma_scale, self.padding_mode, self.cval = sigma_scale, padding_mode, cval
        self.precision, self.skip_empty, self.output = precision, skip_empty, output

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Volumes (B, C_in, *spatial) -> logits (B, C, *spatial) or labels (B, 1, *spatial).

        Args:
            inputs: the preprocessed volumes.
            network: called with windows (n, C_in, *roi).
            *args: handed on to the network.
            **kwargs: handed on to the network.
        """
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        result = torch.stack([self._one(volume, network, args, kwargs) for volume in plain])
        if not isinstance(inputs, MetaTensor):
            return result
        return MetaTensor(result).copy_meta_from(inputs, copy_attr=False)  # type: ignore[no-any-return]

    def _one(self, volume: torch.Tensor, network: Callable[..., Any], args: Any, kwargs: Any) -> torch.Tensor:
        flat = volume.ndim == 3
        volume = volume[..., None] if flat else volume
        settings = WindowSettings.of(self, spatial_dims=2 if flat else 3).in_3d()
        plan = plan_windows(volume.shape[1:], settings, device=volume.device)
        padded = pad_to_plan(volume, plan, mode=self.padding_mode, value=self.cval)

        def predict(windows: torch.Tensor) -> torch.Tensor:
            dtype = PRECISIONS[self.precision]
            with nullcontext() if dtype is None else torch.autocast(windows.device.type, dtype=dtype):
                output = first_tensor(network(windows[..., 0] if flat else windows, *args, **kwargs)).float()
            return output[..., None] if flat else output

        parts = []
        for _, logits in stream(
            padded,
            plan,
            predict,
            batch=lambda: self.sw_batch_size,
            wanted=wanted_windows(padded, plan) if self.skip_empty else None,
        ):
            if self.output == "labels":
                parts.append(
                    likeliest_class(logits, 1)[:, None].to(torch.uint8 if logits.shape[1] <= 256 else torch.int16)
                )
            else:
                parts.append(logits)
        whole = torch.cat(parts).permute(1, *((0, 2, 3)[plan.order.index(a)] for a in range(3)))
        return whole[..., 0] if flat else whole
