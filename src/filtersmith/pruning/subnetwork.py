"""The sub-network without some filters, computed with fewer channels, on the parameters of the whole network.

`leave_out` changes how the modules of a network compute: a convolution applies only the filters that are left, to the
channels that are left, and so do batch norms and linear layers; where a sum or the code needs all channels, zeros
stand for those left out. Parameters, buffers and names stay as they are; `put_in` undoes it.

A changed module gets a subclass of its own class: torch.compile sees that (hooks it would not), and copying and
pickling the network work as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from filtersmith.common.modules import memory_format
from filtersmith.graph.channels import Channels, Producer, Site, origin, producer_of
from filtersmith.graph.ops import Operation, of_module, whole_class

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_classes: dict[tuple[Any, Any], Any] = {}
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Change:
    """What a module does otherwise; all tensors are int64 positions, ``None`` means as ever.

    Attributes:
        take: of the channels that come in, those that are wanted.
        fill: where they belong in the full width, which is filled up with zeros.
        columns: the input channels of the weight that are used.
        rows: the output channels that are computed.
        narrow: of the computed output channels, those that go on.
        spread: where they belong in the full width, which is filled up with zeros.
        live: of the computed channels of a norm, those whose running statistics move.
        width: the full number of channels that the module reads (``fill``) or makes (``spread``).
    """

    take: Tensor | None = None
    fill: Tensor | None = None
    columns: Tensor | None = None
    rows: Tensor | None = None
    narrow: Tensor | None = None
    spread: Tensor | None = None
    live: Tensor | None = None
    width: tuple[int, int] = (0, 0)

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) is not None for f in fields(self) if f.name != "width")


def leave_out(channels: Channels, dropped: Mapping[str, Tensor]) -> None:
    """Compute without some filters from now on, and without what stands only for their channels.

    Args:
        channels: of the network, as `filtersmith.graph.channels.read` gives them.
        dropped: name of a producer -> bool, shape ``(filters,)``; at least one filter of each stays.
    """
    modules: dict[str, Any] = {producer.name: producer.module for producer in channels.producers}
    modules |= {name: site.module for name, site in channels.sites.items()}
    # An activation has no tensor of its own that says where the network is.
    usual = next((p.device for module in modules.values() for p in module.parameters()), torch.device("cpu"))
    put_in(channels)
    for name, change in _changes(channels, dropped).items():
        module = modules[name]
        device = next((t.device for t in (*module.parameters(), *module.buffers())), usual)
        placed = {f.name: v.to(device) for f in fields(change) if isinstance(v := getattr(change, f.name), Tensor)}
        module._lean = Change(**placed, width=change.width)
        module.__class__ = _lean(_kind(module), type(module))


def put_in(channels: Channels) -> None:
    """Compute with all filters again."""
    modules: list[Any] = [producer.module for producer in channels.producers]
    for module in (*modules, *(site.module for site in channels.sites.values())):
        if "_lean" in vars(module):
            module.__class__ = module._whole_class
            del module._lean


def left_out(module: Any) -> Tensor | None:
    """Which filters of a convolution are left out now, bool, shape ``(filters,)``; ``None`` where none is."""
    change: Change | None = vars(module).get("_lean")
    kept = None if change is None else change.rows if change.rows is not None else change.narrow
    if kept is None:
        return None
    mask = torch.ones(module.out_channels, dtype=torch.bool, device=kept.device)
    mask[kept] = False
    return mask


@dataclass(frozen=True)
class Belonging:
    """Parameters, and statistics of a batch norm, that stand only for channels which are left out.

    Attributes:
        module: a convolution that makes the channels, or what they pass and has parameters for each of them: a batch
            norm, a depthwise convolution, a group norm, a PReLU.
        rows: which of its filters or channels, int64.
        of: how many there are.
    """

    module: nn.Module
    rows: Tensor
    of: int

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The module's parameters that have something for each filter or channel; not a gain for all of them."""
        for name, parameter in self.module.named_parameters(recurse=False):
            if (name == "weight" and isinstance(self.module, _ConvNd)) or parameter.shape[:1] == (self.of,):
                yield name, parameter


