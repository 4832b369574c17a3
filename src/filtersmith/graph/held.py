"""What a network keeps of its modules besides its tree of children: there, a module's replacement is not seen."""

from __future__ import annotations

import dis
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

Holder = Literal["attribute", "code"]
_DEPTH = 4
_TORCHS = ("torch", "builtins", "numpy")


@dataclass(frozen=True)
class Held:
    """Modules, by id, that are kept elsewhere.

    Attributes:
        attributes: by a plain list, tuple, dictionary or attribute, which a deep copy of the network copies, too.
        code: by a function (a closure, a default argument, a global name that it reads), which a deep copy shares.
    """

    attributes: AbstractSet[int]
    code: AbstractSet[int]

    def __contains__(self, module: object) -> bool:
        return id(module) in self.attributes or id(module) in self.code


def held_elsewhere(network: nn.Module) -> Held:
    """What is kept of the modules of a network besides their places among its children, where that can be seen."""
    found: dict[Holder, set[int]] = {"attribute": set(), "code": set()}
    seen: set[tuple[int, Holder]] = set()
    for module in network.modules():
        for name, value in vars(module).items():
            if name != "_modules":
                _look(value, "attribute", _DEPTH, found, seen)
        for cls in type(module).__mro__:
            if not _of_torch(cls.__module__):
                _look(list(vars(cls).values()), "code", _DEPTH, found, seen)
    return Held(frozenset(found["attribute"]), frozenset(found["code"]))


def named(code: Any) -> set[str]:
    """The names in the code of a function, and in those functions of the user's that it calls by a global name."""
    return {name for each in _functions(code, _DEPTH) for name in _names(each)}


def _look(
    value: Any, holder: Holder, depth: int, found: dict[Holder, set[int]], seen: set[tuple[int, Holder]]
) -> None:
    if isinstance(value, nn.Module):
        found[holder].add(id(value))
    elif depth and not isinstance(value, (Tensor, type, types.ModuleType, str, int, float)):
        if (id(value), holder) in seen:
            return
        seen.add((id(value), holder))
        for kind, item in _inside(value):
            _look(item, "code" if kind == "code" else holder, depth - 1, found, seen)


def _inside(value: Any) -> Iterator[tuple[Holder, Any]]:
    """What a value refers to."""
    if isinstance(value, Mapping):
        yield from (("attribute", item) for item in value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from (("attribute", item) for item in value)
    elif isinstance(value, partial):
        yield from (("attribute", item) for item in (value.func, value.args, value.keywords))
    elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        yield "attribute", value.__self__
        yield "attribute", getattr(value, "__func__", None)
    elif isinstance(value, (classmethod, staticmethod, property)):
        functions = (value.fget, value.fset) if isinstance(value, property) else (value.__func__,)
        yield from (("attribute", function) for function in functions)
    elif isinstance(value, types.FunctionType):
        if not _of_torch(value.__module__):
            yield from (("code", item) for item in _references(value))
    elif isinstance(value, weakref.ref):
        yield "attribute", value()
    elif not _of_torch(type(value).__module__):
        yield from (("attribute", item) for item in getattr(value, "__dict__", {}).values())


def _references(function: types.FunctionType) -> Iterator[Any]:
    """What a function has in its closure, its defaults, and the global names that it reads, with modules in them."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield function.__defaults__
    yield function.__kwdefaults__
    for name in _globals_of(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, (nn.Module, list, tuple, dict)):
            yield value


def _functions(code: Any, depth: int) -> Iterator[types.FunctionType]:
    """The functions behind something that can be called, and those of the user's that these call by global names."""
    if isinstance(code, partial):
        yield from _functions(code.func, depth)
    elif isinstance(code, types.MethodType):
        yield from _functions(code.__func__, depth)
    elif isinstance(code, types.FunctionType):
        yield code
        if depth:
            for reference in (*_references(code), *(code.__globals__.get(name) for name in _names(code))):
                if isinstance(reference, types.FunctionType) and not _of_torch(reference.__module__):
                    yield from _functions(reference, depth - 1)
    elif not isinstance(code, type) and callable(code):
        for cls in type(code).__mro__:
            if isinstance(call := vars(cls).get("__call__"), types.FunctionType):
                yield from _functions(call, depth)


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """The global names that code reads; names of attributes are no such."""
    yield from {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def _names(function: types.FunctionType) -> set[str]:
    return set(_of_code([function.__code__]))


def _of_code(left: Iterable[types.CodeType]) -> Iterator[str]:
    for code in left:
        yield from code.co_names
        yield from (constant for constant in code.co_consts if isinstance(constant, str))  # getattr(m, "weight")
        yield from _of_code([constant for constant in code.co_consts if isinstance(constant, types.CodeType)])


def _of_torch(module: Any) -> bool:
    return str(module).partition(".")[0] in _TORCHS
