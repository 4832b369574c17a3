"""Pages of the public names: what they take, give and refuse, from their docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import filtersmith as fs
from filtersmith import integrations
from filtersmith.methods import METHODS
from filtersmith_site.returned import classes_met
from filtersmith_site.written import contents, heading, page, table


def pages() -> dict[str, str]:
    """File below docs/generated -> its text."""
    names = modules()
    told = [_first(fs), *(_first(importlib.import_module(name)) for name in names), RETURNED]
    linked = ["filtersmith", *names, "returned"]
    index = page(
        heading("Public names", "="),
        "What can be imported, each with its example, its arguments, its errors and its source; and a "
        ":ref:`list of all names <genindex>`.",
        table(
            ["Module", "What it has"], [[f":doc:`{name}`", words] for name, words in zip(linked, told, strict=True)]
        ),
        contents(linked),
    )
    made = {f"api/{name}.rst": module_page(name) for name in names}
    return {"api/index.rst": index, "api/filtersmith.rst": top_page(), **made, "api/returned.rst": returned_page()}


def modules() -> list[str]:
    """The public modules below ``filtersmith``, each with a page of its own."""
    trainers = [f"filtersmith.integrations.{module.name}" for module in pkgutil.iter_modules(integrations.__path__)]
    return ["filtersmith.measure", "filtersmith.zoo", *trainers, "filtersmith.lab.exported"]


def returned_page() -> str:
    """Classes that have no public name of their own."""
    values = [getattr(fs, name) for name in top_names()]
    for module in map(importlib.import_module, modules()):
        values += [getattr(module, name) for name in public_names(module)]
    shown = [documented(cls.__module__, cls.__name__, cls) for cls in classes_met(values)]
    return page(heading("What calls return", "="), RETURNED, *shown)


def top_names() -> list[str]:
    """Public classes and functions of ``filtersmith`` itself."""
    return sorted(set(fs.__all__) - {"__version__", "measure", "METHODS"}, key=str.lower)


def top_page() -> str:
    """Of ``filtersmith`` itself. Classes of methods stand on the pages of the methods."""
    names = top_names()
    of_methods = {id(record.cls) for record in METHODS.values()}
    here = [name for name in names if id(getattr(fs, name)) not in of_methods]
    rows = [[f":py:obj:`{name} <filtersmith.{name}>`", _first(getattr(fs, name))] for name in names]
    rows += [
        [
            ":py:obj:`METHODS <filtersmith.METHODS>`",
            "Name of each method: its :py:obj:`Method <filtersmith.Method>`.",
        ],
        [":doc:`measure <filtersmith.measure>`", _first(fs.measure)],
        ["``__version__``", "The version, as text."],
    ]
    methods = [".. py:data:: METHODS", "   :type: Mapping[str, Method]", "", f"   {_METHODS}"]
    return page(
        heading("filtersmith", "="),
        ".. py:module:: filtersmith",
        inspect.cleandoc(fs.__doc__ or ""),
        table(["Name", "What it is"], rows),
        *(documented("filtersmith", name, getattr(fs, name)) for name in here),
        "\n".join(methods),
    )


RETURNED = "Classes that public calls return or take, and that are not made by hand."
_METHODS = "Name -> record of every method: ours first, then those that installed packages register."


def module_page(name: str) -> str:
    """What a module says of itself, and its public names."""
    module = importlib.import_module(name)
    return page(
        heading(name, "="),
        f".. py:module:: {name}",
        inspect.cleandoc(module.__doc__ or ""),
        *(documented(name, public, getattr(module, public)) for public in public_names(module)),
    )


def public_names(module: ModuleType) -> Iterable[str]:
    """``__all__``, or the classes and functions that are made in the module."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", [name for name in own if not name.startswith("_")])


def documented(module: str, name: str, value: Any) -> str:
    """The directive for a class, a function or another object."""
    begin = f".. currentmodule:: {module}\n\n"
    if inspect.isclass(value):
        return f"{begin}.. autoclass:: {module}.{name}\n   :members:"
    if inspect.isroutine(value):
        return f"{begin}.. autofunction:: {module}.{name}"
    return f"{begin}.. py:data:: {name}\n   :type: {type(value).__name__}"


def _first(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]
