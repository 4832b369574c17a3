"""What the classes and functions of a file say of themselves and take, without importing what the file imports."""

from __future__ import annotations

import ast
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

KEPT = ("__init__", "for_training")
"""The functions of a class that say what it takes."""

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def read(module: str) -> ModuleType | None:
    """A module as its docstring and its `skeleton`; ``None`` where there is no source or a default needs more."""
    try:
        spec: ModuleSpec | None = find_spec(module)
        if spec is None or not spec.origin:
            return None
        with open(spec.origin, encoding="utf-8") as file:
            return skeleton(file.read(), module)
    except Exception:  # then it is imported, and what is wrong with it shows there
        return None


def skeleton(source: str, name: str) -> ModuleType:
    """The classes and functions of a source with docstrings, signatures and literals: no code, annotations, imports.

    >>> bare = skeleton("import nowhere\\ndef f(x: nowhere.X, y=1):\\n    'An F.'\\n    return nowhere.y(x)", "here")
    >>> bare.f.__doc__, bare.f.__defaults__, bare.f(0)
    ('An F.', (1,), None)
    """
    tree = ast.parse(source)
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            body.append(_bare_class(node, classes))
        elif isinstance(node, _Function):
            body.append(_bare_function(node))
    module = ModuleType(name, ast.get_docstring(tree))
    bare = ast.fix_missing_locations(ast.Module(body, []))
    exec(compile(bare, name, "exec"), vars(module))
    return module


def _bare_class(node: ast.ClassDef, classes: set[str]) -> ast.ClassDef:
    node.bases = [base for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    node.keywords, node.decorator_list = [], []
    kept = [_bare_function(one) for one in node.body if isinstance(one, _Function) and one.name in KEPT]
    plain = [one for member in node.body if (one := _plain_attribute(member)) is not None]
    node.body = [*_docstring(node), *plain, *kept, ast.Pass()]
    return node


def _plain_attribute(node: ast.stmt) -> ast.stmt | None:
    """An attribute of a class that is written as a literal, without its annotation."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return None
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return None
    return ast.Assign(node.targets if isinstance(node, ast.Assign) else [node.target], node.value)


def _bare_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    node.returns = None
    node.decorator_list = [
        one for one in node.decorator_list if isinstance(one, ast.Name) and one.id == "classmethod"
    ]
    node.body = [*_docstring(node), ast.Pass()]
    return node


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return node.body[:1] if ast.get_docstring(node) is not None else []
