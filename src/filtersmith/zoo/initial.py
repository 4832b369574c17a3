"""How weights start where torch's own initialisation is not the one that a network's authors use."""

from __future__ import annotations

from torch import nn


def he_fan_out(network: nn.Module) -> None:
    """Draws every convolution of ``network``, in place, from He's normal distribution (fan out).

    Variance 2 / (k^2 * out_channels) for k x k kernels, grouped ones included: He et al., ICCV 2015, Eq. 14, as the
    code of ResNet, Wide ResNet, ResNeXt and DenseNet has it. Biases and all other layers stay.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
