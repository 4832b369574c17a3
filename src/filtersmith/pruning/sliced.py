"""Modules that compute with some of their channels, on the parameters of all of them.

A sliced module gets a subclass of its own class: torch.compile sees that (hooks it would not). Its copies and its
pickles are plain modules that compute the same, with zeros in full shape, so that nothing stays sliced for ever;
where zeros cannot do that, they are sliced, too.
"""

from __future__ import annotations

import copy
import copyreg
import sys
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from filtersmith.common.subphase import MARK, Owner, mark, owner_of
from filtersmith.graph.ops import original_class
from filtersmith.pruning.picked import picked, placed, rows_of
from filtersmith.pruning.plan import ModulePlan, fill

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_classes: dict[tuple[Any, Any], Any] = {}


@dataclass(frozen=True)
class Slicing:
    """What a module does otherwise, never changed; all tensors are int64 positions, ``None`` means as ever.

    Attributes:
        take: of the channels that come in, those that are wanted.
        fill: where they belong in the full width, which is filled up with zeros.
        columns: the input channels of the weight that are used.
        rows: the output channels that are computed.
        narrow: of the computed output channels, those that go on.
        spread: where they belong in the full width, which is filled up with zeros.
        live: of the computed channels of a norm, those whose running statistics move.
        width: the full number of channels that the module reads (``fill``) or makes (``spread``).
        plan: what follows for a plain module that does the same in full shape; ``None`` where none does.
        why_sliced: then the layer that loses filters, and why zeros do not make the network without them.
    """

    take: Tensor | None = None
    fill: Tensor | None = None
    columns: Tensor | None = None
    rows: Tensor | None = None
    narrow: Tensor | None = None
    spread: Tensor | None = None
    live: Tensor | None = None
    width: tuple[int, int] = (0, 0)
    plan: ModulePlan | None = None
    why_sliced: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        return any(isinstance(getattr(self, f.name), Tensor) for f in fields(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Slicing:
        return self


def sliceable(module: Any) -> bool:
    """Whether we can compute some channels of a module: what it does is known, no subclass does more."""
    kind = original_class(module)
    return kind in (*_CONVOLUTIONS, *_BATCH_NORMS, nn.Linear) or (kind in _TRANSPOSED and bool(module.groups == 1))


def have_classes_watched() -> None:
    """What torch compiles from now on is compiled anew where the class of a module changes.

    On Python 3.12 and newer torch 2.10 does not look at classes again while no dictionary has changed, and goes on
    computing what it has compiled; newer versions no longer pass them over by default.
    """
    config = sys.modules.get("torch._dynamo.config")
    if hasattr(config, "use_recursive_dict_tags_for_guards"):
        config.use_recursive_dict_tags_for_guards = False  # type: ignore[union-attr]


def slice_module(module: Any, slicing: Slicing, owner: Owner | None = None) -> None:
    """Compute with some channels from now on; ``owner`` is whose doing that is, if anybody's."""
    module._slicing = slicing
    module.__class__ = _sliced(_kind(module), type(module))
    mark(module, owner)


def unslice_module(module: Any) -> None:
    """Compute with all channels again; harmless for a module that does."""
    if "_slicing" in vars(module):
        module.__class__ = module._original_class
        del module._slicing
        mark(module, None)


def slicing_of(module: nn.Module) -> Slicing | None:
    """What a module does otherwise now, if anything."""
    found: Slicing | None = vars(module).get("_slicing")
    return found


def filled(module: nn.Module) -> dict[str, Tensor]:
    """Copies of those tensors of a sliced module that are other ones in the plain module, by name."""
    slicing, tensors = slicing_of(module), {**module._parameters, **module._buffers}
    fills = [] if slicing is None or slicing.plan is None else [*slicing.plan.fills()]
    copies = {one.name: copy.deepcopy(tensors[one.name]) for one in fills}
    with torch.no_grad():
        return {name: copies[name].masked_fill_(mask, value) for name, mask, value in fills}  # type: ignore[union-attr]


class _Sliced:
    """Mixin of the changed modules."""

    _slicing: Slicing
    _original_class: type[nn.Module]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """The parameters' copies are those that others have by ``memo`` (an optimizer), and get the zeros."""
        mine: Any = self
        if (own := getattr(super(), "__deepcopy__", None)) is not None:  # parametrized modules have one
            twin = own(memo)
        else:
            _, (cls, *rest), state, *_ = mine._reduced(2)
            twin = memo[id(self)] = cls.__new__(cls, *rest)
            twin.__setstate__(copy.deepcopy(state, memo))
        plan = self._slicing.plan
        shared = plan is not None and any(getattr(twin, f.name) is getattr(self, f.name) for f in plan.fills())
        if plan is not None and not shared:
            fill(replace(plan, module=twin))
            unslice_module(twin)
        elif self._slicing.why_sliced is not None and owner_of(mine) is not None:
            name, why = self._slicing.why_sliced
            text = f"a copy made in a sub-phase lacks filters of layer {name!r} for ever: {why}; copy in a full phase"
            warnings.warn(text, stacklevel=2)
        return twin

    def __copy__(self) -> Any:
        """It shares the parameters, which have no zeros."""
        _, (cls, *rest), state, *_ = self._reduced(2)
        twin = cls.__new__(cls, *rest)
        twin.__setstate__(state)
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Plain where it can be. Else rebuilt from its two parents: the class has no name to be found under."""
        module: Any = self
        _, (cls, *rest), state, *more = self._reduced(protocol)
        if self._slicing.plan is None or not isinstance(state, dict):
            return _rebuilt, (cls.__mro__[1], self._original_class, *rest), state, *more
        changed = filled(module)
        plain = {name: value for name, value in state.items() if name not in ("_slicing", MARK)}
        for table in ("_parameters", "_buffers"):
            plain[table] = {name: changed.get(name, tensor) for name, tensor in plain[table].items()}
        # As pickle's oldest protocol says it: the newer ones want an object's own class. Reading it needs none of us.
        return copyreg._reconstructor, (self._original_class, object, None), plain, *more  # type: ignore[attr-defined]

    def __prepare_scriptable__(self) -> Any:
        raise ValueError("torch.jit.script does not know a network without some filters: give it a copy, as deepcopy")

    def _reduced(self, protocol: Any) -> Any:
        return super().__reduce_ex__(protocol)


class _SlicedModule(_Sliced):
    """Any module: computes with all channels, zeros for those that do not come in."""

    def forward(self, x: Tensor) -> Tensor:
        slicing, still = self._slicing, _statistics(self)
        kept = [(statistic, statistic.clone()) for statistic in still]
        y = super().forward(_came_in(x, slicing))  # type: ignore[misc]
        if slicing.live is not None:
            live = slicing.live.to(x.device)
            for statistic, before in kept:
                # The data alone: autograd refuses statistics of which it knows that they have changed.
                statistic.data.copy_(before.index_copy(0, live, statistic.index_select(0, live)))
        return _goes_on(y, slicing)


class _SlicedConvolution(_Sliced):
    def forward(self, x: Tensor) -> Tensor:
        slicing = self._slicing
        conv: Any = self
        x = _came_in(x, slicing)
        if slicing.rows is None and slicing.columns is None:
            return _goes_on(super().forward(x), slicing)  # type: ignore[misc]
        return _goes_on(_convolve(conv, x, slicing), slicing)


class _SlicedLinear(_Sliced):
    """On features, each channel a block of them, or on images whose channels stand last."""

    def forward(self, x: Tensor) -> Tensor:
        slicing = self._slicing
        linear: Any = self
        weight, before = linear.weight, x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])
        if slicing.columns is not None:
            of_channels = weight.unflatten(1, (slicing.width[0], -1))
            if slicing.take is not None:
                x = picked(x.unflatten(1, (-1, of_channels.shape[2])), None, slicing.take).flatten(1)
            weight = picked(of_channels, slicing.rows, slicing.columns).flatten(1)
        elif slicing.rows is not None:
            weight = picked(weight, slicing.rows)
        y: Tensor = F.linear(x, weight, rows_of(linear.bias, slicing.rows))
        return y.reshape(*before, y.shape[-1])


class _SlicedBatchNorm(_Sliced):
    def forward(self, x: Tensor) -> Tensor:
        bn: Any = self
        slicing = self._slicing
        bn._check_input_dim(x)
        moves = bn.training and bn.track_running_stats
        factor = 0.0 if bn.momentum is None else bn.momentum
        if moves and bn.num_batches_tracked is not None:
            bn.num_batches_tracked.add_(1)
            factor = 1.0 / float(bn.num_batches_tracked) if bn.momentum is None else factor
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (rows_of(getattr(bn, name), slicing.rows) for name in names)
        if slicing.rows is None and mean is not None and var is not None:
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
                _settle(bn.running_mean, mean, slicing)
                _settle(bn.running_var, var, slicing)
        return _goes_on(y, slicing)


def _kind(module: nn.Module) -> type[_Sliced]:
    if not sliceable(module):
        return _SlicedModule
    if isinstance(module, _ConvNd):
        return _SlicedConvolution
    return _SlicedLinear if isinstance(module, nn.Linear) else _SlicedBatchNorm


def _sliced(kind: Any, original: Any) -> Any:
    """The subclass of a module's class that computes with some of its channels; the same one each time."""
    if (kind, original) not in _classes:
        attributes = {"_original_class": original, "__module__": original.__module__, "__doc__": original.__doc__}
        _classes[kind, original] = type(original.__name__, (kind, original), attributes)
    return _classes[kind, original]


def _rebuilt(kind: Any, original: Any, *rest: Any) -> Any:
    cls = _sliced(kind, original)
    return cls.__new__(cls, *rest)


def _came_in(x: Tensor, slicing: Slicing) -> Tensor:
    if slicing.take is not None:
        x = picked(x, None, slicing.take)
    return x if slicing.fill is None else placed(x, slicing.fill, slicing.width[0])


def _goes_on(y: Tensor, slicing: Slicing) -> Tensor:
    if slicing.narrow is not None:
        y = picked(y, None, slicing.narrow)
    return y if slicing.spread is None else placed(y, slicing.spread, slicing.width[1])


def _settle(running: Tensor, moved: Tensor, slicing: Slicing) -> None:
    """Write running statistics back to where they came from, but for those of channels that are left out."""
    rows = slicing.rows
    if slicing.live is not None:
        live = slicing.live.to(running.device)
        rows = live if rows is None else rows.to(live.device).index_select(0, live)
        moved = moved.index_select(0, live)
    assert rows is not None, "otherwise there would be no change"
    running.index_copy_(0, rows.to(running.device), moved)


def _statistics(module: Any) -> list[Tensor]:
    if module._slicing.live is None or not module.training:
        return []
    return [t for t in (module.running_mean, module.running_var) if t is not None]


def _convolve(conv: Any, x: Tensor, slicing: Slicing) -> Tensor:
    """A convolution with some of its filters, on some of its input channels."""
    transposed = isinstance(conv, _ConvTransposeNd)
    weight, bias, groups = conv.weight, rows_of(conv.bias, slicing.rows), conv.groups
    if slicing.rows is not None and groups > 1:
        groups = x.shape[1]  # depthwise: one for each channel that is left
    weight = picked(weight, *((slicing.columns, slicing.rows) if transposed else (slicing.rows, slicing.columns)))
    place = weight.ndim - 3
    if transposed:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[place]
        return function(x, weight, bias, conv.stride, conv.padding, conv.output_padding, groups, conv.dilation)
    padding = conv.padding
    if conv.padding_mode != "zeros":
        x, padding = F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode), 0
    return (F.conv1d, F.conv2d, F.conv3d)[place](x, weight, bias, conv.stride, padding, conv.dilation, groups)
