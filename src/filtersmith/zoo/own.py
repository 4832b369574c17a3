"""Networks of a user's own: what a function or class of a Python file or module makes.

``net.py:make``, ``package.module:function`` or ``net.py:Net(width=2)``. A parameter with a name in ``FITTED`` is
given what the data need, unless it stands in the brackets; everything else is the function's own affair.
"""

from __future__ import annotations

import ast
import inspect
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from filtersmith.common.options import first_line, unknown_name
from filtersmith.common.words import plural
from filtersmith.zoo import importing
from filtersmith.zoo.external import fit_stem
from filtersmith.zoo.info import Task

FITTED: Mapping[str, tuple[str, ...]] = {
    "num_classes": ("num_classes", "n_classes", "classes"),
    "in_channels": ("in_channels", "in_chans"),
    "image_size": ("image_size", "img_size"),
    "small_images": ("small_images",),
}
"""What is asked of a network -> parameters of a function that take it."""

# What was given once: a network that is given again has been trained in the meantime.
_given: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def build(match: re.Match[str], task: Task) -> nn.Module:
    """``PLACE:FUNCTION(OPTIONS)``; ``ValueError`` in one line for all that makes no network."""
    place, name, text = match["place"], match["function"], match["options"]
    with importing.imported(place) as module:
        if name is None:
            raise ValueError(f"{place} needs the function that makes its network, {_examples(place, module)}")
        make = _function(place, module, name)
        spec = f"{place}:{name}"
        given, options = _read(spec, text or "")
        fitted = _fitted(spec, make, given, options, task)
        seed = torch.initial_seed()
        try:
            network = make(*given, **fitted)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{spec} raises {importing.raised(error, module.__file__)}") from error
    if torch.initial_seed() != seed:  # set by the function: what is drawn from here on is the run's own again
        torch.manual_seed(seed)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{spec} must give a network (torch.nn.Module), got {_kind(network)}")
    _refuse_again(spec, network)
    if task.small_images and "small_images" not in fitted:
        fit_stem(network)
    _materialise(spec, network, task)
    return network.train()


def _function(place: str, module: ModuleType, name: str) -> Callable[..., Any]:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise unknown_name(f"function of {place}", name, _functions(module))
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        raise ValueError(
            f"{place}:{name} is a network, and every run draws its own: a function that makes it is needed"
        )
    if not callable(found):
        raise ValueError(f"{place}:{name} must be a function that makes a network, got {_kind(found)}")
    return found  # type: ignore[no-any-return]


def _functions(module: ModuleType) -> list[str]:
    """What may make a network: the functions and networks' classes of a module, first those that are not imported."""
    found = {
        name: getattr(value, "__module__", None) == module.__name__
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module)))
    }
    return sorted(found, key=lambda name: not found[name])


def _examples(place: str, module: ModuleType) -> str:
    return " or ".join(f"{place}:{name}" for name in _functions(module)[:2]) or f"{place}:make"


def _read(spec: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    """What stands in brackets, as methods have it: Python literals, words without quotes."""
    wrong = ValueError(f"{spec}{text} must be written as {spec}(option=value, ...) with numbers, words and lists")
    try:
        call = ast.parse(f"f{text or '()'}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise wrong

    def value(node: ast.expr) -> Any:
        try:
            return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
        except (ValueError, TypeError):
            raise wrong from None

    names = [argument.arg for argument in call.keywords]
    if None in names or len(set(names)) < len(names):
        raise wrong
    return [value(node) for node in call.args], {str(one.arg): value(one.value) for one in call.keywords}


def _fitted(
    spec: str, make: Callable[..., Any], given: list[Any], options: dict[str, Any], task: Task
) -> dict[str, Any]:
    """The options, and what the function takes of the task; ``ValueError`` where it cannot be called so."""
    try:
        takes = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of a function that says nothing about itself
        return options
    kinds = {p.kind for p in takes}
    anything = inspect.Parameter.VAR_KEYWORD in kinds
    places = [p.name for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if unknown := [name for name in options if name not in names and not anything]:
        raise unknown_name(f"option of {spec}", unknown[0], names)
    if len(given) > len(places) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise ValueError(f"{spec} takes {plural(len(places), 'value')} ({', '.join(names)}), got {len(given)}")
    if twice := [name for name in places[: len(given)] if name in options]:
        raise ValueError(f"{spec}: {twice[0]} is given twice")
    taken = {*places[: len(given)], *options}
    offered = {name: value for name, value in _offered(names, anything, task) if name not in taken}
    needed = [p.name for p in takes if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing := [name for name in needed if name not in {*taken, *offered}]:
        shown = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(f"{spec} needs {' and '.join(missing)}: write {spec}({shown})")
    return {**offered, **options}


def _offered(names: list[str], anything: bool, task: Task) -> Iterator[tuple[str, Any]]:
    """What a function may be given of the task, by its own names."""
    for asked, aliases in FITTED.items():
        found = [name for name in aliases if name in names]
        if asked == "num_classes" and not found and anything:  # as functions of torchvision and timm have it
            found = [asked]
        yield from ((name, getattr(task, asked)) for name in found)


def _refuse_again(spec: str, network: nn.Module) -> None:
    """``ValueError`` where layers with tensors were given before: a run would begin with what another has trained."""
    own = {name: module for name, module in network.named_modules() if next(_tensors(module), None) is not None}
    again = [name for name, module in own.items() if module in _given]
    if again:
        what = f"the layer {again[0]!r}" if again[0] else "the same network"
        raise ValueError(f"{spec} gives {what} again, and every run draws its own: make it within the function")
    _given.update(own.values())


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _materialise(spec: str, network: nn.Module, task: Task) -> None:
    """Let lazy layers see an image, so that they have their weights before anybody looks at them."""
    if not any(is_lazy(parameter) for parameter in network.parameters()):
        return
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, task.in_channels, task.image_size, task.image_size))
    except Exception as error:
        size = task.image_size
        raise ValueError(f"{spec} cannot take images of {size}x{size} ({first_line(error)})") from error


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
