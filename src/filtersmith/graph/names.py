"""The names by which a function's code gets at attributes, read off its source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

_CHILDREN = {"children", "named_children", "_modules", "__getattr__"}
_EVERYTHING = {"modules", "named_modules", "get_submodule", "get_parameter", "named_parameters", "parameters"}
_EVERYTHING |= {"state_dict", "buffers", "named_buffers", "_parameters", "_buffers", "__dict__"}
_LOOKING_AROUND = {"vars", "eval", "exec", "globals", "locals", "attrgetter", "methodcaller"}


@dataclass
class Names:
    """What a function's code names. ``self.body(x)`` calls; ``self.body[0]``, ``f(self.body)`` get hold of it.

    Attributes:
        own: attributes of its first argument, ``self``, that it gets hold of.
        called: attributes of ``self`` that it calls.
        foreign: attributes of anything else that it gets hold of.
        foreign_called: and those that it calls.
        with_more: attributes that it calls with something else than one argument.
        loose: plain names, which may be global.
        children: whether it gets at the children of ``self`` without naming them.
        everything: whether it may get at any module without naming it.
    """

    own: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    foreign_called: set[str] = field(default_factory=set)
    with_more: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    children: bool = False
    everything: bool = False

    @property
    def all(self) -> set[str]:
        return self.own | self.called | self.foreign | self.foreign_called | self.loose


def names_of(code: CodeType, method: bool) -> Names:
    """What the code of a function names; of a method its first argument is ``self``.

    Without a source that fits, every name that stands in the code is taken for one that it gets hold of.
    """
    names = set(_names_in(code))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError):  # a lambda within a call, a console
        tree = None
    if tree is not None:
        reader = _Reader(_self_of(code, tree) if method else None)
        reader.visit(tree)
        if names <= reader.found.all | reader.imported:
            return reader.found
    found = Names(foreign=names, with_more=names, loose=set(names))
    found.everything = bool(names & (_CHILDREN | _EVERYTHING | _LOOKING_AROUND | {"getattr"}))
    return found


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _self_of(code: CodeType, tree: ast.AST) -> str | None:
    """The name of the first argument, if it means the same in all of the code."""
    first = code.co_varnames[0] if code.co_argcount else None
    arguments = [node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)]
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    return first if arguments.count(first or "") == 1 and first not in stored else None


class _Reader(ast.NodeVisitor):
    """Collects what a source names."""

    def __init__(self, own: str | None) -> None:
        self.found = Names()
        self.imported: set[str] = set()
        self._own = own

    def visit_Name(self, node: ast.Name) -> None:
        self.found.loose.add(node.id)
        if node.id in _LOOKING_AROUND:
            self.found.everything = True

    def visit_Attribute(self, node: ast.Attribute) -> None:
        (self.found.own if self._is_own(node.value) else self.found.foreign).add(node.attr)
        self._look(node)
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if (module := _measured(node)) is not None:
            self.found.foreign_called.update(("parameters", "buffers"))
            self.found.loose.add("next")
            self.visit(module)
            return
        if isinstance(function, ast.Name) and function.id == "getattr":
            self._getattr(node)
        if not isinstance(function, ast.Attribute):
            self.generic_visit(node)
            return
        (self.found.called if self._is_own(function.value) else self.found.foreign_called).add(function.attr)
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            self.found.with_more.add(function.attr)
        self._look(function)
        self.visit(function.value)
        for argument in (*node.args, *node.keywords):
            self.visit(argument)

    def visit_MatchClass(self, node: Any) -> None:
        self.found.foreign.update(node.kwd_attrs)
        self.found.everything = self.found.everything or bool(node.patterns)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for each in node.names:
            self.imported.update((each.name, *each.name.split(".")))
        self.imported.update((getattr(node, "module", None) or "").split("."))
        self.imported.add(getattr(node, "module", None) or "")

    visit_ImportFrom = visit_Import  # noqa: N815

    def _getattr(self, node: ast.Call) -> None:
        """``getattr(x, "name")``"""
        own = bool(node.args) and self._is_own(node.args[0])
        name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
        if isinstance(name, str):
            (self.found.own if own else self.found.foreign).add(name)
        elif own:
            self.found.children = True
        else:
            self.found.everything = True

    def _look(self, node: ast.Attribute) -> None:
        if node.attr in _EVERYTHING or (node.attr in _CHILDREN and not self._is_own(node.value)):
            self.found.everything = True
        elif node.attr in _CHILDREN:
            self.found.children = True

    def _is_own(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == self._own


def _measured(node: ast.Call) -> ast.AST | None:
    """``x`` of ``next(x.parameters())``, which asks for the type or the device of the weights."""
    asked = ast.unparse(node.func) == "next" and len(node.args) == 1 and node.args[0]
    if not isinstance(asked, ast.Call) or not isinstance(asked.func, ast.Attribute):
        return None
    return asked.func.value if asked.func.attr in ("parameters", "buffers") else None
