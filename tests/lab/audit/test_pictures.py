"""Pictures say in words and as CSV what they show."""

from __future__ import annotations

import base64
import csv
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


def test_a_profile_has_every_layer_beside_the_random_one() -> None:
    found = audits.weights_alone()
    for what, share in (("overlap", lambda layer: 1), ("rank", lambda layer: layer.own.full_rank)):
        picture = pictures.profile(found, what)
        assert [row[0] for row in rows_of(picture)] == [layer.name for layer in found.layers]
        for row, layer in zip(rows_of(picture), found.layers, strict=True):
            assert float(row[1]) == pytest.approx(getattr(layer.own, what) / share(layer))
        assert "with random weights" in picture.alt


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
    first = worth.agreement["ortho"]
    assert f"ortho {first.value:+.2f} and {first.rank:+.2f}".replace("-", "\N{MINUS SIGN}") in drawn.alt


def test_sights_and_curves_of_a_run(tmp_path: Path) -> None:
    drawn = pictures.sights(audits.whole())
    assert [picture.caption.rpartition(": ")[2] for picture in drawn[:2]] == ["planted", "resnet8"]
    assert [picture.caption.split(" of ")[-1] for picture in drawn[2:]] == [
        "conv1",
        "layer2.0.conv1",
        "layer3.0.conv2",
    ]
    assert "16 maps behind batch norm" in drawn[0].alt
    assert len(rows_of(drawn[0])) == 16
    assert [len(rows_of(picture)) for picture in drawn[2:]] == [9, 9, 9]
    assert pictures.sights(audits.weights_alone()) == []
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


def test_likeness_worth_and_first_filters_where_there_are_some() -> None:
    found = audits.whole()
    assert found.worth is not None
    like, worth, first = pictures.likeness(found), pictures.oracle(found.worth), pictures.first_kernels(found)
    assert like is not None
    assert len(rows_of(like)) == len(found.layers) ** 2
    shown = svg(worth)
    for words in ("a filter", "median of the layer", f"{100 * CHEAP:g} points: below is cheap"):
        assert shown.count(f"<!-- {words} -->") == 1, "in the legend, once"
    assert len(rows_of(worth)) == sum(layer.filters for layer in found.layers)
    assert first is not None
    assert "16 filters of conv1" in first.alt
    assert [len(row) for row in rows_of(first)] == [10] * 16
    alone = audits.weights_alone()
    assert pictures.likeness(alone) is None
    assert pictures.first_kernels(audits.broken()) is None
