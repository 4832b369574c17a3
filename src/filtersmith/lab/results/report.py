"""The report: one HTML page that needs nothing but itself, made from result documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filtersmith.lab.results.cells import NOTHING
from filtersmith.lab.results.conclusions import conclude
from filtersmith.lab.results.curves import MOST_BANDS, curve_pictures, curves, filter_pictures
from filtersmith.lab.results.differences import difference_chart
from filtersmith.lab.results.document import Comparison, Run, write_atomically
from filtersmith.lab.results.figures import Style, method_styles, size_picture, time_picture
from filtersmith.lab.results.numbers import percent
from filtersmith.lab.results.page import need_extra, render_page
from filtersmith.lab.results.shown import Shown
from filtersmith.lab.results.statistics import best_accuracy, last_accuracy, summarize
from filtersmith.lab.results.tables import WORDS, Table, build_table, legend


def write_report(
    comparisons: Sequence[Comparison], path: str | os.PathLike[str], shown: Sequence[Sequence[Shown]] = ()
) -> Path:
    """Write the page to `path` (a file; its folder is made) and return the path.

    `shown` are the pictures of each comparison (`shown.load`), left out for none.

    Raises ValueError without comparisons, or when the extra `report` is not installed.
    """
    return write_atomically(path, render(comparisons, shown))


def render(comparisons: Sequence[Comparison], shown: Sequence[Sequence[Shown]] = ()) -> str:
    """The page as text; the same comparisons always give the same text."""
    if not comparisons:
        raise ValueError("a report needs at least one comparison, got none")
    need_extra()
    styles = method_styles(comparisons)
    titles = _told_apart([comparison.title for comparison in comparisons])
    pictures = shown or [()] * len(comparisons)
    sections = [_section(*one, styles) for one in zip(titles, comparisons, pictures, strict=True)]
    notes = legend(section["table"] for section in sections)
    return render_page("report.html.j2", styles=styles, sections=sections, legend=notes)


def _told_apart(titles: Sequence[str]) -> list[str]:
    """The titles; those that are the same are numbered, as links and labels are read without what is around them."""
    return [
        f"{title} ({titles[:place].count(title) + 1})" if titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]


def _section(title: str, comparison: Comparison, shown: Sequence[Shown], styles: dict[str, Style]) -> dict[str, Any]:
    import yaml

    accuracies = curves(comparison, lambda epoch: epoch.test_accuracy)
    table, summaries = build_table(comparison), summarize(comparison)
    sizes, times = size_picture(comparison, styles), time_picture(comparison, styles)
    return {
        "title": title,
        "table": table,
        "heads": _without_words(table, table.heads),
        "rows": [(row, _without_words(table, (row.method, *row.figures))[1:]) for row in table.rows],
        "chart": difference_chart(summaries, comparison.about.score),
        "conclusions": conclude(comparison, summaries),
        "pictures": [*curve_pictures(comparison, styles), *filter_pictures(comparison, styles)] if accuracies else [],
        "costs": [picture for picture in (times, sizes) if picture],
        "timed": times is not None,
        "no_times": "" if times else _why_no_times(comparison),
        "drawn": [curve.method for curve in accuracies],
        "bands": len(comparison.seeds) > 1 and len(accuracies) <= MOST_BANDS,
        "phases": any(curve.phase_starts for curve in accuracies),
        "sub_phases": any(curve.sub_phases for curve in accuracies),
        "shown": [one for one in shown if one.pictures and one.method in comparison.methods],
        "seeds": list(comparison.seeds),
        "by_seed": [
            (method, [_seed_cell(comparison.find_run(method, seed)) for seed in comparison.seeds])
            for method in comparison.methods
        ],
        "config": yaml.safe_dump(comparison.model_dump(mode="json")["config"], sort_keys=False, allow_unicode=True),
        "environment": {
            key: NOTHING if value is None else str(value) for key, value in comparison.environment.items()
        },
    }


def _why_no_times(comparison: Comparison) -> str:
    left_out = f"{comparison.about.score.capitalize()} against training time is left out"
    if comparison.times_count:
        return f"{left_out}: fewer than two methods have finished."
    return f"{left_out}: the runs are not known to have had the machine to themselves."


def _without_words(table: Table, cells: Sequence[str]) -> list[str]:
    """The cells of the table without the column that the figure above it has already."""
    return [cell for head, cell in zip(table.heads, cells, strict=True) if head != WORDS]


def _seed_cell(run: Run | None) -> tuple[str, str]:
    """Last and best test accuracy of one run in percent; its status when there are none."""
    if run is None:
        return "not run", ""
    if run.status != "finished":
        return run.status, ""
    return percent(last_accuracy(run)), percent(best_accuracy(run))
