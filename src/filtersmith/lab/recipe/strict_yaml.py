"""YAML in which every value means what it looks like, for recipes, ``config.yaml`` and the values of ``--set``.

YAML 1.1, which PyYAML reads, takes ``010`` for 8, ``1:30`` for 90, ``no`` for False, ``1e-3`` for a text and the last
of two equal keys. Here numbers are decimal (``1e-3`` is one), true and false are the only truth values, and whatever
YAML 1.1 would take for something else is refused, with the way to write it.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

NULL = re.compile("~|null|Null|NULL|")
TRUTH = re.compile("true|True|TRUE|false|False|FALSE")
WHOLE = re.compile("-?(?:0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|-?\.inf|\.nan")

LONGEST = 1_000_000
"""Characters of a document; a recipe has some hundred."""

_TAG = "tag:yaml.org,2002:"
_OURS = {"null": NULL, "bool": TRUTH, "int": WHOLE, "float": NUMBER}


class Refused(yaml.MarkedYAMLError):
    """A document that can be read, but not by everybody in the same way."""


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        name = getattr(event, "anchor", None)
        if name is not None:  # of an alias, too
            raise _refused(event, f"anchors and aliases are not read (&{name}, *{name}): write the value out")
        if getattr(event, "tag", None) is not None:
            raise _refused(event, f"tags are not read ({event.tag}): write the plain value")
        return super().compose_node(parent, index)

    def resolve(self, kind: type[Any], value: Any, implicit: Any) -> Any:
        if kind is not yaml.ScalarNode or not implicit[0]:  # not plain: a text in quotes, a list
            return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return _tag(value)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if node.style is None and node.tag == f"{_TAG}str" and _tag_in_1_1(value) != f"{_TAG}str":
            raise _refused(node, _ambiguous(value))
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or more"
                raise _refused(key, f"names of options must be texts, got {shown}")
            name = self.construct_scalar(key)
            if name in names:
                raise _refused(key, f"{name} is given twice")
            names.add(name)
        return super().construct_mapping(node, deep=True)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that would be read as a number here, or as anything else by YAML 1.1."""

    def resolve(self, kind: type[Any], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and _tag(value) != f"{_TAG}str":
            return _tag(value)
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


_Loader.add_constructor(f"{_TAG}int", lambda loader, node: int(node.value))
_Loader.add_constructor(f"{_TAG}float", lambda loader, node: float(re.sub(r"^(-?)\.(?=[in])", r"\1", node.value)))


def read(text: str) -> Any:
    """What a document says; ``None`` where it is empty. ``ValueError`` in one line that names the line."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, and at most {LONGEST:,} are read")
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except Refused as error:
        raise ValueError(_in_line(error)) from error
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"it is not YAML: {_in_line(error)}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # thousands of digits
        raise ValueError(f"it has a value that cannot be read: {error}") from error


def read_value(text: str) -> Any:
    """What a value on the command line says: a document in which nothing is left out as a comment."""
    if re.search(r"(?:^|\s)#", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
        raise ValueError("what follows a # would be a comment: put the value in quotes")
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(str(error).replace("line 1: ", "")) from error


def write(values: Any) -> str:
    """Values as YAML, in their order, so that `read` gives them back."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _tag(plain: str) -> str:
    """What a plain scalar is here."""
    return next((f"{_TAG}{name}" for name, form in _OURS.items() if form.fullmatch(plain)), f"{_TAG}str")


def _tag_in_1_1(plain: str) -> str:
    for form, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(plain[:1], []):
        if pattern.match(plain):
            return str(form)
    return f"{_TAG}str"


def _ambiguous(value: str) -> str:
    if value == "<<":
        return "merge keys (<<) are not read: write the options out"
    try:
        other = f" (YAML 1.1 reads it as {yaml.safe_load(value)})"
    except (yaml.YAMLError, ValueError):
        other = ""
    return f"{value} is ambiguous{other}: write a decimal number, true or false, or {value!r} in quotes for a text"


def _refused(place: Any, problem: str) -> Refused:
    return Refused(problem=problem, problem_mark=place.start_mark)


def _in_line(error: yaml.MarkedYAMLError) -> str:
    parts = " ".join(filter(None, (error.context, error.problem)))
    where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    return " ".join(f"{where}{parts}".split())
