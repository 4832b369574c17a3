"""The modules that channels meet on their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from filtersmith.graph.flow import Origins, repeated

Role = Literal["consumer", "per-channel", "elementwise"]


@dataclass(frozen=True)
class Site:
    """A module that channels of known origin meet.

    Attributes:
        name: of the module.
        module: the module.
        role: a ``"consumer"`` (convolution, linear layer) reads the channels, and they end there; what is
            ``"per-channel"`` (batch norm, depthwise convolution, group norm, PReLU) has parameters or statistics for
            them; what is ``"elementwise"`` (activation, pooling) has none.
        inputs: the origins of its input channels.
        within: the producer whose channels alone pass here on their way to its `Producer.end`, or ``None``.
        spoiled: of a consumer, the producers whose channels are not 0 here although all that they have for
            themselves is, each with what makes something else of zeros: ``"gate makes"``.
    """

    name: str
    module: nn.Module = field(repr=False)
    role: Role
    inputs: Origins
    within: str | None = None
    spoiled: frozenset[tuple[str, str]] = frozenset()

    @property
    def outputs(self) -> Origins:
        """The origins of its output channels; a depthwise convolution may have several for each of its inputs."""
        if self.role == "per-channel" and isinstance(self.module, _ConvNd):
            return repeated(self.inputs, self.module.out_channels // self.module.in_channels)
        return self.inputs

    @property
    def each_by_itself(self) -> bool:
        """Whether a channel comes out the same whatever the others are; not surely behind statistics over several."""
        alone = (_BatchNorm, _ConvNd, _InstanceNorm, nn.PReLU)
        return self.role != "per-channel" or isinstance(self.module, alone)

    @property
    def of_zeros(self) -> Literal["zeros", "something", "zeros of anything"]:
        """What it makes of channels of zeros where its own parameters and statistics for them are `without_filters`'.

        With weights and biases of zeros a norm or a depthwise convolution makes zeros of anything.
        """
        weights = self.module._parameters.get("weight") is not None
        if weights and not isinstance(self.module, nn.PReLU):
            return "zeros of anything"
        statistics = isinstance(self.module, nn.GroupNorm) or getattr(self.module, "track_running_stats", False)
        return "something" if statistics and not self.has_own else "zeros"

    @property
    def has_own(self) -> bool:
        """Whether it has something for each channel that passes: parameters, or a batch norm's statistics."""
        if self.role != "per-channel":
            return False
        known = isinstance(self.module, (_BatchNorm, _ConvNd))
        return known or any(True for _ in self.module.parameters(recurse=False))


def is_depthwise(module: nn.Module) -> bool:
    """Whether a module is a convolution whose filters read one channel each, of several."""
    return isinstance(module, _ConvNd) and 1 < module.groups == module.in_channels


def dimensions(convolution: _ConvNd) -> int:
    """Of the space that a convolution works in."""
    return len(convolution.kernel_size)
