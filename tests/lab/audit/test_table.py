"""A row for each layer, with columns for what was measured."""

from __future__ import annotations

from reference import audits

from filtersmith.lab.audit.oracle import CHEAP
from filtersmith.lab.audit.table import build
from filtersmith.lab.audit.weights import ALIKE


def test_columns_follow_what_was_measured() -> None:
    alone, whole = build(audits.weights_alone()), build(audits.whole())
    assert alone.heads == ("Layer", "Filters", "Overlap", "Rank", "Dead", "Twins")
    assert whole.heads == (*alone.heads, "|r|", "Cheap")
    for table in (alone, whole):
        assert {len(row) for row in table.rows} == {len(table.heads)}
        assert [row[0] for row in table.rows] == [layer.name for layer in audits.weights_alone().layers]
        for head in table.heads[2:]:
            assert any(line.startswith(f"{head}:") or f" {head}:" in line for line in table.legend), head
    assert f"less than {100 * CHEAP:g} points of accuracy" in whole.legend[-1]
    assert any(f"|cosine| from {ALIKE:g} on" in line for line in alone.legend)


def test_cells_are_the_figures_of_the_layer_and_the_random_one() -> None:
    found = audits.whole()
    row = next(row for row in build(found).rows if row[0] == "layer1.0.conv1")
    layer = next(layer for layer in found.layers if layer.name == "layer1.0.conv1")
    assert row[1] == "16"
    assert row[2] == f"{layer.own.overlap:.3f} ({layer.random.overlap:.3f})"
    assert row[3] == f"{layer.own.rank / 16:.0%} ({layer.random.rank / 16:.0%})"
    assert row[4:6] == (f"{len(found.dead(layer))} ({found.random_dead(layer)})", "3 (0)")
    assert row[6] == f"{found.maps[row[0]].mean:.2f} ({found.random_maps[row[0]].mean:.2f})"


def test_what_is_not_finite_is_said_in_its_row() -> None:
    rows = {row[0]: row for row in build(audits.broken()).rows}
    assert rows["layer2.0.conv1"][1] == "32, 2 not finite"
