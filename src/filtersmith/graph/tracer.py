"""A tracer of torch.fx that knows more of what it traces: defaults, lists of chunks, conditions that only check."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import Attribute, TraceError
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.graph.checks import outcome_that_goes_on
from filtersmith.graph.known import Known, length, only_of_input, value

SINGLE_CALLS = ("einops",)
"""Packages whose functions and modules are single calls of the graph: their code asks what a tensor really is."""


class _Proxy(fx.Proxy):
    """A stand-in that has a length where it is known, and a class for ``isinstance``."""

    tracer: Any

    def __len__(self) -> int:
        return int(self.tracer.length(self))

    def __getattr__(self, name: str) -> Attribute:
        return _Attribute(self, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """What ``isinstance`` goes by, in code that is not torch's own."""
        asks = str(sys._getframe(1).f_globals.get("__name__"))
        return type(self) if asks.partition(".")[0] == "torch" else self.tracer.class_of(self)


class _Attribute(_Proxy, Attribute):
    """An attribute of one."""


class Tracer(fx.Tracer):
    """Looks into every module but torch's own, convolutions and batch norms (their subclasses, too), and leaves.

    Args:
        leaves: more classes that are single calls.
        alone: whether the network is called with what it has no defaults for, and nothing else; else any of its
            arguments may be given, and those that are ``None`` by default make two networks of one (``given``).
        given: whether these are given.
    """

    def __init__(self, leaves: tuple[type[nn.Module], ...], alone: bool, given: bool = False) -> None:
        functions = [f for name in SINGLE_CALLS for f in _functions(sys.modules.get(name))]
        super().__init__(autowrap_modules=(math,), autowrap_functions=tuple(functions))
        self._autowrap_search += _holding(functions)
        self._leaves = (_ConvNd, _BatchNorm, *leaves)
        self._alone, self._given = alone, given
        self._known: Known | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        single = type(m).__module__.partition(".")[0] in SINGLE_CALLS or isinstance(m, torch.jit.ScriptModule)
        return single or isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(compiled := getattr(m, "_orig_mod", None), nn.Module):
            return compiled(*args, **kwargs)
        if m not in (self.submodule_paths or {}) and (type(m) is nn.Sequential or not m.state_dict()):
            return forward(*args, **kwargs)  # made by the code itself: a part of a Sequential, or an activation
        return super().call_module(m, forward, args, kwargs)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """A stand-in for each argument that is given, and a function of these."""
        forward: Any = self.root.forward  # the module's own, where it has one
        places, named = self._given_arguments(inspect.signature(forward))

        def call(*values: Any) -> Any:
            return forward(*values[: len(places)], **dict(zip(named, values[len(places) :], strict=True)))

        return call, [self.create_proxy("placeholder", name, (), {}) for name in (*places, *named)]

    def _given_arguments(self, signature: inspect.Signature) -> tuple[list[str], list[str]]:
        """The names of the arguments that are given by place, and by name."""
        places: list[str] = []
        named: list[str] = []
        for name, parameter in signature.parameters.items():
            default = parameter.default
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                if not self._alone:
                    raise TraceError(f"{name} may hold anything")
                places += [name] if parameter.kind is parameter.VAR_POSITIONAL and not places else []
            elif default is parameter.empty or not (self._alone or (default is None and not self._given)):
                by_name = parameter.kind is parameter.KEYWORD_ONLY or len(places) + len(named) < _index(
                    signature, name
                )
                (named if by_name else places).append(name)
        if not places and not named and self._alone:
            places += list(signature.parameters)[:1]
        return places, named

    # --- what is known of a value ------------------------------------------------------------------------

    @property
    def known(self) -> Known:
        if self._known is None:
            self._known = Known(self.root, self._alone)
        return self._known

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def length(self, obj: Any) -> int:
        known = length(obj.node, self.known)
        if known is None:
            raise TraceError(f"the length of {obj.node} is not known")
        return known

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[place] for place in range(self.length(obj))])

    def to_bool(self, obj: Any) -> bool:
        """What is known, or what must be so for the code not to raise.

        Of the images nothing is known: what depends on their size alone is left open, also where one outcome raises.
        """
        known = value(obj.node, self.known)
        if known is not None:
            return bool(known)
        frame: FrameType = sys._getframe(2)
        decided = None if only_of_input(obj.node) else outcome_that_goes_on(frame.f_code, frame.f_lasti)
        return super().to_bool(obj) if decided is None else decided

    def class_of(self, obj: Any) -> type:
        """Of a value; `TraceError` where it may be a tensor or not."""
        if self.known.is_tensor(obj.node):
            return torch.Tensor
        known = value(obj.node, self.known)
        if known is None:
            raise TraceError(f"it is not known what {obj.node} is")
        return torch.Size if isinstance(known, tuple) else type(known)


def _index(signature: inspect.Signature, name: str) -> int:
    return list(signature.parameters).index(name)


def _functions(package: ModuleType | None) -> list[FunctionType]:
    """The public functions of a package, if it is there."""
    return [] if package is None else [f for f in vars(package).values() if isinstance(f, FunctionType)]


def _holding(functions: list[FunctionType]) -> list[ModuleType]:
    """The modules of the process that know one of these functions by a name."""
    if not functions:
        return []
    ids = {id(f) for f in functions}
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    return [module for module in modules if any(id(v) in ids for v in list(vars(module).values()))]


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Modules and functions that were compiled run as plain code: compiled, they refuse stand-ins for tensors."""
    compiled = [m for m in network.modules() if vars(m).get("_compiled_call_impl") is not None]
    calls = [m._compiled_call_impl for m in compiled]
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            patch: Any = torch._dynamo.config.patch
            stack.enter_context(patch(error_on_nested_fx_trace=False))
        try:
            for module in compiled:
                module._compiled_call_impl = None
            yield
        finally:
            for module, call in zip(compiled, calls, strict=True):
                module._compiled_call_impl = call
