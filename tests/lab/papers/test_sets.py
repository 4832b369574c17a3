"""The papers' sets: what they hold, and what is said of those that a person has to bring."""

from __future__ import annotations

import pytest

from filtersmith.lab.papers.published import tables
from filtersmith.lab.papers.sets import SETS, needed
from filtersmith.lab.reproduce.measured import TITLES
from filtersmith.lab.tasks.names import TASKS


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_of_a_task_and_those_to_be_brought_say_from_where(name: str) -> None:
    one = SETS[name]
    assert one.task in TASKS
    assert bool(one.form) == bool(one.source)
    assert one.holds(one.train, one.test, one.classes)
    assert not one.holds(one.train - 1, one.test, one.classes)
    assert TITLES[name] == one.title


def test_what_is_needed_is_one_line_with_the_option() -> None:
    said = needed("imagenet")
    assert said.startswith("ImageNet (ILSVRC 2012 from image-net.org, as train/CLASS/IMAGE and val/CLASS/IMAGE)")
    assert said.endswith("named by --data imagenet=imagefolder:PATH")


def test_every_set_to_be_brought_is_that_of_a_table() -> None:
    used = {name for of in tables() for name in of.own_copies()}
    assert used == {name for name, one in SETS.items() if one.form}
