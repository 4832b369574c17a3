"""The networks of DACNN (Huang et al., CVPR Workshops 2019), and their twins whose kernels are not shared.

A 3x3 stem, then sections of 3x3 convolutions with a 2x2 max pooling behind each, global average pooling, one linear
layer; batch norm and ReLU behind each convolution. Up to 14 layers it is a plain chain, from 18 on residual blocks of
two convolutions. The number of layers counts the linear one from 14 on. Every convolution behind the stem uses one
kernel of 128 channels; *mixed* networks grow from 64 to 512 channels, use one kernel for each width, and have a free
convolution where the width changes (with a free 1x1 projection in residual networks). *Regulators*: see
`filtersmith.methods.dacnn`. No biases but the last; torch's own initialisation, the paper states none. 24 layers have
2, 3, 4 and 2 blocks; the paper does not say how they are distributed.

Names: ``dacnnD``, then in this order ``-mix``, ``-reg`` (``-reg3``: in section 3 alone, ``-reg13``: in 1 and 3),
``-nobn`` (without batch norms, the paper's Table 1), ``-wX`` (X channels in the first section), ``-unshared``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.common.options import bad_option
from filtersmith.methods.dacnn import add_regulators, share_kernels
from filtersmith.zoo.info import Task

CHAINS = {
    3: (1, 1),
    5: (1, 1, 1, 1),
    7: (1, 1, 2, 2),
    9: (2, 2, 2, 2),
    11: (2, 2, 3, 3),
    14: (1, 2, 3, 3, 3),
}
"""Layers -> convolutions of each section, the stem not counted."""
RESIDUAL = {18: (2, 2, 2, 2), 24: (2, 3, 4, 2), 34: (3, 4, 6, 3)}
"""Layers -> residual blocks of each section."""
WIDTH, MIXED_WIDTH, WIDEST = 128, 64, 8
"""Channels of a plain network; of a mixed one's first section; how many times wider its last sections are."""


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv: nn.Conv2d = _conv(in_channels, channels, 3)
        self.bn: nn.Module = _norm(channels, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm; ReLU after the sum with the shortcut."""

    def __init__(self, in_channels: int, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = _conv(in_channels, channels, 3)
        self.bn1: nn.Module = _norm(channels, batch_norm)
        self.conv2: nn.Conv2d = _conv(channels, channels, 3)
        self.bn2: nn.Module = _norm(channels, batch_norm)
        self.projection: nn.Module | None = None
        if in_channels != channels:
            self.projection = nn.Sequential(_conv(in_channels, channels, 1), _norm(channels, batch_norm))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(shortcut + self.bn2(self.conv2(out)), inplace=True)


class DACNN(nn.Module):
    """A network of DACNN for images of any size that its poolings leave something of.

    Takes (batch, in_channels, H, W), gives (batch, num_classes).

    Args:
        depth: 3, 5, 7, 9, 11, 14 (plain chains), 18, 24 or 34 (residual).
        num_classes: outputs.
        in_channels: channels of the images.
        width: channels of the first section; default: 128, mixed 64.
        mixed: twice as many channels in each section as in the one before, up to eight times the first's.
        batch_norm: False leaves the batch norms out.
        shared: False gives every convolution a kernel of its own.
        regulators: ``"all"``, or numbers of sections from 1, that get a regulator in every block (a chain: one at the
            end); none by default.

    Raises:
        ValueError: a depth or section that there is not, a width below 1.
    """

    def __init__(
        self,
        depth: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int | None = None,
        mixed: bool = False,
        batch_norm: bool = True,
        shared: bool = True,
        regulators: str | Sequence[int] = (),
    ) -> None:
        super().__init__()
        if depth not in (*CHAINS, *RESIDUAL):
            raise bad_option("dacnn depth", depth, ", ".join(map(str, (*CHAINS, *RESIDUAL))))
        if mixed and depth < 14:
            raise bad_option("dacnn depth", depth, "14, 18, 24 or 34 for -mix")
        first = (MIXED_WIDTH if mixed else WIDTH) if width is None else width
        if first < 1:
            raise bad_option("dacnn width", first, "a whole number of at least 1")
        make, layout = (Unit, CHAINS[depth]) if depth in CHAINS else (Block, RESIDUAL[depth])
        self.stem: Unit = Unit(in_channels, first, batch_norm)
        sections: list[nn.Module] = []
        before = first
        for number, length in enumerate(layout):
            channels = first * min(2**number, WIDEST) if mixed else first
            units = [make(before if n == 0 else channels, channels, batch_norm) for n in range(length)]
            sections.append(nn.Sequential(*units, nn.MaxPool2d(2)))
            before = channels
        self.sections: nn.Sequential = nn.Sequential(*sections)
        self.fc: nn.Linear = nn.Linear(before, num_classes)
        if shared:
            share_kernels(self, self._kernels())
        if regulators:
            add_regulators(self, regulators)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out = self.sections(self.stem(x))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]

    def _kernels(self) -> list[list[str]]:
        """The convolutions that use one kernel, for each kernel: behind the stem, those that keep their width."""
        groups: dict[int, list[str]] = {}
        for name, module in self.sections.named_modules():
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels:
                groups.setdefault(module.out_channels, []).append(f"sections.{name}")
        return [names for names in groups.values() if len(names) > 1]


def _conv(in_channels: int, channels: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=False)


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def build(match: re.Match[str], task: Task) -> DACNN:
    """``dacnnD[-mix][-reg[S]][-nobn][-wX][-unshared]``; ValueError for images that the poolings reduce to nothing."""
    depth = int(match["depth"])
    sections = match["sections"]
    network = DACNN(
        depth,
        num_classes=task.num_classes,
        in_channels=task.in_channels,
        width=int(match["width"]) if match["width"] else None,
        mixed=bool(match["mix"]),
        batch_norm=not match["nobn"],
        shared=not match["unshared"],
        regulators=[int(n) for n in sections] if sections else "all" if match["reg"] else (),
    )
    smallest = 2 ** len(network.sections)
    if task.image_size < smallest:
        raise bad_option("image_size", task.image_size, f"at least {smallest} for dacnn{depth}")
    return network
