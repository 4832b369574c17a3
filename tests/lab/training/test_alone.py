"""Whether a run had the machine to itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from reference.running import config, digits

from filtersmith.lab.training import alone
from filtersmith.lab.training.alone import Machine, both
from filtersmith.lab.training.session import Position, Session


@pytest.mark.parametrize(
    ("seconds", "busy", "own", "expected"),
    [
        (10, 10.0, 10.0, True),
        (10, 20.0, 19.5, True),
        (10, 20.0, 18.9, False),  # more than 1 of the 20 seconds of two processors
        (10, 1.5, 0.1, False),
        (0.4, 0.4, 0.4, None),
    ],
)
def test_others_may_use_a_twentieth_of_all_processors(
    monkeypatch: pytest.MonkeyPatch, seconds: float, busy: float, own: float, expected: bool | None
) -> None:
    now = iter([(100.0, 50.0, 7.0), (100.0 + seconds, 50.0 + busy, 7.0 + own)])
    monkeypatch.setattr(alone, "_now", lambda: next(now))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert Machine().alone() is expected


def test_who_knows_of_others_says_so_and_where_nobody_counts_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine(shared=True).alone() is False
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert Machine().alone() is None


def test_the_work_of_children_is_ones_own() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    before = alone._now()
    with subprocess.Popen([sys.executable, "-c", burn], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        living = alone._now()
        child.communicate(b"\n")
    while time.process_time() < 0.1:
        pass
    ended = alone._now()
    assert before is not None
    assert living is not None
    assert ended is not None
    assert living[2] - before[2] > 0.45
    assert ended[2] >= living[2], "what an ended child did stays"
    assert ended[1] - before[1] > 0.4, "and it is work of the machine"


def test_a_run_was_alone_if_all_its_parts_were(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [True, False, None]
    table = {(one, other): both(one, other) for one in verdicts for other in verdicts}
    assert table[True, True] is True
    assert {pair for pair, verdict in table.items() if verdict is False} == {p for p in table if False in p}

    position = Position()
    assert position.alone_so_far() is None, "nobody looked"
    position.machine = Machine()
    part = True
    monkeypatch.setattr(Machine, "alone", lambda self: part)
    assert position.alone_so_far() is True
    state = position.state_dict()
    part = False
    resumed = Position()
    resumed.machine = Machine()
    resumed.load_state_dict(state)
    assert resumed.alone_so_far() is False
    state = resumed.state_dict()
    part = True
    again = Session(config(), digits()).position
    again.machine = Machine()
    again.load_state_dict(state)
    assert again.alone_so_far() is False
    del state["alone"]
    again.load_state_dict(state)
    assert again.alone_so_far() is None, "a checkpoint of an older version"
    again.machine = None
    again.load_state_dict({**state, "alone": True})
    assert again.alone_so_far() is True, "a finished run that is only made whole again"
