"""Numbers as people read them: percent, signed points, counts and sizes in few digits."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"
UNITS = ("", "k", "M", "G", "T")


def percent(fraction: float) -> str:
    """Two decimals, without the sign.

    >>> percent(0.97123)
    '97.12'
    """
    return f"{100 * fraction:.2f}"


def points(fraction: float) -> str:
    """A signed difference in percentage points; what rounds to zero has no sign.

    >>> points(0.0045), points(-0.00001)
    ('+0.45', '0.00')
    """
    text = f"{100 * fraction:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def count(number: int) -> str:
    """Three significant digits; numbers below 1,000 stay exact.

    >>> count(999), count(19584), count(11173962)
    ('999', '19.6k', '11.2M')
    """
    value, unit = _scaled(number, 999.5)
    return f"{value:#.3g}".rstrip(".") + unit if unit else str(number)


def exact(number: int) -> str:
    """Short without rounding, for the round numbers of an axis.

    >>> exact(200_000), exact(1_500_000)
    ('200k', '1.5M')
    """
    value, unit = _scaled(number, 1000)
    return f"{value:g}{unit}"


def size(count_of_bytes: int) -> str:
    """Bytes: whole kB, from 1 MB on one decimal.

    >>> size(70_124), size(1_402_000)
    ('70 kB', '1.4 MB')
    """
    value, unit = _scaled(count_of_bytes, 1000)
    if unit in ("", "k"):
        return f"{count_of_bytes / 1000:.0f} kB"
    return f"{value:.1f} {unit}B"


def _scaled(number: int, limit: float) -> tuple[float, str]:
    """The number in the largest unit that leaves it below ``limit``."""
    value, units = float(number), list(UNITS)
    while value >= limit and len(units) > 1:
        value, units = value / 1000, units[1:]
    return value, units[0]
