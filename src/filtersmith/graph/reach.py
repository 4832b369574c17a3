"""What code that torch.fx cannot trace may reach of a network: which modules it surely calls as a whole."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal

from torch import Tensor, nn

from filtersmith.graph.names import Names, names_of

_RUN_UNNAMED = ("forward", "__call__", "__getattr__", "__getattribute__", "__getitem__", "__iter__", "__len__")
_CALL_ONLY = {"timm.models._manipulate.checkpoint_seq"}
"""Functions that do no more with a container than to call what is in it."""
_COMPUTES = ("models", "modeling_layers", "activations", "pytorch_utils")
"""Parts of transformers with modules that compute."""
_OF_TENSORS = "torchvision.ops."
"""Where functions are given tensors, and no modules."""
_PLAIN = (int, float, str, bytes, bool, complex, type(None), list, tuple, set, dict, type, ModuleType, Tensor)


class Reach:
    """The names in all code of a network that may run when it is called.

    That is every ``forward``, every hook, and every function and method that these name. Code gets hold of a module
    by its name, in a loop over a container, or by asking for all children; what does not happen in any code of the
    network does not happen to its modules.
    """

    def __init__(self, network: nn.Module) -> None:
        self._own: dict[type, Names] = defaultdict(Names)
        self._all = Names()
        self._exposed: set[int] = set()
        self._opened: set[int] = set()  # containers that code loops over, or takes something out of
        self._held: dict[int, set[int]] = defaultdict(set)
        modules = list(network.modules())
        self._slots = Counter(id(child) for module in modules for child in module._modules.values())
        for module in modules:
            for held in held_by(module):
                self._held[held].add(id(module))
        _Collection(modules, self._own, self._all, self._held).run()
        if self._held[id(network)]:
            self._opened.add(id(network))

    def calls(self, parent: nn.Module, name: str, child: nn.Module) -> Literal["alone", "somehow"] | None:
        """How code that cannot be traced calls a child; ``None``: perhaps not as a whole.

        ``"alone"``: with one argument, whose name does not matter; ``"somehow"``: perhaps with more.
        """
        escaped = self._escapes(parent, name, child)
        if self._is_exposed(parent, child, escaped):
            self._exposed.add(id(child))
            return None
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)) or (escaped and hasattr(type(child), "__getitem__")):
            self._opened.add(id(child))
            return None
        if self._looked_into(child) or self._is_elsewhere(child):
            return None
        return "somehow" if escaped or name in self._all.with_more else "alone"

    def code_of(self, module: nn.Module) -> set[str]:
        """The names in the code of a module's own class that may run when it is called; torch's classes have none."""
        return {name for names in self._names(module) for name in names.all}

    def _names(self, module: nn.Module) -> list[Names]:
        return [self._own[cls] for cls in type(module).__mro__ if cls in self._own]

    def _escapes(self, parent: nn.Module, name: str, child: nn.Module) -> bool:
        """Whether code may get hold of a child, and not only call it."""
        if id(parent) in self._opened or self._held[id(child)]:
            return True
        return name in self._all.foreign or any(name in each.own or each.children for each in self._names(parent))

    def _is_exposed(self, parent: nn.Module, child: nn.Module, escaped: bool) -> bool:
        """Whether code may get at all that is inside of a child without naming it."""
        if self._all.everything or id(parent) in self._exposed:
            return True
        of_parent = self._names(parent)
        handed_on = escaped or bool(self._held[id(parent)]) or any(each.itself for each in of_parent)
        return any(each.below for each in of_parent) or (self._all.below_others and handed_on)

    def _looked_into(self, child: nn.Module) -> bool:
        """Whether code that is not the child's own names something inside of it."""
        inside = {*child._modules, *child._parameters, *child._buffers, *vars(child)} - _OF_EVERY_MODULE
        for cls in type(child).__mro__:
            if not _of_torch(cls):
                inside |= {each for each in vars(cls) if not each.startswith("__")} - {"forward"}
        return bool(inside & (self._all.foreign | self._all.foreign_called))

    def _is_elsewhere(self, child: nn.Module) -> bool:
        """Whether something inside of the child is also a child of, or held by, something outside."""
        within = list(child.modules())
        ids = {id(module) for module in within}
        slots = Counter(id(each) for module in within for each in module._modules.values())
        inner = ids - {id(child)}
        return any(slots[each] < self._slots[each] for each in inner) or any(self._held[each] - ids for each in inner)


_OF_EVERY_MODULE = {*vars(nn.Module()), "__class__"}


