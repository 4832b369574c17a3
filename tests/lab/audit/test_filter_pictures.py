"""Pictures of filters say which filters they show."""

from __future__ import annotations

import csv
import doctest
import io
from dataclasses import replace

import pytest
from reference import audits

from filtersmith.lab.audit import filter_pictures
from filtersmith.lab.results.picture import Picture

pytest.importorskip("matplotlib", reason="pictures need the extra filtersmith[report]")


def rows_of(picture: Picture) -> list[list[str]]:
    return list(csv.reader(io.StringIO(picture.csv)))[1:]


def test_what_networks_make_of_an_image_and_what_excites_which_filters() -> None:
    found = audits.whole()
    drawn = filter_pictures.sights(found)
    assert [picture.caption.rpartition(": ")[2] for picture in drawn[:2]] == ["planted", "resnet8"]
    assert "16 maps behind the norm that reads them, if one does" in drawn[0].alt
    assert len(rows_of(drawn[0])) == 16
    for picture, one in zip(drawn[2:], found.exciting, strict=True):
        said = f"What excites filters {filter_pictures.numbered(one.filters)} of {one.layer}"
        assert picture.caption == said
        assert [row[0] for row in rows_of(picture)] == [str(f) for f in one.filters]
    assert [picture.caption.split(" of ")[-1] for picture in drawn[2:]] == [
        "conv1",
        "layer2.0.conv1",
        "layer3.0.conv2",
    ]
    assert filter_pictures.sights(audits.weights_alone()) == []
    first = found.exciting[0]
    one = replace(first, filters=(3,), images=first.images[:1])
    (alone,) = filter_pictures.sights(replace(found, sight=None, against=None, exciting=(one,)))
    assert alone.caption == "What excites filter 3 of conv1"


def test_the_first_layer_s_filters_where_they_can_be_seen() -> None:
    first = filter_pictures.first_kernels(audits.whole())
    assert first is not None
    assert "16 filters of conv1" in first.alt
    assert [len(row) for row in rows_of(first)] == [10] * 16
    assert filter_pictures.first_kernels(audits.broken()) is None


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(filter_pictures)
    assert (results.failed, results.attempted > 0) == (0, True)