def belongings(channels: Channels, dropped: Mapping[str, Tensor]) -> list[Belonging]:
    """What the filters left out have for themselves: first the filters, then what their channels pass."""
    gone = [(p.module, dropped[p.name]) for p in channels.producers if p.name in dropped]
    followers = [site for site in channels.sites.values() if site.role == "follower" or _has_own(site)]
    gone += [(site.module, _gone(site.outputs, channels, dropped)) for site in followers]
    return [
        Belonging(module, mask.nonzero().flatten().to(next(module.parameters(), mask).device), len(mask))
        for module, mask in gone
        if mask.any()
    ]


def readers(channels: Channels, dropped: Mapping[str, Tensor]) -> Iterator[tuple[Site, Tensor]]:
    """The convolutions and linear layers that read channels which are left out, and the positions of these, int64."""
    for site in channels.sites.values():
        if site.role in ("convolution", "linear") and (gone := _gone(site.inputs, channels, dropped)).any():
            yield site, gone.nonzero().flatten()


def _has_own(site: Site) -> bool:
    """Whether a module that channels pass has parameters for each of them: a group norm, a PReLU."""
    per_channel = site.role == "passing" and of_module(site.module) is Operation.PER_CHANNEL
    return per_channel and any(True for _ in site.module.parameters(recurse=False))


# --- which module does what --------------------------------------------------------------------------------


def _gone(origins: Tensor, channels: Channels, dropped: Mapping[str, Tensor]) -> Tensor:
    """Which channels of these origins are left out: bool."""
    gone = torch.zeros(len(origins), dtype=torch.bool)
    of = producer_of(origins)
    for place in of.unique().tolist():
        if place >= 0 and (mask := dropped.get(channels.producers[place].name)) is not None:
            mine = of == place
            gone[mine] = mask.cpu()[origins[mine] - origin(place, 1)]
    return gone


def _changes(channels: Channels, dropped: Mapping[str, Tensor]) -> dict[str, Change]:
    whole = torch.tensor([producer.whole is not None for producer in channels.producers] + [True])
    ends = {producer.end: producer for producer in channels.producers if producer.whole is not None}
    changes: dict[str, Change] = {}
    for site in channels.sites.values():
        gone = _gone(site.inputs, channels, dropped)
        if gone.any():
            # Behind the end of a producer whose channels all have to be there, zeros have been put in.
            there = ~gone if site.within >= 0 else ~gone | whole[producer_of(site.inputs)]
            changes[site.name] = _at_site(site, gone, there, spread=site.name in ends)
    for producer in channels.producers:
        mask = dropped.get(producer.name)
        if mask is not None and mask.any():
            before = changes.get(producer.name, Change())
            changes[producer.name] = _at_producer(producer, ~mask.cpu(), before, spread=producer.name in ends)
    return {name: change for name, change in changes.items() if change}


def _positions(mask: Tensor) -> Tensor | None:
    """Where a mask is true; ``None`` where it is true everywhere."""
    return None if mask.all() else mask.nonzero().flatten()


def _at_site(site: Site, gone: Tensor, there: Tensor, *, spread: bool) -> Change:
    """What a module does that reads channels some of which are ``gone``; only those that are ``there`` come in."""
    width = len(gone)
    if site.role in ("convolution", "linear"):
        take, kept = _positions(~gone[there]), (~gone).nonzero().flatten()
        if _sliceable(site.module) and getattr(site.module, "groups", 1) == 1:
            return Change(take=take, columns=kept, width=(width, 0))
        return Change(take=take, fill=kept, width=(width, 0))
    outputs = site.outputs
    repeats = len(outputs) // width
    out_there, out_gone = there.repeat_interleave(repeats), gone.repeat_interleave(repeats)
    on = _positions(out_there)
    ended = out_there.nonzero().flatten() if spread else None
    if site.role == "passing" and of_module(site.module) is not Operation.PER_CHANNEL:
        return Change(spread=ended, width=(0, len(outputs)))
    if _sliceable(site.module):
        live = _positions(~out_gone[out_there]) if isinstance(site.module, _BatchNorm) else None
        return Change(rows=on, spread=ended, live=live, width=(0, len(outputs)))
    live = (~out_gone).nonzero().flatten() if hasattr(site.module, "running_mean") else None
    return Change(fill=_positions(there), narrow=on, spread=ended, live=live, width=(width, len(outputs)))


