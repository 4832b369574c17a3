"""Pictures say in words and as CSV what they show."""

from __future__ import annotations

import base64
import csv
import doctest
import io
from dataclasses import replace
from pathlib import Path

import pytest
from reference import audits
from reference.example_results import compared
from reference.project_scripts import script_of
from reference.running import config, digits
from reference.running import run as train_run

from filtersmith.lab.audit import pictures
from filtersmith.lab.audit.audit import audit
from filtersmith.lab.audit.document import to_json
from filtersmith.lab.audit.images import images_for
from filtersmith.lab.audit.oracle import CHEAP
from filtersmith.lab.audit.responses import HIGH
from filtersmith.lab.audit.target import open_target
from filtersmith.lab.results.document import save
from filtersmith.lab.results.picture import Picture

pytest.importorskip("matplotlib", reason="pictures need the extra filtersmith[report]")


def rows_of(picture: Picture) -> list[list[str]]:
    return list(csv.reader(io.StringIO(picture.csv)))[1:]


def svg(picture: Picture) -> str:
    return base64.b64decode(picture.source.partition(",")[2]).decode()


def shows(picture: Picture, words: str) -> bool:
    """Whether a text stands in the drawing, in one piece."""
    return f"<!-- {words} -->" in svg(picture)


def test_a_profile_has_every_layer_beside_the_random_one() -> None:
    found = audits.weights_alone()
    for what, share in (("overlap", lambda layer: 1), ("rank", lambda layer: layer.own.full_rank)):
        picture = pictures.profile(found, what)
        assert [row[0] for row in rows_of(picture)] == [layer.name for layer in found.layers]
        for row, layer in zip(rows_of(picture), found.layers, strict=True):
            assert float(row[1]) == pytest.approx(getattr(layer.own, what) / share(layer))
        assert "with random weights" in picture.alt
        assert all(shows(picture, layer.name) for layer in found.layers), "the axis has names"
        assert "row" not in picture.alt


def test_of_many_layers_an_axis_has_the_numbers_of_the_rows() -> None:
    few = audits.whole()
    assert few.worth is not None
    many = [replace(few.layers[0], name=f"conv{number}") for number in range(pictures.NAMED + 1)]
    said = "; layers have the numbers of their rows in the table, from the input to the output"
    drawn = pictures.profile(replace(few, layers=many), "overlap")
    assert drawn.alt.endswith(said)
    assert shows(drawn, "layer, by its row in the table")
    assert not shows(drawn, "conv7")
    drops = {layer.name: few.worth.drops["conv1"] for layer in many}
    layers = {layer.name: few.worth.layers["conv1"] for layer in many}
    names = ["depthwise", *drops]
    worth = pictures.oracle(replace(few.worth, drops=drops, layers=layers), names)
    assert worth.alt.endswith(said)


def test_names_are_shortened_and_can_still_be_told_apart() -> None:
    long = [f"features.denseblock{block}.denselayer{layer}.conv1" for block in (1, 2) for layer in (1, 2)]
    short = pictures.short_names(long)
    assert len(set(short)) == 4
    assert all("…" in one and one.endswith(".conv1") for one in short)
    assert pictures.short_names(["", "conv1"]) == ["(the network)", "conv1"]
    other = "wau(rate=0.5,unit=input-channel)+repr(s1=20)@resnet20 (runs/one/seed-0)"
    found = audits.whole()
    assert found.against is not None
    named = pictures.correlations(replace(found, against=replace(found.against, title=other)))[0]
    assert other in named.alt
    assert other in named.csv.replace('"', "")
    assert shows(named, pictures.shortened(other, pictures.LONGEST))


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(pictures)
    assert (results.failed, results.attempted > 0) == (0, True)


def test_the_histogram_has_all_pairs() -> None:
    picture = pictures.cosine_histogram(audits.weights_alone())
    assert sum(float(row[2]) for row in rows_of(picture)) == pytest.approx(1)
    assert sum(float(row[3]) for row in rows_of(picture)) == pytest.approx(1)
    above = sum(float(row[2]) for row in rows_of(picture) if float(row[0]) >= HIGH[0] - 1e-9)
    assert f"{above:.2%} of the pairs lie above {HIGH[0]}" in picture.alt


def test_heat_maps_have_both_networks_and_say_which_is_where() -> None:
    found = audits.whole()
    drawn = pictures.correlations(found)
    assert len(drawn) == 2 * pictures.DRAWN
    first, canonical = drawn[:2]
    assert "above the diagonal planted, mean size " in first.alt
    assert "below it resnet8, mean size " in first.alt
    assert float(rows_of(canonical)[0][2]) == pytest.approx(float(found.canonical["conv1"][0, 1]), abs=1e-4)
    a, b, ours, theirs = rows_of(first)[0]
    assert (a, b) == ("0", "1")
    assert found.against is not None
    assert float(ours) == pytest.approx(float(found.maps["conv1"].correlation[0, 1]), abs=1e-4)
    assert float(theirs) == pytest.approx(float(found.against.maps["conv1"].correlation[0, 1]), abs=1e-4)
    assert first.csv.startswith("filter a,filter b,planted,resnet8\n")
    for words in ("above the diagonal: planted", "below the diagonal: resnet8", "filters of conv1"):
        assert shows(first, words)
        assert shows(canonical, words)
    assert shows(canonical, "first canonical correlation")
    assert shows(canonical, "on held-out images")
    assert "below 0, drawn as 0, it is so by chance" in canonical.alt
    assert shows(first, "−1.00")
    assert not shows(canonical, "−1.00")
    assert pictures.correlations(audits.weights_alone()) == []


