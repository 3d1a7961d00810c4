"""A network that no process survives on some images: it ends its process where an image is brighter than tissue."""

import os
import signal

from torch import Tensor, nn

BRIGHT = 2000.0


class Deadly(nn.Conv3d):
    """A convolution with a weakness."""

    def forward(self, image: Tensor) -> Tensor:
        if float(image.max()) > BRIGHT:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)
