"""What `filtersmith describe` prints: what a method is, its card, its options, a command that tries it; as text.

It is read from the source of the method's file, so that nothing waits for torch; where that is not enough, the file
is imported.
"""

from __future__ import annotations

import inspect
import re
import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from filtersmith.common import skeleton
from filtersmith.common.options import unknown_name
from filtersmith.methods import BASELINE, METHODS, Method
from filtersmith.methods.lifecycle import of_class, option_defaults
from filtersmith.methods.spelling import Spelled, assigned

PLAIN = "plain training with the recipe's optimizer; what every method is compared with."
TO_BE_GIVEN = inspect.Parameter.empty
_HEADING = re.compile(r"\*\*(.+?)\.\*\*\s*")
_CODE = re.compile(r"``(.+?)``", re.DOTALL)
_MARKED = re.compile(r"(?<![\w*`])(\*|`)(?![\s*`])([^*`]+?)(?<!\s)\1(?![\w*`])")


def describe(name: str, width: int) -> str:
    """A method in text of so many columns; ``ValueError`` for an unknown name."""
    if name == BASELINE:
        return card("\n\n".join([f"{BASELINE}: {PLAIN}", *_on_command_line(BASELINE, {})]), width)
    if name not in METHODS:
        raise unknown_name("method", name, [BASELINE, *METHODS])
    record = METHODS[name]
    cls, own_card = _read(record)
    parts = [
        *(f"{name}: {record.summary}.", _own_words(cls, record), f"Source: {record.paper}.", *_shared(record)),
        own_card,
        *_on_command_line(f"{BASELINE},{_example(record, cls)}", option_defaults(cls)),
    ]
    return card("\n\n".join(parts), width)


def _read(record: Method) -> tuple[Any, str]:
    """The class of a method, or one that says and takes the same, and the card of its file."""
    module, _, name = (record.home or "").partition(":")
    read = skeleton.read(module) if name else None
    if read is None or not hasattr(read, name):
        return record.cls, record.card
    return getattr(read, name), read.__doc__ or ""


def card(text: str, width: int) -> str:
    """A docstring's markup as text: headings in capitals, paragraphs and lists wrapped, code and tables as they are.

    >>> print(card("**Options.** ``rate`` of `WAU`; *see*::\\n\\n    code as it is", 16))
    OPTIONS
    'rate' of WAU;
    see:
    <BLANKLINE>
        code as it is
    """
    return "\n\n".join(_paragraph(paragraph, width) for paragraph in text.split("\n\n"))


def _paragraph(text: str, width: int) -> str:
    if heading := _HEADING.match(text):
        rest = text[heading.end() :]
        return heading[1].upper() + (f"\n{_paragraph(rest, width)}" if rest else "")
    if text.startswith("- "):
        return "\n".join(_wrapped(item, width, hanging="  ") for item in re.split(r"\n(?=- )", text))
    if any(line.startswith((" ", "=", "|")) for line in text.splitlines()):
        return _CODE.sub(r"\1", text)
    return _wrapped(text, width)


def _wrapped(text: str, width: int, hanging: str = "") -> str:
    words = re.sub(r"::$", ":", " ".join(_without_marks(text).split()))
    return textwrap.fill(words, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


def _without_marks(text: str) -> str:
    """Emphasis and names without their marks, code as it is; a word that would be read as any other in quotes.

    >>> print(_without_marks("``a*b*c``, *d* and 2*e*f of ``depth`` layers"))
    a*b*c, d and 2*e*f of 'depth' layers
    """
    parts = _CODE.split(text)
    parts[1::2] = [f"'{code}'" if code.isalpha() and code.islower() else code for code in parts[1::2]]
    parts[::2] = [_MARKED.sub(r"\2", words) for words in parts[::2]]
    return "".join(parts)


def _own_words(cls: Any, record: Method) -> str:
    """What a class or function says of itself before its example and its arguments."""
    text = inspect.cleandoc(cls.__doc__ or record.summary)
    return re.split(r"\n\n(?=\w[\w, ]*:)", text)[0]


def _shared(record: Method) -> list[str]:
    """Whose card it is, where several methods have one."""
    names = [other.name for other in METHODS.values() if _file(other) == _file(record)]
    return [f"The card of {', '.join(names[:-1])} and {names[-1]} follows."] if len(names) > 1 else []


def _file(record: Method) -> str:
    return record.home.partition(":")[0] if record.home else str(record.cls.__module__)


def _on_command_line(methods: str, defaults: Mapping[str, object]) -> list[str]:
    """A comparison to type, and the options."""
    shown = ", ".join(_with_default(option, value) for option, value in defaults.items())
    return [
        "**On the command line.**",
        f"    filtersmith compare --methods {shlex.quote(methods)}",
        f"Options and their defaults: {shown or 'none'}.",
    ]


def _with_default(option: str, value: object) -> str:
    if value is TO_BE_GIVEN:
        return f"{option} (to be given)"
    if option == "seed":
        return f"{option} (that of the run)"
    return f"{option} (left open)" if value is None else assigned(option, value)


def example(record: Method) -> str:
    """A method as it is typed: with the options that have to be given, else the first that has a default.

    >>> example(METHODS["wau"]), example(METHODS["acnet"])
    ('wau(rate=0.5)', 'acnet')
    """
    return _example(record, record.cls)


def _example(record: Method, cls: Any) -> str:
    defaults = option_defaults(cls)
    outside = of_class(cls, "resolved", ())  # a comparison has a teacher of its own
    required = [option for option, value in defaults.items() if value is TO_BE_GIVEN and option not in outside]
    needed = {option: record.tried[option] for option in required}
    settled = [(option, value) for option, value in defaults.items() if value not in (None, TO_BE_GIVEN)]
    settled = [(option, value) for option, value in settled if option != "seed"]
    return str(Spelled(record.name, needed or dict(settled[:1])))