def test_a_network_of_another_depth_has_heat_maps_and_likeness_of_its_own() -> None:
    target = audits.planted()
    images = images_for(digits(), target.facts, 60)
    found = audit(target, images, against=(open_target("resnet20", data=audits.FACTS), images))
    below = [picture.alt.partition("below it ")[2].partition(",")[0] for picture in pictures.correlations(found)]
    assert below.count("random weights") < len(below), "layers of the same name and size are compared"
    like, alike = pictures.likeness(found), pictures.likeness(audits.whole())
    assert like is not None
    assert alike is not None
    assert f"is most like it, chosen by these values, have {best(like):.2f} on average" in like.alt
    assert "for layers at the same place" not in like.alt
    assert "on average for layers at the same place" in alike.alt
    assert all("CKA of each channel's mean" in one.alt for one in (like, alike))


def best(like: Picture) -> float:
    """The mean over our layers of the highest value that each has."""
    highest: dict[str, float] = {}
    for ours, _, value in rows_of(like):
        highest[ours] = max(float(value), highest.get(ours, -1.0))
    return sum(highest.values()) / len(highest)


def test_a_layer_without_canonical_correlations_of_the_other_network_has_pearson_s_alone() -> None:
    found = audits.whole()
    assert found.against is not None
    some = {name: one for name, one in found.against.canonical.items() if name != "conv1"}
    drawn = pictures.correlations(replace(found, against=replace(found.against, canonical=some)))
    assert len(drawn) == 2 * pictures.DRAWN - 1
    assert "Canonical correlation of maps, conv1" not in {picture.caption for picture in drawn}


def test_the_script_draws_them_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "results" / "audit"
    folder.mkdir(parents=True)
    for name in ("baseline", "wau"):
        (folder / f"{name}.json").write_text(to_json(audits.whole()))
    done = [train_run(config(epochs=2, audit=True, seed=seed), tmp_path / str(seed)) for seed in range(2)]
    save(compared(done), folder / "filters.json")
    assert script_of("draw_audit").main(["--root", str(tmp_path)]) == 0
    assert "above the diagonal planted" in capsys.readouterr().out
    drawn = {file.stem for file in (folder / "pictures").glob("*.svg")}
    assert drawn == {
        "correlation-wau",
        "criteria",
        "oracle",
        "test-accuracy-by-epoch",
        "dead-filters-by-epoch",
        "effective-rank-by-epoch",
        "ortho-sum-overlap-of-all-filters-by-epoch",
    }


def test_criteria_against_the_oracle_are_bars_with_their_numbers() -> None:
    worth = audits.whole().worth
    assert worth is not None
    drawn = pictures.agreement(worth.agreement)
    assert [row[0] for row in rows_of(drawn)] == list(worth.agreement)
    assert [float(row[2]) for row in rows_of(drawn)] == [round(one.rank, 4) for one in worth.agreement.values()]
    assert not shows(drawn, "chance alone")
    assert shows(pictures.agreement(worth.agreement, 0.1), "chance alone")
    first = worth.agreement["ortho"]
    assert f"ortho {first.value:+.2f} and {first.rank:+.2f}".replace("-", "\N{MINUS SIGN}") in drawn.alt


def test_curves_of_a_run(tmp_path: Path) -> None:
    assert pictures.training(audits.whole()) == []
    train_run(config(epochs=2, audit=True), tmp_path / "run")
    target = open_target(str(tmp_path / "run"))
    curves = pictures.training(audit(target, None))
    assert [picture.caption.partition(",")[0] for picture in curves] == [
        "Test accuracy",
        "Training loss",
        "Ortho-sum: overlap of all filters",
        "Effective rank",
        "Dead filters",
    ]


def test_likeness_and_worth_where_there_are_some() -> None:
    found = audits.whole()
    assert found.worth is not None
    like, worth = pictures.likeness(found), pictures.oracle(found.worth)
    assert like is not None
    assert len(rows_of(like)) == len(found.layers) ** 2
    assert all(svg(like).count(f"<!-- {layer.name} -->") == 2 for layer in found.layers), "both axes have names"
    shown = svg(worth)
    for words in ("a filter", "median of the layer", f"{100 * CHEAP:g} points: below is cheap"):
        assert shown.count(f"<!-- {words} -->") == 1, "in the legend, once"
    assert len(rows_of(worth)) == sum(layer.filters for layer in found.layers)
    assert pictures.likeness(audits.weights_alone()) is None