def _at_producer(producer: Producer, kept: Tensor, change: Change, *, spread: bool) -> Change:
    """What a convolution does that loses filters; ``change`` is what it does about lost input channels."""
    positions = kept.nonzero().flatten()
    fewer = computes_fewer(producer)
    return Change(
        take=change.take,
        fill=change.fill,
        columns=change.columns,
        rows=positions if fewer else None,
        narrow=None if fewer else positions,
        spread=positions if spread else None,
        width=(change.width[0], len(kept)),
    )


def _sliceable(module: Any) -> bool:
    """Whether we can compute some channels of a module: what it does is known, no subclass does more."""
    kind = whole_class(module)
    return kind in (*_CONVOLUTIONS, *_BATCH_NORMS, nn.Linear) or (kind in _TRANSPOSED and bool(module.groups == 1))


def computes_fewer(producer: Producer) -> bool:
    """Whether the sub-network saves the work of the filters that a convolution loses."""
    return _sliceable(producer.module) and bool(producer.module.groups == 1)


# --- how modules compute ----------------------------------------------------------------------------------


class _Lean:
    """Mixin of the changed modules."""

    _lean: Change
    _whole_class: type[nn.Module]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Rebuilt from its two parents: the class itself has no name to be found under."""
        reduced: Any = super().__reduce_ex__(protocol)
        _, (cls, *rest), *state = reduced
        return _rebuilt, (cls.__mro__[1], self._whole_class, *rest), *state


class _LeanModule(_Lean):
    """Any module: computes with all channels, zeros for those that do not come in."""

    def forward(self, x: Tensor) -> Tensor:
        change, still = self._lean, _statistics(self)
        kept = [(statistic, statistic.clone()) for statistic in still]
        y = super().forward(_came_in(x, change))  # type: ignore[misc]
        if change.live is not None:
            live = change.live.to(x.device)
            for statistic, before in kept:
                # The data alone: autograd refuses statistics of which it knows that they have changed.
                statistic.data.copy_(before.index_copy(0, live, statistic.index_select(0, live)))
        return _goes_on(y, change)


class _LeanConvolution(_Lean):
    def forward(self, x: Tensor) -> Tensor:
        change = self._lean
        conv: Any = self
        x = _came_in(x, change)
        if change.rows is None and change.columns is None:
            return _goes_on(super().forward(x), change)  # type: ignore[misc]
        return _goes_on(_convolve(conv, x, change), change)


class _LeanLinear(_Lean):
    def forward(self, x: Tensor) -> Tensor:
        change = self._lean
        linear: Any = self
        assert change.columns is not None, "linear layers only lose inputs"
        of_channels = linear.weight.unflatten(1, (change.width[0], -1))
        if change.take is not None:
            x = _picked(x.unflatten(1, (-1, of_channels.shape[2])), None, change.take).flatten(1)
        return F.linear(x, _picked(of_channels, None, change.columns).flatten(1), linear.bias)


class _LeanBatchNorm(_Lean):
    def forward(self, x: Tensor) -> Tensor:
        bn: Any = self
        change = self._lean
        bn._check_input_dim(x)
        moves = bn.training and bn.track_running_stats
        factor = 0.0 if bn.momentum is None else bn.momentum
        if moves and bn.num_batches_tracked is not None:
            bn.num_batches_tracked.add_(1)
            factor = 1.0 / float(bn.num_batches_tracked) if bn.momentum is None else factor
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (_rows(getattr(bn, name), change.rows) for name in names)
        if change.rows is None and mean is not None and var is not None:
            mean, var = mean.clone(), var.clone()  # some of them are not to move
        y = F.batch_norm(
            x,
            mean if not bn.training or bn.track_running_stats else None,
            var if not bn.training or bn.track_running_stats else None,
            weight,
            bias,
            bn.training or mean is None,
            factor,
            bn.eps,
        )
        if moves and mean is not None and var is not None:
            with torch.no_grad():
                _settle(bn.running_mean, mean, change)
                _settle(bn.running_var, var, change)
        return _goes_on(y, change)


def _kind(module: nn.Module) -> type[_Lean]:
    if not _sliceable(module):
        return _LeanModule
    if isinstance(module, _ConvNd):
        return _LeanConvolution
    return _LeanLinear if isinstance(module, nn.Linear) else _LeanBatchNorm


def _lean(kind: Any, whole: Any) -> Any:
    """The subclass of a module's class that computes with some of its channels; the same one each time."""
    if (kind, whole) not in _classes:
        attributes = {"_whole_class": whole, "__module__": whole.__module__, "__doc__": whole.__doc__}
        _classes[kind, whole] = type(whole.__name__, (kind, whole), attributes)
    return _classes[kind, whole]


