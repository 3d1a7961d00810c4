"""What libraries say on the terminal that is nothing to the user, silenced once for every process that starts here."""

import logging
import os
import warnings


def silence_chatter() -> None:
    """Silence remarks of libraries that no user can act on; their errors, and warnings of all else, stay.

    Each process calls it for itself before it reads a volume or a bundle: the command line, and what it starts (the
    workers of a cluster, trainings side by side).

    Example:
        >>> silence_chatter()
        >>> logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").isEnabledFor(logging.WARNING)
        False
    """
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # without a network it tells of every retry
    # a filter, because the module sets its logger's level when it is imported later
    logging.getLogger("monai.bundle.workflows").addFilter(is_error)
    warnings.filterwarnings("ignore", message="parsing config_file", module="monai")
    # Grad-CAM hooks layers of networks whose images need no gradients, which is as it should be
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    # where pydicom is installed MONAI looks for a GPU decoder each time that it makes a LoadImage
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader", module="monai")


def is_error(record: logging.LogRecord) -> bool:
    """A filter of a logger that lets its errors alone through."""
    return record.levelno >= logging.ERROR
