"""The result table: one model of its rows, for the terminal, for Markdown and (in the report) for HTML.

Every cell is made once, here; the writers only place it. Accuracies are percent, differences are percentage
points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from filtersmith.common.words import one_line, plural
from filtersmith.lab.recipe.arms import split_arm
from filtersmith.lab.results import filters
from filtersmith.lab.results.cells import NOTHING, difference_cell, p_cell, spread_cell
from filtersmith.lab.results.document import Comparison, Run
from filtersmith.lab.results.numbers import count, percent
from filtersmith.lab.results.sentences import detectable, evidence, pairs_said, sentence
from filtersmith.lab.results.statistics import (
    DRAWN,
    ENOUGH_PAIRS,
    EXACT_PAIRS,
    Difference,
    Summary,
    last_accuracy,
    paired_difference,
    spread,
    summarize,
)
from filtersmith.lab.results.together import HEADS, LEGEND, together
from filtersmith.methods import BASELINE

WORDS = "In words"
TIME = "Time \N{MULTIPLICATION SIGN}"
SIGNIFICANT_PAIRS = 6
"""Pairs from which p can be below 0.05: of 2^6 assignments of signs two at least are as extreme as what was seen."""


@dataclass(frozen=True)
class Row:
    """The cells of one method, in the order of the heads; `note` says which of its seeds do not count.

    `p`, `detectable` and `time` are None in a table that has no such column. `line` is for where the words have no
    column: the words and what stands beside them; empty where there is nothing to say.
    """

    method: str
    note: str
    last: str
    more: tuple[str, ...]
    difference: str
    words: str
    p: str | None
    detectable: str | None
    best: str
    time: str | None
    parameters: str
    line: str

    @property
    def figures(self) -> tuple[str, ...]:
        """The cells right of the method."""
        cells = (
            self.last,
            *self.more,
            self.difference,
            self.words,
            self.p,
            self.detectable,
            self.best,
            self.time,
            self.parameters,
        )
        return tuple(cell for cell in cells if cell is not None)


@dataclass(frozen=True)
class More:
    """Another table below the main one: of pairs of methods, of what methods do to filters."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """One comparison, all plain text: `remarks` hold for it alone, `legend` says how its columns are read.

    ``scores`` are the heads of the columns with what was measured, without their unit.
    """

    title: str
    heads: tuple[str, ...]
    scores: tuple[str, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    legend: tuple[str, ...]
    more: tuple[More, ...] = ()


def build_table(comparison: Comparison) -> Table:
    """The table of a comparison, failed and missing runs included.

    Times are left out unless the document says that they were measured alone on the machine.
    """
    summaries = summarize(comparison)
    times, tested = comparison.times_count, _tested(summaries)
    scores = (comparison.about.column, *comparison.about.more)
    heads = (
        "Method",
        *(f"{score}, %" for score in scores),
        "Δ to baseline [95% interval], points",
        WORDS,
        *(["p (Holm)", "Detectable, points"] if tested else []),
        "Best test epoch, %",
        *([TIME] if times else []),
        "Parameters",
    )
    return Table(
        comparison.title,
        heads,
        scores,
        tuple(_row(summary, times, tested, comparison.about.more) for summary in summaries),
        tuple(_remarks(comparison, summaries)),
        tuple(_legend(comparison, summaries)),
        tuple(_more(comparison)),
    )


def _more(comparison: Comparison) -> Iterator[More]:
    if pairs := together(comparison):
        yield More("Pairs of methods, alone and together", HEADS, tuple(one.cells for one in pairs))
    if rows := filters.rows(comparison):
        yield More("What methods do to filters", filters.HEADS, tuple(rows))


def _tested(summaries: Sequence[Summary]) -> bool:
    return any(summary.difference and summary.difference.p is not None for summary in summaries)


def legend(tables: Iterable[Table]) -> list[str]:
    """How the columns of several tables are read, each note once."""
    return list(dict.fromkeys(note for table in tables for note in table.legend))


# --- cells -----------------------------------------------------------------------------------------------


def _words(summary: Summary) -> str:
    if summary.difference is None:
        return NOTHING
    fewer = summary.difference.pairs < summary.asked
    return sentence(summary.difference) + (f" ({pairs_said(summary.difference, summary.asked)})" if fewer else "")


def _line(summary: Summary) -> str:
    if summary.difference is None:
        return ""
    return f"{sentence(summary.difference)} ({evidence(summary.difference, summary.asked)})"


def _detectable(value: Difference | None) -> str:
    return NOTHING if value is None or value.detectable is None else detectable(value.detectable)


def _parameters(training: int | None, deployed: int | None) -> str:
    if training is None:
        return NOTHING
    if deployed is None or deployed == training:
        return count(training)
    return f"{count(training)} / {count(deployed)}"


def _time(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"


def _more_scores(summary: Summary, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        found = [run.epochs[-1].scores[name] for run in summary.finished if name in run.epochs[-1].scores]
        yield spread_cell(spread(found)) if found else NOTHING


def _row(summary: Summary, times: bool, tested: bool, more: Sequence[str]) -> Row:
    note = ""
    if len(summary.finished) < summary.asked:
        note = f"{len(summary.finished)} of {plural(summary.asked, 'seed')}"
        note += f", {len(summary.failed)} failed" if summary.failed else ""
    return Row(
        method=summary.method,
        note=note,
        last=summary.status if summary.last is None else spread_cell(summary.last),
        more=tuple(_more_scores(summary, more)),
        difference=difference_cell(summary.difference),
        words=_words(summary),
        p=p_cell(summary.difference) if tested else None,
        detectable=_detectable(summary.difference) if tested else None,
        best=NOTHING if summary.best is None else percent(summary.best.mean),
        time=_time(summary.time_ratio) if times else None,
        parameters=_parameters(summary.parameters_training, summary.parameters_deployed),
        line=_line(summary),
    )


# --- notes -----------------------------------------------------------------------------------------------


def _legend(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    about = comparison.about
    columns = ", ".join((about.column, *about.more))
    yield f"{columns}: test {about.score} after the last epoch; of several seeds mean ± sample standard deviation."
    differences = [summary.difference for summary in summaries if summary.difference]
    if differences:
        yield (
            "Δ: last epoch minus the baseline of the same seed: the mean, from three pairs on with its 95% interval "
            "(paired t); of two pairs with both differences in brackets and no interval."
        )
        yield "The words (better, worse, no difference larger than) are what the interval alone says."
    if together(comparison):
        yield LEGEND
    if filters.audited(comparison):
        yield filters.LEGEND
    yield from _legend_of_tests([difference for difference in differences if difference.p is not None])
    if any(split_arm(method)[1] is not None for method in comparison.methods):
        yield (
            "METHOD@NETWORK: the same data and recipe on another network than the one in the title; "
            "it is compared with the baseline on the one in the title, too."
        )
    yield (
        f"Best test epoch: each run's highest test {about.score} in percent, averaged; the test set chose the "
        "epoch, so the figure flatters every method."
    )
    if comparison.times_count:
        yield (
            f"{TIME}: training time of an epoch relative to the baseline of the same seed, without evaluation "
            "(median over epochs, then over seeds)."
        )
    if any(s.parameters_deployed not in (None, s.parameters_training) for s in summaries):
        yield "Parameters: in training / deployed; one number where they are equal."
    if any(stop == comparison.epochs for s in summaries for run in s.finished for _, stop in run.sub_phases):
        yield "Deployed parameters that were set to zero for good do not count."


def _legend_of_tests(tested: Sequence[Difference]) -> Iterator[str]:
    if not tested:
        return
    yield (
        "p (sign-flip permutation test): were the method worth nothing, how often chance, random signs of the seeds' "
        f"differences, would bring their mean as far from 0 (all signs are tried up to {EXACT_PAIRS} pairs, then "
        f"{DRAWN:,} drawn ones); Holm: corrected for the number of methods in the table."
    )
    if any(one.pairs < SIGNIFICANT_PAIRS for one in tested):
        yield (
            f"Below {SIGNIFICANT_PAIRS} pairs p cannot reach 0.05, whatever the differences: it is at least "
            f"{', '.join(f'{2 / 2**n:.3g} for {n} pairs' for n in range(ENOUGH_PAIRS, SIGNIFICANT_PAIRS))}."
        )
    yield (
        "Detectable, and what these seeds would show: the smallest true difference that a paired t test with so many "
        "pairs finds 8 times in 10 (80% power), at the spread that was seen."
    )


def _remarks(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    if comparison.test_images and comparison.about.counts_hits:
        samples = comparison.about.samples
        yield f"One of the {comparison.test_images:,} test {samples} is {_image(comparison.test_images)} points."
    empty = f"Δ and {TIME} are empty" if comparison.times_count else "Δ is empty"
    if BASELINE not in comparison.methods:
        yield f"{empty}: the comparison has no method named {BASELINE}."
    elif len(comparison.methods) > 1 and not any(summary.difference for summary in summaries):
        yield f"{empty}: no method finished a seed that the {BASELINE} finished too."
    yield from _ensembles(comparison, summaries)
    for pair, reason in comparison.not_together.items():
        yield f"Not together: {pair}: {reason}."
    for summary in summaries:
        for run in (*summary.failed, *summary.interrupted):
            yield _lost_run(run, comparison.epochs)


def _ensembles(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    """What the generations of a method are worth together, beside the first and the last one alone."""
    for method in dict.fromkeys(one.method for one in comparison.ensembles):
        its = {one.seed: one for one in comparison.ensembles if one.method == method}
        members = max(one.members for one in its.values())
        together = spread([one.test_accuracy for one in its.values()])
        alone = next((one for one in summaries if one.method == method), None)
        said = f"{method}, the mean of the probabilities of {members} generations: {spread_cell(together)}%"
        first = {run.seed: last_accuracy(run) for run in alone.finished} if alone else {}
        seeds = [seed for seed in its if seed in first]
        gain = paired_difference([its[s].test_accuracy for s in seeds], [first[s] for s in seeds])
        yield said + (f"; Δ to the first generation alone {difference_cell(gain)} points" if gain else "") + "."


def _image(images: int) -> str:
    return f"{100 / images:.2f}" if images <= 10_000 else f"{100 / images:.2g}"


def _lost_run(run: Run, epochs: int) -> str:
    if run.status == "failed":
        return f"{run.method}, seed {run.seed}, failed: {one_line(run.error or 'no reason was recorded')}"
    return f"{run.method}, seed {run.seed}, was interrupted after {len(run.epochs)} of {plural(epochs, 'epoch')}."
