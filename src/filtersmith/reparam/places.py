"""What may be put in another's place in a network: where something else would see it, a layer stays plain.

One place decides it for all methods. A block of branches takes the place of a convolution, and of the batch norm
behind it; a computed weight takes the place of a parameter, in a module that stays the same object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import getattr_static
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.snapshot import snapshot
from filtersmith.filters import Surroundings, has_filters
from filtersmith.graph.classes import is_torchs
from filtersmith.graph.held import Held, held_elsewhere, named
from filtersmith.graph.reach import Reach
from filtersmith.reparam.branches import BATCH_NORMS, Absorbed, Branches, Folded, plain_class
from filtersmith.reparam.calls import Calls, calls_of, same_calls
from filtersmith.reparam.tried import Registers, alike, is_batch_norm_and_children, trains_computed

HOOKED = "it has hooks, which would see only one of the branches"
REPLACED = "its forward is replaced on the object, and a block would not call that"
HELD = "it is also kept in a plain list or attribute, or by a function, where a block in its place is not seen"
WHOLE = "it is the whole network and has no place in one"
BY_CODE = "a function holds it by itself (a closure, a default, a global name), and a deployed copy is not seen there"
ASKED = "the network's code asks what it is (its class, an attribute) and would do something else with a block"
WRITTEN = "a hook of it, or of what it is in, may write into its weight, and would find another one there"
WRITTEN_BY_CODE = "the network's code may write into its weight, and would write into a computed one"
OWN_CLASS = "its class may do more with its weight than read it, and would find a computed one"

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_WEIGHT = frozenset(("weight", "bias", "parameters", "named_parameters", "_parameters", "state_dict", "apply"))
_TENSORS = frozenset(("weight", "parameters", "named_parameters", "_parameters", "state_dict"))
_TRIALS = 32


@dataclass(frozen=True)
class Places:
    """What of a network may be put in another's place.

    Attributes:
        behind: convolution -> the batch norm directly behind it, where a block may take the place of both.
        reasons: layer -> why it has to stay.
        without: convolution -> why the batch norm directly behind it has to stay.
    """

    behind: Mapping[nn.Module, nn.Module] = field(default_factory=dict)
    reasons: Mapping[nn.Module, str] = field(default_factory=dict)
    without: Mapping[nn.Module, str] = field(default_factory=dict)


def places_for_weights(network: nn.Module, method: Registers) -> Places:
    """Where a method may compute weights."""
    held, tried = held_elsewhere(network), dict[Any, bool]()
    hooked, written = _below_hooks(network), _written_by_code(network)
    reasons = {}
    for layer in Surroundings.of(network).layers.values():
        if not has_filters(layer):
            continue
        known = WRITTEN if layer in hooked else WRITTEN_BY_CODE if layer in written else None
        reason = BY_CODE if id(layer) in held.code else known or _not_computed(layer, method, tried)
        if reason is not None:
            reasons[layer] = reason
    return Places(reasons=reasons)


def _below_hooks(network: nn.Module) -> set[nn.Module]:
    """The modules with hooks of the user's that get hold of weights, and all that is in them."""
    return {below for module in network.modules() if _hooks_for_weights(module) for below in module.modules()}


def _hooks_for_weights(module: nn.Module) -> bool:
    hooks = (hook for kind in _HOOKS for hook in getattr(module, kind).values())
    return any(_is_users(hook) and named(hook) & _WEIGHT for hook in hooks)


def _written_by_code(network: nn.Module) -> set[nn.Module]:
    """The modules inside those whose code gets hold of weights and has names of what writes: ``clamp_``, ``data``."""
    reach, found = Reach(network), set[nn.Module]()
    for module in network.modules():
        names = set() if is_torchs(module) else reach.code_of(module) | named(getattr_static(type(module), "forward"))
        writes = any(name == "data" or (name.endswith("_") and not name.startswith("_")) for name in names)
        if writes and names & _TENSORS:
            found |= set(module.modules()) - {module}
    return found


def _not_computed(layer: nn.Module, method: Registers, tried: dict[Any, bool]) -> str | None:
    own = "forward" in vars(layer) or not type(layer).__module__.startswith("torch.")
    plain = isinstance(layer._parameters.get("weight"), Tensor)  # else it is refused anyway
    if not (own and plain):
        return None
    if (kind := alike(layer)) not in tried:
        tried[kind] = trains_computed(layer, method)
    return None if tried[kind] else OWN_CLASS


