"""What probes find out about the calls of a network, each asked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, fx, nn

from filtersmith.graph.classes import is_torchs, loses_filters, on_channels, signature, tampered, twin
from filtersmith.graph.flow import Flow, producers_of, width
from filtersmith.graph.probe import Function, Probed, keeps_each_zero, probe, unseen

T = TypeVar("T")
NONE, _ANYTHING = frozenset[str](), frozenset({"anything"})


def never_zero(flow: Flow) -> bool:
    """Whether zeros have become something else in all channels, whether they are put in or made by parameters."""
    return set(producers_of(flow.origins)) <= flow.moved & {producer for producer, _ in flow.spoiled}


class Answers:
    """Of one network: calls that are alike have the same answer."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def channels(
        self, node: fx.Node, module: nn.Module | None, flows: Mapping[fx.Node, Flow | None]
    ) -> Probed | None:
        """What a call does to channels in dimension 1.

        ``None``: unknown, as where it reads more than channels and constants, or several tensors as one.
        """
        sources = node.all_input_nodes
        known = (flow for source in sources if (flow := flows[source]) is not None)
        read = [flow for flow in known if not (flow.last or flow.chunks)]
        if not read or len(read) < len(sources) or "out" in node.kwargs:
            return None
        plain = [flow._replace(moved=_ANYTHING if never_zero(flow) else NONE, spoiled=frozenset()) for flow in read]
        key = "channels", self._key(node, module), tuple(plain)
        answer: Probed | None = self._once(key, lambda: _modes(node, module, lambda call: probe(call, plain)))
        return answer

    def keeps_zero(self, node: fx.Node, module: nn.Module | None) -> bool:
        """Whether a call surely acts on each number of one tensor by itself and leaves 0 as it is."""
        if len(node.all_input_nodes) != 1 or "out" in node.kwargs:
            return False
        key = "numbers", self._key(node, module)
        return self._once(key, lambda: bool(_modes(node, module, keeps_each_zero)))

    def loses_filters(self, convolution: nn.Module) -> bool:
        """Whether a convolution's class leaves each filter to itself."""
        if is_torchs(convolution):
            return True
        return self._once(("filters", signature(convolution)), lambda: loses_filters(convolution))

    def of_zeros(self, norm: nn.Module, flow: Flow, each: bool) -> str | None:
        """What a class of one's own makes of zeros, see `on_channels`; ``"known"`` of torch's own."""
        if is_torchs(norm):
            return "known"
        channels = width(flow.origins)
        key = "zeros", signature(norm), channels, flow.spatial, each
        return self._once(key, lambda: on_channels(norm, channels, flow.spatial, each))

    def _once(self, key: Any, ask: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = ask()
        answer: T = self._known[key]
        return answer

    def _key(self, node: fx.Node, module: nn.Module | None) -> Any:
        places = {source: f"#{place}" for place, source in enumerate(node.all_input_nodes)}
        arguments = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: places[source])
        return node.op, node.target if module is None else signature(module), repr(arguments)


def _modes(node: fx.Node, module: nn.Module | None, ask: Callable[[Function], Any]) -> Any:
    """The answer for a function; for a module that of a copy with noise for parameters, the same in both modes."""
    if module is None:
        return ask(as_function(node, node.target))
    if tampered(module) is not None:
        return None
    try:
        with unseen():
            twins = [twin(module, mode) for mode in (False, True)]
    except Exception:  # it cannot be copied
        return None
    one, other = (ask(as_function(node, twin)) for twin in twins)
    if one == other or one is None or other is None:
        return one if other is not None else None
    if not isinstance(one, Probed) or "lost" in (one.zeros, other.zeros) or {one.kind, other.kind} - {"apart", "all"}:
        return None
    return Probed("all", "kept" if "kept" in (one.zeros, other.zeros) else "moved")


def as_function(node: fx.Node, target: Any) -> Function:
    """A call as a function of the tensors that it reads."""
    places = {source: place for place, source in enumerate(node.all_input_nodes)}

    def call(tensors: Sequence[Tensor]) -> Any:
        def given(source: fx.Node) -> Any:
            return tensors[places[source]]

        args: Any = fx.node.map_arg(node.args, given)
        kwargs: Any = fx.node.map_arg(node.kwargs, given)
        return getattr(args[0], target)(*args[1:], **kwargs) if isinstance(target, str) else target(*args, **kwargs)

    return call
