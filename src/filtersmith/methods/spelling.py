"""Methods as text: ``kflo(width=4)+wau(rate=0.3)``, read and written."""

from __future__ import annotations

import ast
import inspect
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from filtersmith.common.options import bad_option, unknown_name
from filtersmith.methods import BASELINE, METHODS, Method
from filtersmith.methods.lifecycle import option_defaults

_ALLOWED = "a name or name(option=value, ...), several joined by +"


@dataclass(frozen=True)
class Spelled:
    """One method with the options that were given, in the order of its signature.

    >>> str(Spelled("wau", {"rate": 0.3}))
    'wau(rate=0.3)'
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> Method:
        return METHODS[self.name]

    def __str__(self) -> str:
        options = ",".join(assigned(name, value) for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


def read(text: str) -> tuple[Spelled, ...]:
    """The methods of a text, in its order; none for ``baseline``.

    ``name`` or ``name(option=value, ...)``, joined by ``+``; one value without a name is the first option's. Values
    are Python literals; words need no quotes.

    Raises:
        ValueError: anything else, an unknown name or option, ``baseline`` with something else. One line.
    """
    if not isinstance(text, str):
        raise bad_option("method", text, "a text such as 'kflo(width=4)+wau(0.5)'")
    found = [_read_one(part) for part in split_outside_brackets(text, "+")]
    if len(found) > 1 and any(one.name == BASELINE for one in found):
        raise bad_option("method", text, f"{BASELINE!r} alone, which is plain training, or other methods without it")
    return tuple(one for one in found if one.name != BASELINE)


def split_outside_brackets(text: str, separator: str) -> list[str]:
    """Split a text at a character, except where that stands in brackets.

    >>> split_outside_brackets("wau(layers=['a,b']),asa", ",")
    ["wau(layers=['a,b'])", 'asa']
    """
    parts, depth = [""], 0
    for character in text:
        depth = max(0, depth + (character in "([") - (character in ")]"))
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def write(spelled: Sequence[Spelled]) -> str:
    """The inverse of `read`."""
    return "+".join(map(str, spelled)) or BASELINE


def of_object(made: Any) -> Spelled:
    """The spelling of a method's object that was made without a network, such as ``fs.KFLO(width=4)``.

    Options at their defaults are left out. ``ValueError`` where it is none.
    """
    for record in METHODS.values():
        if inspect.isclass(record.cls) and type(made) is record.cls:
            defaults = option_defaults(record.cls)
            if all(hasattr(made, option) for option in defaults):
                options = {option: getattr(made, option) for option in defaults}
                return Spelled(record.name, {o: v for o, v in options.items() if v != defaults[o]})
    shown = f"the class {made.__name__}" if inspect.isclass(made) else type(made).__name__
    raise ValueError(
        f"a method must be a text, or an object that is made without a network such as fs.KFLO(width=4), got {shown}"
    )


def option_names(name: str) -> list[str]:
    """The options that a method takes in a text; none for the baseline."""
    return [] if name == BASELINE else list(option_defaults(METHODS[name].cls))


def assigned(option: str, value: Any) -> str:
    """An option with its value, as `read` takes it.

    >>> assigned("rates", (0.5, 1)), assigned("unit", "input-channel")
    ('rates=[0.5,1]', 'unit=input-channel')
    """
    return f"{option}={_shown(value)}"


def same(one: Sequence[Spelled], other: Sequence[Spelled]) -> bool:
    """Whether two spellings mean the same training, an option at its default being one left out."""
    left, right = ([(part.name, _complete(part)) for part in parts] for parts in (one, other))
    return sorted(left, key=str) == sorted(right, key=str)


def _complete(part: Spelled) -> dict[str, Any]:
    defaults = option_defaults(part.record.cls)
    return {name: _plain(part.options.get(name, default)) for name, default in defaults.items()}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read_one(text: str) -> Spelled:
    match = re.fullmatch(r"\s*([A-Za-z][\w-]*)\s*(?:\((.*)\))?\s*", text, flags=re.DOTALL)
    if not match:
        raise bad_option("method", text, _ALLOWED)
    name, arguments = match.groups()
    if name != BASELINE and name not in METHODS:
        if name in METHODS.broken:
            raise ValueError(f"method {name!r} cannot be loaded: {METHODS.broken[name]}")
        raise unknown_name("method", name, [BASELINE, *METHODS])
    names = option_names(name)
    call = _as_call(arguments or "", text)
    if len(call.args) > len(names):
        raise bad_option("method", text, f"{name} with options among {', '.join(names) or 'none'}")
    given = [(names[place], node) for place, node in enumerate(call.args)]
    given += [(argument.arg or "**", argument.value) for argument in call.keywords]
    options: dict[str, Any] = {}
    for option, node in given:
        if option not in names:
            raise unknown_name(f"option of {name}", option, names)
        if option in options:
            raise ValueError(f"{text}: {option} is given twice")
        options[option] = _value(node, text)
    # In the order of the signature: one method has one spelling, and with it one folder.
    return Spelled(name, {option: options[option] for option in names if option in options})


def _as_call(arguments: str, text: str) -> ast.Call:
    """What stands in brackets, as the arguments of a call."""
    # Hyphenated words (input-channel) would parse as a subtraction.
    quoted = re.sub(r"(?<=[=(,\[])\s*([A-Za-z]\w*(?:-\w+)+)\s*(?=[,)\]]|$)", r"'\1'", f"({arguments})")
    try:
        call = ast.parse(f"f{quoted}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a null byte, thousands of signs or brackets
        raise bad_option("method", text, _ALLOWED) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise bad_option("method", text, _ALLOWED)
    return call


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, text) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise bad_option("method", text, "written with numbers, words and lists as values") from None


def _shown(value: Any) -> str:
    if isinstance(value, str):  # quotes only where `read` needs them: 'features.0'
        plain = value.isascii() and re.fullmatch(r"[A-Za-z]\w*(-\w+)*", value) and not keyword.iskeyword(value)
        return value if plain else repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_shown, value))}]"
    value = value.item() if hasattr(value, "item") else value  # numpy's numbers as Python's
    literal = value is None or isinstance(value, (int, float, complex, bytes, dict, set))
    return repr(value) if literal else f"<{type(_bare(value)).__name__}>"  # an object, such as a teacher


def _bare(value: Any) -> Any:
    """A network without its wrappers: compiled or not, it is the same one."""
    if not callable(getattr(value, "named_modules", None)):
        return value
    from filtersmith.common.modules import unwrap  # needs torch, as the network does

    return unwrap(value)
