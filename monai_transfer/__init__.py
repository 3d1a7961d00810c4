"""Transfer learning and domain adaptation for MONAI."""

from importlib.metadata import version

__version__ = version("monai-transfer")
