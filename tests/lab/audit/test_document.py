"""An audit as JSON."""

from __future__ import annotations

import json

import pytest
from reference import audits

from filtersmith.lab.audit.document import to_json
from filtersmith.lab.audit.verdict import verdict


def test_everything_that_was_measured_is_there() -> None:
    found, read = audits.whole(), json.loads(to_json(audits.whole()))
    assert read["schema"] == 1
    assert read["verdict"]["headline"] == verdict(found).headline
    assert (read["data"], read["images"]) == ("digits", 60)
    assert [layer["name"] for layer in read["layers"]] == [layer.name for layer in found.layers]
    assert read["layers"][1]["own"]["rank"] == pytest.approx(found.layers[1].own.rank)
    assert read["maps"]["conv1"]["correlation"][0][1] == pytest.approx(
        float(found.maps["conv1"].correlation[0, 1]), abs=1e-4
    )
    assert found.worth is not None
    assert read["oracle"]["drops"]["conv1"] == found.worth.drops["conv1"].tolist()
    assert read["against"]["title"] == "resnet8"


def test_what_is_not_finite_is_null_and_not_no_json() -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    read = json.loads(to_json(audits.broken()), parse_constant=refuse)
    assert read["layers"][0]["not_finite"] == [3]
    assert read["oracle"] is None
