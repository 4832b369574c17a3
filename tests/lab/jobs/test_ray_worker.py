"""The two ends of a worker on a cluster, without one; with one: `test_on_ray`."""

from __future__ import annotations

import dataclasses
import queue
import time
from pathlib import Path
from typing import Any

import pytest

from filtersmith.lab.jobs import process, ray_worker
from filtersmith.lab.jobs.process import Event
from filtersmith.lab.jobs.ray_worker import RayWorker, Seat, Shared, lost, missing_here, versions

FIRST: dict[str, Any] = {"threads": 3, "limit": None}

ECHO = (
    "import json, os, sys; first = json.loads(sys.stdin.readline()); "
    "print(json.dumps({'limit': first['limit'], 'threads': os.environ['OMP_NUM_THREADS'], "
    "'gpus': os.environ.get('CUDA_VISIBLE_DEVICES'), 'folder': os.getcwd()}), flush=True); "
    "print(json.dumps({'order': json.loads(sys.stdin.readline())}), flush=True); sys.exit(3)"
)


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    (tmp_path / "marker").write_text("token")
    return Shared(str(tmp_path), "marker", "token", str(tmp_path), versions())


def heard(seat: Seat, known: int, count: int) -> list[dict[str, Any]]:
    end, said = time.monotonic() + 30, seat.said(known)
    while len(said) < count and time.monotonic() < end:
        said = seat.said(known) if not said else [*said, *seat.said(known + len(said))]
    return said


def test_what_a_node_lacks(shared: Shared) -> None:
    assert missing_here(shared) is None
    other = dataclasses.replace(shared, token="another")
    assert f"does not see --out {shared.out}: choose" in (missing_here(other) or "")
    assert "does not see --out /nowhere: " in (missing_here(dataclasses.replace(shared, out="/nowhere")) or "")
    assert "has no /nowhere: run" in (missing_here(dataclasses.replace(shared, folder="/nowhere")) or "")
    assert "and this command has 0.0" in (missing_here(dataclasses.replace(shared, version="0.0")) or "")


def test_a_seat_on_a_node_that_lacks_something_refuses(shared: Shared) -> None:
    seat = Seat(dataclasses.replace(shared, token="another"), FIRST, 0)
    refused, gone = seat.said(0)
    assert "does not see" in refused["refused"]
    assert gone == {"gone": "was refused"}
    seat.tell({})
    seat.dismiss()
    seat.kill()


def test_a_seat_passes_orders_and_reports_on(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_CODE", ECHO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seat = Seat(shared, {**FIRST, "limit": ["1h", time.time() + 3600]}, 0)
    (first,) = heard(seat, 0, 1)
    assert (first["threads"], first["gpus"], first["folder"]) == ("3", "", shared.folder)
    assert first["limit"][1] - time.monotonic() == pytest.approx(3600, abs=30)
    assert seat.said(0) == [first], "kept until it is known to have been received"
    seat.tell({"stop": 130})
    assert heard(seat, 1, 2) == [{"order": {"stop": 130}}, {"gone": "ended with exit code 3"}]
    of_gpus = Seat(shared, FIRST, 0.5)
    assert heard(of_gpus, 0, 1)[0]["gpus"] == "1", "as Ray has said"
    of_gpus.kill()
    assert heard(of_gpus, 1, 1)[-1]["gone"].startswith("was killed by SIGKILL")


class Remote:
    """A method of an actor, as far as it is used here."""

    def __init__(self, answer: Any) -> None:
        self.remote = answer


class Actor:
    def __init__(self, reports: list[list[dict[str, Any]]]) -> None:
        self.asked: list[int] = []
        self.said = Remote(lambda known: (self.asked.append(known), reports)[1])


def test_reports_are_asked_for_one_after_the_other_until_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    import ray
    from ray.exceptions import ActorUnavailableError, GetTimeoutError

    def get(reports: list[Any], timeout: float) -> Any:
        answer = reports.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray_worker, "time", type("Clock", (), {"sleep": staticmethod(lambda seconds: None)}))
    events: queue.Queue[Event] = queue.Queue()
    unavailable = ActorUnavailableError("no answer", b"0" * 16)
    actor = Actor(
        [GetTimeoutError(), [{"ready": True}], unavailable, [], [{"note": "a"}, {"note": "b"}], OSError("x")]
    )
    worker = RayWorker(4, actor, events, "no place")
    said = [events.get(timeout=10).said for _ in range(5)]
    assert said == [
        {"waits": "note: no run is trained yet: no place"},
        {"ready": True},
        {"note": "a"},
        {"note": "b"},
        None,
    ]
    assert actor.asked == [0, 1, 1, 1, 3]
    assert worker.how_it_ended() == "was lost: x"


def test_how_an_actor_was_lost() -> None:
    text = "The actor died unexpectedly.\nclass_name: Seat\nThe actor died because its node has died. Node Id: 3"
    assert lost(RuntimeError(text)) == "was lost with its node"
    text = "The actor died unexpectedly before finishing this task.\n\tclass_name: Seat\n\tpid: 7"
    assert lost(RuntimeError(text)) == "was lost: The actor died unexpectedly before finishing this task."
    assert lost(RuntimeError("odd")) == "was lost: odd"
