"""What pairs of methods give, against the differences by hand."""

from __future__ import annotations

import pytest

from filtersmith.lab.results.document import Comparison, Epoch, Run
from filtersmith.lab.results.markdown import to_markdown
from filtersmith.lab.results.tables import build_table
from filtersmith.lab.results.together import HEADS, together

ACCURACIES = {
    "baseline": [0.50, 0.60, 0.55, 0.50],
    "kflo": [0.52, 0.61, 0.58, 0.50],
    "wau(rate=0.5)": [0.49, 0.62, 0.55, 0.53],
    "kflo+wau(rate=0.5)": [0.55, 0.63, 0.60, 0.50],
    "kflo+ema": [0.55, 0.63, 0.60, 0.50],
}


def run(method: str, seed: int, accuracy: float) -> Run:
    epoch = Epoch(
        epoch=1, lr=0.1, train_loss=1, train_accuracy=0.5, test_loss=1, test_accuracy=accuracy, train_seconds=1
    )
    return Run(method=method, seed=seed, status="finished", epochs=(epoch,))


def comparison(**changed: object) -> Comparison:
    runs = [run(method, seed, a) for method, every in ACCURACIES.items() for seed, a in enumerate(every)]
    values = {"title": "t", "data": "d", "data_title": "d", "model": "m", "epochs": 1, "seeds": range(4)}
    return Comparison.model_validate({**values, "methods": list(ACCURACIES), "runs": runs, **changed})


def test_together_minus_the_sum_is_paired_by_seed() -> None:
    (one,) = together(comparison())
    assert one.pair == ("kflo", "wau(rate=0.5)")
    base, first, second, both = list(ACCURACIES.values())[:4]
    assert one.total is not None
    assert one.both is not None
    assert one.beyond is not None
    assert one.total.values == pytest.approx([a + b - 2 * c for a, b, c in zip(first, second, base, strict=True)])
    assert one.both.values == pytest.approx([a - c for a, c in zip(both, base, strict=True)])
    assert one.beyond.values == pytest.approx([d - t for d, t in zip(one.both.values, one.total.values, strict=True)])
    assert one.beyond.low is not None


def test_options_at_their_defaults_are_the_same_method() -> None:
    renamed = comparison()
    swap = {"wau(rate=0.5)": "wau"}
    methods = [swap.get(method, method) for method in renamed.methods]
    runs = [one.model_copy(update={"method": swap.get(one.method, one.method)}) for one in renamed.runs]
    (one,) = together(comparison(methods=methods, runs=runs))
    assert one.pair == ("kflo", "wau")


def test_seeds_that_lack_one_of_them_do_not_count() -> None:
    whole = comparison()
    (one,) = together(comparison(runs=[r for r in whole.runs if (r.method, r.seed) != ("kflo", 3)]))
    assert one.beyond is not None
    assert one.both is not None
    assert (one.beyond.pairs, one.both.pairs) == (3, 4)


def test_every_table_shows_them() -> None:
    table = build_table(comparison(not_together={"kflo and acnet": "both re-parametrize"}))
    assert table.more[0].rows[0][0] == "kflo+wau(rate=0.5)"
    assert "Not together: kflo and acnet: both re-parametrize." in table.remarks
    assert any("Together − sum" in note for note in table.legend)
    assert f"| {' | '.join(HEADS)} |" in to_markdown(table)
    assert "`kflo+wau(rate=0.5)`" in to_markdown(table)
