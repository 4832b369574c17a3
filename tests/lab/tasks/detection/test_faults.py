"""Faults are counted by kind and named, a line each."""

from __future__ import annotations

from filtersmith.lab.tasks.detection.faults import Fault, Faults


def test_nothing_wrong_has_no_lines() -> None:
    assert Faults().notes() == []
    assert Faults().count(Fault.NO_AREA) == 0


def test_a_line_for_each_kind_with_the_number_and_some_names() -> None:
    faults = Faults()
    for number in range(1200):
        faults.add(Fault.NO_AREA, f"{number // 2}.xml")
    faults.add(Fault.NO_IMAGE, "a.jpg")
    assert faults.count(Fault.NO_AREA) == 1200
    assert faults.notes() == [
        "1 image is not there and is left out: a.jpg",
        "1,200 boxes have no area and are left out: 0.xml, 1.xml, 2.xml and 597 more",
    ]


def test_every_kind_is_one_printable_line() -> None:
    faults = Faults()
    for fault in Fault:
        faults.add(fault, "a\nb \udcff.jpg")
    assert len(faults.notes()) == len(Fault)
    for line in faults.notes():
        assert line.startswith("1 ")
        assert line.endswith(": a b �.jpg")
        line.encode()
