"""Segmenting one volume with one bundle, or with an ensemble of them: read, preprocess, stream, restore."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from monai_transfer.bundle.facts import inspect_bundle
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.errors import UserError
from monai_transfer.inference.boxes import within_box
from monai_transfer.inference.cleaning import clean
from monai_transfer.inference.cores import one_core
from monai_transfer.inference.ensemble import require_same
from monai_transfer.inference.pipeline import CaseRun, Clock, Progress, atlas_of, bytes_beside
from monai_transfer.inference.predictor import Predictor, batch_for_cpu, batch_for_memory, flat_axis, is_out_of_memory
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.inference.segmentation import Segmentation, SegmentOptions, require_labels
from monai_transfer.inference.sinks import NativeArrays, apply_after, volumes_ml, with_values_of
from monai_transfer.inference.whole_image import Judge, combined, only_of, over_whole_image
from monai_transfer.inference.windows import less_overlap
from monai_transfer.machine import choose_device
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Volume

logger = logging.getLogger(__name__)


class Segmenter:
    """Segments volumes with a bundle, or with several that share preprocessing, window and labels (an ensemble).

    Attributes:
        atlas: by which labels are corrected; ``None`` leaves them as the network draws them.
        judge: asked about each case, where one is set.
        finder: segments each volume first; this one then looks in the box of what it found.

    Args:
        bundles: the members.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        options: what is asked for.

    Raises:
        UserError: when the members of an ensemble differ in more than their weights, or there is no label that is
            asked for.

    Example:
        >>> from monai.transforms import Compose, LoadImaged
        >>> from monai_transfer.bundle.reading import Decision, WindowSettings
        >>> network = torch.nn.Conv3d(1, 2, kernel_size=1, bias=False)
        >>> network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1)  # what is above 0 is bright
        >>> names = {0: "background", 1: "bright"}
        >>> bundle = InferenceBundle(
        ...     Path("bright"), network, Compose([LoadImaged("image")]), "", "image", WindowSettings((8, 8, 8)),
        ...     Decision("softmax"), names, in_channels=1, out_channels=2, checksum=""
        ... )
        >>> scan = Volume(Path("scan.nii"), np.arange(-255, 257).reshape(1, 8, 8, 8), np.diag([1.0, 1.0, 2.0, 1.0]))
        >>> Segmenter([bundle], device="cpu").segment(scan).volumes_ml
        {'bright': 0.512}
    """

    def __init__(
        self, bundles: Sequence[InferenceBundle], *, device: str = "auto", options: SegmentOptions | None = None
    ) -> None:
        self.bundles = tuple(bundles)
        self.bundle = self.bundles[0]
        self.device = choose_device(device)
        self.options = options or SegmentOptions()
        for other in self.bundles[1:]:
            require_same(self.bundle, other)
        self.predictor = Predictor(
            [b.network for b in self.bundles],
            device=self.device,
            precision=self.options.precision,
            mirror_axes=self.options.mirror_axes,
            batch=self.options.batch or self.bundle.window.batch,
            compile=self.options.compile,
            flat_axis=flat_axis(self.bundle.network, self.bundle.window.roi_size),
            runtime=self.options.runtime,
        )
        self.atlas = atlas_of(self.bundle) if self.options.correct else None
        self.judge: Judge | None = None
        inner = self.bundle.finder
        self.finder = None if inner is None else Segmenter([inner], device=device, options=self.options.for_a_look)
        self._batch: int | None = None
        self._channels = self.bundle.out_channels
        require_labels(self.options.labels, self.bundle.decision.drawn(self._class_names))

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path | Sequence[str | Path],
        *,
        device: str = "auto",
        options: SegmentOptions | None = None,
        trust: bool = False,
    ) -> "Segmenter":
        """Read one bundle folder, or several as an ensemble.

        Args:
            bundle: the folder, or the folders of an ensemble.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            options: what is asked for.
            trust: let bundles that were not made here run whatever code they name.

        Raises:
            UntrustedBundleError: when a bundle was made elsewhere and names code of its own.
            UserError: when a bundle is incomplete or does not fit the others.
        """
        roots = [bundle] if isinstance(bundle, (str, Path)) else list(bundle)
        for root in roots:
            if inspect_bundle(root).diagnoses:
                raise UserError(
                    f"{root} names the class of an image and segments nothing: use monai-transfer diagnose."
                )
        chosen = choose_device(device)
        return cls([read_bundle(r, device=chosen, trust=trust) for r in roots], device=device, options=options)

    @property
    def label_names(self) -> dict[int, str]:
        """Name of each value in label maps, or of each overlapping mask; ``label_N`` where the bundle gives none."""
        values, names = self.bundle.decision.label_values, self._class_names
        kept = self._kept(len(names))
        if not self.bundle.decision.exclusive:
            return {place: names[n] for place, n in enumerate(kept)}
        return {n if values is None else values[n]: names[n] for n in kept}

    @property
    def channel_names(self) -> list[str]:
        """Name of each channel of the image; ``channel N`` where the bundle gives none."""
        return [self.bundle.channel_names.get(n, f"channel {n}") for n in range(self.bundle.in_channels or 1)]

    @property
    def _class_names(self) -> dict[int, str]:
        count = self._channels or len(self.bundle.label_names)
        return {n: self.bundle.label_names.get(n, "background" if n == 0 else f"label_{n}") for n in range(count)}

    def _kept(self, classes: int) -> list[int]:
        """The classes that are asked for, and the background."""
        asked, names = self.options.labels, self._class_names
        if not asked:
            return list(range(classes))
        return [n for n in range(classes) if names[n] in asked or (n == 0 and self.bundle.decision.exclusive)]

    def segment(
        self, image: str | Path | Volume, *, progress: Progress | None = None, keep_voxels: bool = True
    ) -> Segmentation:
        """Segment one volume.

        Args:
            image: a file, a DICOM folder, or a volume that is already read.
            progress: called with (windows done, windows in all).
            keep_voxels: leave the image its voxels; else their memory is given back as soon as the working grid is
                made, and the volume is but a grid on which the results are written.

        Raises:
            UserError: when the image cannot be read or does not suit the bundle.
        """
        with one_core(self.device):
            return self._segment(image, progress, keep_voxels=keep_voxels)

    def _segment(self, image: str | Path | Volume, progress: Progress | None, *, keep_voxels: bool) -> Segmentation:
        clock = Clock(self.device)
        with clock("read"):
            volume = image if isinstance(image, Volume) else read_volume(Path(image), reading=self.options.reading)
        self._require_channels(volume)
        look = partial(self._looked, clock=clock, progress=progress, keep_voxels=keep_voxels)
        if self.finder is None:
            return look(volume)
        names = self.bundle.decision.drawn(self._class_names)
        return within_box(volume, find=self.finder.segment, look=look, wanted=names.values(), keep_voxels=keep_voxels)

    def _looked(self, volume: Volume, clock: Clock, progress: Progress | None, *, keep_voxels: bool) -> Segmentation:
        try:
            result = self._attempt(volume, self.device, clock, progress, keep_voxels=keep_voxels)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self.device.type == "cpu":
                raise
            result = None
        if result is None:  # outside the handler, which keeps the failed run's tensors alive
            logger.warning("%s: volume and slab move to the host, for %s ran out of memory.", volume.path, self.device)
            torch.cuda.empty_cache()
            result = self._attempt(volume, torch.device("cpu"), clock, progress, keep_voxels=keep_voxels)
        return self._finish(volume, *result, clock)

    def _attempt(
        self, volume: Volume, home: torch.device, clock: Clock, progress: Progress | None, *, keep_voxels: bool
    ) -> tuple[NativeArrays, tuple[int, int], dict[str, Any]]:
        """Segment with the volume and the slab on ``home``; the network stays where it is."""
        options, bundle = self.options, self.bundle
        self.predictor.output_device = home
        with clock("preprocess"), torch.inference_mode():
            beside = bytes_beside(volume, self.bundles, options, classes=self._channels or 1, atlas=self.atlas)
            working = preprocess(volume, bundle.preprocessing, key=bundle.image_key, device=home, further=beside)
        if not keep_voxels and home.type == "cpu":  # a GPU whose memory runs out has to begin anew
            volume.let_voxels_go()
        run = CaseRun(
            working,
            predictor=self.predictor,
            settings=less_overlap(bundle.window) if options.fast else bundle.window,
            decision=bundle.decision,
            members=len(self.bundles),
            classes=self._count_channels,
            choose_batch=self._choose_batch,
            probabilities=options.probabilities,
            uncertainty=options.uncertainty,
            wanted=self._kept,
            skip_empty=options.skip_empty,
            clock=clock,
            atlas=self.atlas,
            progress=progress,
        )
        arrays = run.restore(bundle.preprocessing, bundle.image_key)
        with clock("network"), torch.inference_mode():
            judgement = self._judged(working)
        return arrays, (run.computed, run.plan.count), judgement

    def _judged(self, working: MetaTensor) -> dict[str, Any]:
        if self.judge is None:
            return {}

        def network(windows: torch.Tensor) -> torch.Tensor:
            return combined(self.predictor(windows), members=len(self.bundles))

        names = self.bundle.decision.drawn(self._class_names)
        predict = over_whole_image(network, self.bundle.window, self.atlas)
        found = self.judge(working.as_tensor(), predict, names)
        return only_of(found, self.options.labels)

    def _finish(
        self, volume: Volume, arrays: NativeArrays, windows: tuple[int, int], judgement: dict[str, Any], clock: Clock
    ) -> Segmentation:
        labels, probabilities, entropy = arrays
        with clock("restore"):
            overlapping = labels.ndim > len(volume.shape)
            for transform in self.bundle.decision.after:
                labels = apply_after(transform, labels, volume)
            if self.options.cleaning:
                for part in labels if overlapping else [labels]:
                    clean(part, self.options.cleaning, label_names=self._class_names, voxel_ml=volume.voxel_ml)
            names = self._class_names
            kept = self._kept(len(names))
            volumes = volumes_ml(labels, names, volume.voxel_ml, overlapping=overlapping)
            if overlapping:
                labels = labels if len(kept) == len(labels) else labels[kept]
            else:
                labels = with_values_of(
                    labels, self.bundle.decision.label_values, kept if self.options.labels else None
                )
            if probabilities is not None and len(kept) < len(probabilities):
                probabilities = probabilities[kept]
        return Segmentation(
            labels=np.moveaxis(labels, 0, -1) if overlapping else labels,
            affine=volume.affine,
            label_names=self.label_names,
            volumes_ml={name: ml for name, ml in volumes.items() if name in {names[n] for n in kept}},
            seconds=clock.seconds,
            windows=windows,
            source=volume,
            stored_probabilities=probabilities,
            entropy=entropy,
            judgement=judgement,
        )

    def _require_channels(self, volume: Volume) -> None:
        expected, found = self.bundle.in_channels, len(volume.array)
        if expected is not None and expected != found:
            kind = "volumes or channels" if found > 1 else "channel"
            raise UserError(f"{volume.path} has {found} {kind}; the bundle expects {expected}.")
        if len(volume.shape) != 3 and len(self.bundle.window.roi_size) == 3:
            raise UserError(f"{volume.path} is a {len(volume.shape)}D image {volume.shape}; a 3D volume is needed.")

    def _count_channels(self, window: torch.Tensor) -> int:
        """Output channels of one network; where the metadata is silent, one window is run to see."""
        if self._channels is None:
            self._channels = self.predictor(window).shape[1] // len(self.bundles)
        return self._channels

    def _choose_batch(self, window: torch.Tensor) -> None:
        """Choose the windows per forward pass, once: on a GPU from its free memory, on a CPU one or two."""
        if self.options.batch is None and self._batch is None:
            if self.device.type == "cpu":
                classes = self._count_channels(window) * len(self.bundles)
                self._batch = batch_for_cpu(self.predictor, window, classes=classes)
            else:
                self._batch = batch_for_memory(self.predictor, window)
            self.predictor.batch = self._batch
