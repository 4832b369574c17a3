"""Results as rows for other programs: a list of flat records, one a method, as JSON or CSV.

Accuracies and differences are fractions; what cannot be said is null in JSON and empty in CSV. The fields:

- `comparison`: the title; only with several results;
- `method`, `n`: the seeds that it finished; `pairs`: those that the baseline finished too (null for the baseline);
- `mean`, `std`: test accuracy after the last epoch, and its sample standard deviation;
- `difference`: mean of the paired differences to the baseline; `low`, `high`: its 95% paired t interval;
- `p`: sign-flip permutation p; `p_holm`: after Holm's correction over the methods of the comparison;
- `detectable`: the smallest true difference that so many pairs would show with 80% power;
- `best_epoch_mean`: mean of the runs' best test epochs;
- `time_ratio`: training time of an epoch relative to the baseline's, where times mean something;
- `parameters_training`, `parameters_deployed`;
- `status`: `finished` (every seed), `incomplete` (some seeds), and where none is finished `failed`, `interrupted` or
  `not run`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.statistics import Summary, summarize
from filtersmith.methods import BASELINE

Cell = str | int | float | None


def rows(comparisons: Sequence[Comparison]) -> list[dict[str, Cell]]:
    """One record a method, in the order of the comparisons and their methods."""
    several = len(comparisons) > 1
    return [
        {**({"comparison": one.title} if several else {}), **_row(summary)}
        for one in comparisons
        for summary in summarize(one)
    ]


def to_json(comparisons: Sequence[Comparison]) -> str:
    """A list with one record a line."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows(comparisons)]
    return "[" + ",\n ".join(lines) + "]\n"


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """A line with the fields, then one for each record."""
    records = rows(comparisons)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _row(summary: Summary) -> dict[str, Cell]:
    last, best, found = summary.last, summary.best, summary.difference
    return {
        "method": summary.method,
        "n": len(summary.finished),
        "pairs": found.pairs if found else None if summary.method == BASELINE else 0,
        "mean": last.mean if last else None,
        "std": last.std if last else None,
        "difference": found.mean if found else None,
        **{name: getattr(found, name, None) for name in ("low", "high", "p", "p_holm", "detectable")},
        "best_epoch_mean": best.mean if best else None,
        "time_ratio": summary.time_ratio,
        "parameters_training": summary.parameters_training,
        "parameters_deployed": summary.parameters_deployed,
        "status": summary.status,
    }
