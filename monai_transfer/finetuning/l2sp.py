"""L2-SP: a penalty that draws fine-tuned weights to their pretrained values instead of to zero."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.networks.levels import bare, names_of
from monai_transfer.weights.report import LoadReport


class L2SP(nn.Module):
    r"""Penalty towards the starting point.

    .. math::
        \Omega(w) = \frac{\alpha}{2} \lVert w_S - w_S^0 \rVert_2^2 + \frac{\beta}{2} \lVert w_{\bar S} \rVert_2^2

    :math:`w_S` are the pretrained kernels, :math:`w_S^0` their values when this object was made, and
    :math:`w_{\bar S}` all other kernels. Biases, normalisation and frozen parameters are left out. It takes the
    place of weight decay: set that of the optimizer to 0. Make it after the weights were loaded, and give it to the
    trainer among its ``regularizers``.

    Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional networks", ICML 2018.

    Args:
        network: the network with its pretrained values.
        alpha: strength towards the pretrained values.
        beta: strength towards zero of the kernels that were not pretrained.
        levels: what was pretrained; by default the encoder.
        report: the load report; what it says was loaded takes the place of ``levels``.

    Raises:
        UserError: a strength is negative, or nothing is pretrained.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2))
        >>> penalty = L2SP(network, alpha=1.0, levels=["network"])
        >>> with torch.no_grad():
        ...     network[0].weight += 1
        >>> round(penalty(network).item(), 3)
        2.0
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        alpha: float = 0.01,
        beta: float = 0.001,
        levels: Sequence[str] = ("encoder",),
        report: LoadReport | None = None,
    ) -> None:
        super().__init__()
        if alpha < 0 or beta < 0:
            raise UserError(f"L2SP: alpha ({alpha}) and beta ({beta}) must not be negative.")
        self.alpha, self.beta = alpha, beta
        pretrained = set(report.loaded_names) if report else names_of(network, levels)
        for name, parameter in _kernels(network).items():
            if name in pretrained:
                self.register_buffer(_key(name), parameter.detach().clone())
        if not self._buffers:
            raise UserError("L2SP: no kernel of the network is pretrained; name the levels that are.")

    def forward(self, network: nn.Module) -> Tensor:
        """Return the penalty, a scalar in float32, for the present weights of ``network``."""
        kernels = _kernels(network)
        device = next(iter(kernels.values())).device
        drift, size = torch.zeros((), device=device), torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            for name, parameter in kernels.items():
                # what is frozen cannot drift: its penalty would be a constant
                if not parameter.requires_grad:
                    continue
                start = self._buffers.get(_key(name))
                if start is None:
                    size = size + parameter.float().square().sum()
                else:
                    drift = drift + (parameter - start.to(parameter)).float().square().sum()
        return 0.5 * (self.alpha * drift + self.beta * size)


def _kernels(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in bare(network).named_parameters() if parameter.ndim > 1}


def _key(name: str) -> str:
    return name.replace(".", "/")
