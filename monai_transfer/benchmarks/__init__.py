"""MONAI's usual inference and this package's, side by side on a generated CT."""

from monai_transfer.benchmarks.comparison import BenchmarkSettings, compare

__all__ = ["BenchmarkSettings", "compare"]