def _is_users(hook: Any) -> bool:
    return not str(getattr(hook, "__module__", type(hook).__module__)).startswith("torch.")


def places_for_branches(network: nn.Module) -> Places:
    """Where blocks of branches may stand, read off the network's graph; the network is left as it was."""
    calls, held, hooked = calls_of(network), held_elsewhere(network), _below_hooks(network)
    inside, tried = Surroundings.of(network).inside, dict[Any, bool]()
    convolutions: list[Any] = [m for m in network.modules() if isinstance(m, _ConvNd) and id(m) not in inside]
    reasons: dict[Any, str] = {}
    without: dict[Any, str] = {}
    behind: dict[Any, nn.Module] = {}
    for conv in convolutions:
        if conv is network:
            reasons[conv] = WHOLE
        elif conv in hooked:
            reasons[conv] = WRITTEN
        elif (reason := _not_replaced(conv, calls, held)) is not None:
            reasons[conv] = reason
        elif isinstance(bn := calls.behind.get(conv), _BatchNorm) and calls.before.get(bn) is conv:
            against = _not_replaced(bn, calls, held) or _no_batch_norm(bn, conv, tried)
            if against is None:
                behind[conv] = bn
            else:
                without[conv] = against
    open_to = [conv for conv in convolutions if conv not in reasons and (conv in behind or conv.bias is not None)]
    fitting = _fitting(network, [(conv, behind.get(conv)) for conv in open_to], calls)
    for conv in open_to:
        if conv not in fitting:
            reasons[conv] = ASKED
            behind.pop(conv, None)
    return Places(behind, reasons, without)


def _not_replaced(module: nn.Module, calls: Calls, held: Held) -> str | None:
    """Why nothing can take a module's place, or ``None``."""
    if any(getattr(module, kind) for kind in _HOOKS):
        return HOOKED
    if "forward" in vars(module):
        return REPLACED
    return HELD if module in held else calls.reasons.get(module)


def _no_batch_norm(bn: Any, conv: Any, tried: dict[Any, bool]) -> str | None:
    """Why a batch norm cannot take the bias of branches, or ``None``."""
    if bn.running_mean is None or bn.running_var is None:
        return "it has no running statistics"
    if bn.num_features != conv.out_channels:
        return "it has another number of channels"
    if type(bn) in BATCH_NORMS:
        return None
    if (kind := alike(bn)) not in tried:
        tried[kind] = plain_class(bn) is not None and is_batch_norm_and_children(bn)
    return None if tried[kind] else "its class does more than normalise and call its children"


# --- trials --------------------------------------------------------------------------------------------------

_Pair = tuple[nn.Module, nn.Module | None]


class _StandIn(Branches):
    """Stands for a block while the network is traced."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, input: Tensor) -> Any:
        return self.conv(input)

    def fold(self) -> Folded:
        raise NotImplementedError("it is never deployed")


def _fitting(network: nn.Module, pairs: Sequence[_Pair], calls: Calls) -> set[nn.Module]:
    """The convolutions of those pairs in whose place a block does not change what the network's code does."""
    found: set[nn.Module] = set()
    left, trials = [list(pairs)] * bool(pairs), 0
    while left and trials < _TRIALS:
        some = left.pop()
        trials += 1
        with _standing_in(network, some):
            fits = same_calls(network, calls)
        if fits:
            found |= {conv for conv, _ in some}
        elif len(some) > 1:
            left += [some[: len(some) // 2], some[len(some) // 2 :]]
    return found


@contextmanager
def _standing_in(network: nn.Module, pairs: Sequence[_Pair]) -> Iterator[None]:
    restore = snapshot(network)
    stands: dict[nn.Module, nn.Module] = {}
    for conv, bn in pairs:
        stands[conv] = _StandIn(conv)
        if bn is not None:
            stands[bn] = Absorbed(bn)
    try:
        put_in_place(network, stands)
        yield
    finally:
        restore()


def put_in_place(network: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the places of others, everywhere in the tree."""
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in others:
                parent._modules[name] = others[child]