class _Collection:
    """Reads functions, and those that they name, until there are no more."""

    def __init__(
        self, modules: list[nn.Module], own: dict[type, Names], every: Names, held: dict[int, set[int]]
    ) -> None:
        self._own, self._every, self._held = own, every, held
        self._modules = modules
        self._methods: dict[str, list[tuple[type, Any]]] = defaultdict(list)
        self._left: list[tuple[Any, type | None]] = []
        self._seen: set[Any] = set()
        self._named: set[str] = set()

    def run(self) -> None:
        for cls in dict.fromkeys(type(module) for module in self._modules):
            self._add_class(cls)
        for module in self._modules:
            for value in vars(module).values():
                self._add_value(value)
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for hook in hooks.values():
                    self._add_value(hook)
        while self._left:
            self._read(*self._left.pop())

    def _add_class(self, cls: type) -> None:
        for each in cls.__mro__:
            if each in self._seen or _of_torch(each):
                continue
            self._seen.add(each)
            for name, value in vars(each).items():
                for function in _functions_of(value):
                    self._methods[name].append((each, function))
                    if name in _RUN_UNNAMED or name in self._named:
                        self._left.append((function, each))

    def _add_value(self, value: Any) -> None:
        """A function, or an object whose methods may be called."""
        if isinstance(value, (nn.Module, *_PLAIN)):
            if isinstance(value, nn.Module):
                return
            if isinstance(value, (list, tuple)):
                for each in value[:100]:
                    if not isinstance(each, (nn.Module, *_PLAIN)):
                        self._add_value(each)
            return
        functions = list(_functions_of(value))
        self._left += [(function, None) for function in functions]
        if not functions:
            self._add_class(type(value))

    def _read(self, function: FunctionType, cls: type | None) -> None:
        name = f"{function.__module__}.{function.__qualname__}"
        if function.__code__ in self._seen or name in _CALL_ONLY or _is_torch(function.__module__):
            return
        if cls is None and name.startswith(_OF_TENSORS):
            return
        self._seen.add(function.__code__)
        names = names_of(function.__code__, cls is not None and issubclass(cls, nn.Module))
        if cls is not None:
            _join(self._own[cls], names)
        _join(self._every, names)
        for name in names.all - self._named:
            self._named.add(name)
            self._left += [(method, owner) for owner, method in self._methods[name]]
        outside = [cell for cell in function.__closure__ or ()]
        values = [value for cell in outside for value in _content(cell)]
        values += [function.__globals__[name] for name in names.loose if name in function.__globals__]
        for value in values:
            if isinstance(value, nn.Module):
                self._held[id(value)].add(0)  # held by no module
            elif isinstance(value, type):
                if not issubclass(value, (nn.Module, Tensor)):
                    self._add_class(value)
            elif isinstance(value, ModuleType):
                inside = [] if _is_torch(value.__name__) else [vars(value).get(name) for name in names.all]
                self._left += [(one, None) for one in inside if isinstance(one, FunctionType)]
            elif isinstance(value, (FunctionType, MethodType, functools.partial)):
                self._add_value(value)


def held_by(module: nn.Module) -> set[int]:
    """The modules, by id, that a module keeps in a plain list, tuple or dictionary, or as a plain attribute."""
    found: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if isinstance(value, nn.Module):
            found.add(id(value))
        elif isinstance(value, (list, tuple, set)) and depth:
            for item in value:
                look(item, depth - 1)
        elif isinstance(value, dict) and depth:
            look(list(value.values()), depth)

    for name, value in vars(module).items():
        if name != "_modules":
            look(value, 3)
    return found


def _functions_of(value: Any) -> Iterator[FunctionType]:
    """The functions that a method, property, decorated or partial function is made of."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, property):
        yield from (each for each in (value.fget, value.fset) if isinstance(each, FunctionType))
    elif isinstance(value, functools.partial):
        yield from _functions_of(value.func)
    elif isinstance(value, (staticmethod, classmethod, MethodType)):
        yield from _functions_of(value.__func__)
    elif isinstance(value, functools.cached_property):
        yield from _functions_of(value.func)


def _content(cell: Any) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # empty
        return []


def _join(into: Names, names: Names) -> None:
    for kind in ("own", "called", "foreign", "foreign_called", "with_more", "loose"):
        getattr(into, kind).update(getattr(names, kind))
    for flag in ("itself", "children", "below", "below_others", "everything"):
        setattr(into, flag, getattr(into, flag) or getattr(names, flag))


def _of_torch(cls: type) -> bool:
    """Whether a class is torch's, or one of transformers that loads, saves and generates, not one that computes."""
    package, _, rest = cls.__module__.partition(".")
    around = package == "transformers" and rest.partition(".")[0] not in _COMPUTES
    return around or _is_torch(cls.__module__)


def _is_torch(module: str | None) -> bool:
    return (module or "").partition(".")[0] in (
        "torch",
        "builtins",
        "typing",
        "collections",
        "abc",
        "numpy",
        "math",
        "functools",
        "filtersmith",
    )
