"""Every data set has a name and a line."""

from __future__ import annotations

from filtersmith.lab.data.sources import SOURCES, names


def test_every_listed_name_has_a_line() -> None:
    assert names() == tuple(SOURCES)
    assert {"digits", "cifar10", "cifar100", "svhn", "imagefolder:PATH", "hf:PATH_OR_ID"} == set(names())
    assert all(line and "\n" not in line for line in SOURCES.values())