def _rebuilt(kind: Any, whole: Any, *rest: Any) -> Any:
    cls = _lean(kind, whole)
    return cls.__new__(cls, *rest)


class _Picked(torch.autograd.Function):
    """Some rows and columns of a tensor. Each position is picked once: torch's own gradient adds up, and is slow."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        ctx.shape, ctx.rows, ctx.columns = tensor.shape, rows, columns
        if rows is not None:
            tensor = tensor.index_select(0, rows)
        return tensor if columns is None else tensor.index_select(1, columns)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.columns is None:
            place: Any = ctx.rows
        elif ctx.rows is None:
            place = slice(None), ctx.columns
        else:
            place = ctx.rows[:, None], ctx.columns
        full = gradient.new_zeros(ctx.shape)
        full[place] = gradient
        return full, None, None


def _picked(tensor: Tensor, rows: Tensor | None, columns: Tensor | None = None) -> Tensor:
    """Some rows and columns (dimensions 0 and 1) of a tensor."""
    picked: Tensor = _Picked.apply(tensor, _near(rows, tensor), _near(columns, tensor))
    return picked


def _near(positions: Tensor | None, tensor: Tensor) -> Tensor | None:
    return positions if positions is None else positions.to(tensor.device)


def _rows(tensor: Tensor | None, positions: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or positions is None else _picked(tensor, positions)


def _placed(x: Tensor, positions: Tensor, width: int) -> Tensor:
    """``x`` at its positions among ``width`` channels, zeros between them."""
    full = torch.empty(
        (x.shape[0], width, *x.shape[2:]), dtype=x.dtype, device=x.device, memory_format=memory_format(x)
    )
    return full.zero_().index_copy_(1, positions.to(x.device), x)


def _came_in(x: Tensor, change: Change) -> Tensor:
    if change.take is not None:
        x = _picked(x, None, change.take)
    return x if change.fill is None else _placed(x, change.fill, change.width[0])


def _goes_on(y: Tensor, change: Change) -> Tensor:
    if change.narrow is not None:
        y = _picked(y, None, change.narrow)
    return y if change.spread is None else _placed(y, change.spread, change.width[1])


def _settle(running: Tensor, moved: Tensor, change: Change) -> None:
    """Write running statistics back to where they came from, but for those of channels that are left out."""
    rows = change.rows
    if change.live is not None:
        live = change.live.to(running.device)
        rows = live if rows is None else rows.to(live.device).index_select(0, live)
        moved = moved.index_select(0, live)
    assert rows is not None, "otherwise there would be no change"
    running.index_copy_(0, rows.to(running.device), moved)


def _statistics(module: Any) -> list[Tensor]:
    if module._lean.live is None or not module.training:
        return []
    return [t for t in (module.running_mean, module.running_var) if t is not None]


def _convolve(conv: Any, x: Tensor, change: Change) -> Tensor:
    """A convolution with some of its filters, on some of its input channels."""
    transposed = isinstance(conv, _ConvTransposeNd)
    weight, bias, groups = conv.weight, _rows(conv.bias, change.rows), conv.groups
    if change.rows is not None and groups > 1:
        groups = x.shape[1]  # depthwise: one for each channel that is left
    weight = _picked(weight, *((change.columns, change.rows) if transposed else (change.rows, change.columns)))
    place = weight.ndim - 3
    if transposed:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[place]
        return function(x, weight, bias, conv.stride, conv.padding, conv.output_padding, groups, conv.dilation)
    padding = conv.padding
    if conv.padding_mode != "zeros":
        x, padding = F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode), 0
    return (F.conv1d, F.conv2d, F.conv3d)[place](x, weight, bias, conv.stride, padding, conv.dilation, groups)
