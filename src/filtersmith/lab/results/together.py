"""What two methods give together, beside what each gives alone: the rows of a comparison that pair others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from filtersmith.lab.results.cells import NOTHING, difference_cell
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.statistics import Difference, finished_runs, last_accuracy, paired_difference
from filtersmith.methods import BASELINE
from filtersmith.methods.spelling import read, same

HEADS = ("Pair", "Δ of the first", "Δ of the second", "Sum of both", "Δ together", "Together − sum")
LEGEND = (
    "Together − sum: what a pair gives beyond the sum of what its methods give alone, with its 95% interval, paired "
    "by seed as all differences; below 0 they get in each other's way, or do the same. In points."
)


@dataclass(frozen=True)
class Together:
    """A pair of methods. Differences are to the baseline, paired by seed; ``None`` where no seed supports them.

    Attributes:
        pair: the two methods, as rows of the comparison.
        text: the row in which they are trained together.
        first, second: of each alone.
        total: of each seed the sum of both.
        both: of the two together.
        beyond: ``both`` minus ``total``, of the seeds that have all of them.
    """

    pair: tuple[str, str]
    text: str
    first: Difference | None
    second: Difference | None
    total: Difference | None
    both: Difference | None
    beyond: Difference | None

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEADS`."""
        values = (self.first, self.second, self.total, self.both, self.beyond)
        return (self.text, *(difference_cell(value) if value else NOTHING for value in values))


def together(comparison: Comparison) -> list[Together]:
    """The pairs of a comparison, in the order of its rows."""
    return [_measured(comparison, pair, text) for pair, text in _pairs(comparison.methods)]


def _pairs(methods: Sequence[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Rows of two methods that have a row each."""
    spelled = {}
    for method in methods:
        try:
            spelled[method] = read(method)
        except ValueError:  # a generation, another network, a method that is not installed
            continue
    alone = {method: parts for method, parts in spelled.items() if len(parts) == 1}
    for text, parts in spelled.items():
        if len(parts) == 2:
            found = [next((m for m, its in alone.items() if same(its, (part,))), None) for part in parts]
            if found[0] is not None and found[1] is not None:
                yield (found[0], found[1]), text


def _measured(comparison: Comparison, pair: tuple[str, str], text: str) -> Together:
    base, first, second, both = (
        {seed: last_accuracy(run) for seed, run in finished_runs(comparison, method).items()}
        for method in (BASELINE, *pair, text)
    )

    def difference(values: dict[int, float], to: dict[int, float]) -> Difference | None:
        seeds = [seed for seed in values if seed in to]
        return paired_difference([values[seed] for seed in seeds], [to[seed] for seed in seeds])

    total = {seed: first[seed] + second[seed] - base[seed] for seed in base if seed in first and seed in second}
    return Together(
        pair,
        text,
        difference(first, base),
        difference(second, base),
        difference(total, base),
        difference(both, base),
        difference(both, total),
    )
