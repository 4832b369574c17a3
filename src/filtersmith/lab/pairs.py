"""All pairs of some methods, as rows of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from filtersmith.common.options import bad_option
from filtersmith.common.words import one_line
from filtersmith.lab.generations import TEACHER, with_teacher
from filtersmith.lab.recipe.arms import split_arm
from filtersmith.lab.recipe.origin import OptionError
from filtersmith.lab.teachers.names import unread
from filtersmith.methods import BASELINE
from filtersmith.methods.composition import compose
from filtersmith.methods.spelling import read

if TYPE_CHECKING:
    from filtersmith.lab.recipe.config import CompareConfig
    from filtersmith.lab.tasks.task import TaskData

Pair = tuple[str, str]


def joined(first: str, second: str) -> str:
    """Two methods as one text, in the order in which they go together. ``ValueError`` where they do not.

    >>> joined("wau", "kflo")
    'kflo+wau'
    """
    try:
        return _checked(f"{first}+{second}")
    except ValueError as error:
        try:
            return _checked(f"{second}+{first}")
        except ValueError:
            raise error from None


def _checked(text: str) -> str:
    compose(with_teacher(text, TEACHER), resolve=unread)
    return text


def all_pairs(
    methods: Sequence[str], refuse: Callable[[str], str | None] = lambda text: None
) -> tuple[list[str], dict[Pair, str]]:
    """The baseline, each method alone and every pair that makes sense; and why the other pairs do not.

    Args:
        methods: at least two, without a network and none of them the baseline.
        refuse: says of a pair's text why a network does not take it, or ``None``.

    Raises:
        ValueError: fewer than two, one that is joined already, one on another network, one that is wrong by itself.

    >>> all_pairs(["wau", "kflo", "ema"])[0]
    ['baseline', 'wau', 'kflo', 'ema', 'kflo+wau', 'wau+ema', 'kflo+ema']
    """
    alone = [method for method in methods if method != BASELINE]
    if len(alone) < 2:
        raise bad_option("all_pairs", ",".join(methods), "at least two methods besides the baseline")
    if with_network := next((method for method in alone if split_arm(method)[1] is not None), None):
        raise bad_option("all_pairs", with_network, "methods of one network, without an @")
    if joined_before := next((method for method in alone if len(read(method)) > 1), None):
        raise bad_option("all_pairs", joined_before, "single methods: they are joined here")
    for method in alone:
        _checked(method)
    together: list[str] = []
    refused: dict[Pair, str] = {}
    for pair in combinations(alone, 2):
        try:
            text = joined(*pair)
            reason = refuse(text)
        except ValueError as error:
            reason = str(error)
        if reason is None:
            together.append(text)
        else:
            refused[pair] = one_line(reason)
    return [BASELINE, *alone, *together], refused


def without_refused(config: CompareConfig, data: TaskData) -> tuple[CompareConfig, dict[str, str]]:
    """A comparison without the pairs that its network does not take; and pair -> why, also of those texts refuse.

    ``config`` has the rows of `all_pairs`, not yet normalised.
    """
    from filtersmith.lab.compare import refusals

    alone = [method for method in config.methods if len(read(method)) == 1]
    refuse = refusals(config, data)
    for method in alone:
        if (reason := refuse(method)) is not None:
            raise OptionError("all_pairs", f"{method}: {reason}")
    methods, refused = all_pairs(alone, refuse)
    kept = config.model_copy(update={"methods": tuple(methods)})
    return kept, {" and ".join(pair): reason for pair, reason in refused.items()}
