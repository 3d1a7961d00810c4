"""Doing nothing, which is what every method is measured against."""

from collections.abc import Mapping

from torch import Tensor

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs


class SourceOnly(AdaptationMethod):
    """Supervised training on the source, and nothing else: the floor of every comparison.

    Example:
        >>> SourceOnly().losses({}, {}), SourceOnly.needs_target
        ({}, False)
    """

    needs_target = False

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """No losses."""
        return {}
