"""What inference and a training step cost, beside MONAI's usual way and as volumes, classes and cases grow."""

from monai_transfer.benchmarks.comparison import BenchmarkSettings, compare

__all__ = ["BenchmarkSettings", "compare"]
