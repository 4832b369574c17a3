"""What is asked of a cluster, as it is typed; and what makes no sense."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from filtersmith.lab.jobs.cluster import Cluster, read_cluster
from filtersmith.lab.recipe.config import TrainOptions


def read(engine: str = "ray", **typed: str) -> Cluster | None:
    nothing: dict[str, Any] = dict.fromkeys(("jobs", "cpus", "gpus", "address"))
    return read_cluster(engine, **{**nothing, **typed})


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filtersmith.lab.jobs.cluster.util.find_spec", lambda name: object())


def test_what_is_asked_for() -> None:
    assert read("processes") is None
    assert read("processes", jobs="4") is None
    assert read() == Cluster(None, 1, None)
    assert read(cpus="2", gpus="0.25", address="10.0.0.1:6379") == Cluster("10.0.0.1:6379", 2, 0.25)
    assert read(cpus=".5", gpus="0") == Cluster(None, 0.5, 0)


def test_threads_follow_from_the_share_alone() -> None:
    assert [Cluster(cpus=cpus).threads for cpus in (0.25, 1.0, 4.0)] == [1, 1, 4]


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "1e3", "nan", "inf", "٣", " 1", "0.00001"])
def test_what_is_no_share(value: str) -> None:
    for name, option in (("cpus", "--cpus-per-run"), ("gpus", "--gpus-per-run")):
        with pytest.raises(ValueError, match=rf"^{option} must be .*a fraction of one.* got ") as caught:
            read(**{name: value})
        assert str(caught.value).endswith(repr(value))


def test_a_run_without_cpus_is_none() -> None:
    with pytest.raises(ValueError, match=r"^--cpus-per-run must be a fraction .*, got '0'$"):
        read(cpus="0")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"engine": "processes", "cpus": "2"}, "--cpus-per-run 2 needs --engine ray"),
        ({"engine": "processes", "gpus": "0.5"}, "--gpus-per-run 0.5 needs --engine ray"),
        ({"engine": "processes", "address": "auto"}, "--ray-address auto needs --engine ray"),
        ({"jobs": "2"}, "--jobs 2 beside --engine ray, where "),
        ({"address": "ray://head:10001"}, "--ray-address must be HOST:PORT of "),
        ({"address": " "}, "--ray-address must be HOST:PORT of "),
    ],
)
def test_what_makes_no_sense_together(typed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        read(**typed)
    assert "\n" not in str(caught.value)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ray", None)
    assert read("processes") is None
    with pytest.raises(ValueError, match=r'^--engine ray needs ray, .*: pip install "filtersmith\[ray\]"$'):
        read()


def test_gpus_of_a_run() -> None:
    auto, cpu, cuda = (TrainOptions(device=name) for name in ("auto", "cpu", "cuda"))
    assert Cluster().gpus_of(auto, there=True) == 1
    assert Cluster().gpus_of(auto, there=False) == 0
    assert Cluster().gpus_of(cpu, there=True) == 0
    assert Cluster(gpus=0.25).gpus_of(auto, there=True) == 0.25
    with pytest.raises(ValueError, match=r"^--gpus-per-run 0.25 beside train.device=cpu: "):
        Cluster(gpus=0.25).gpus_of(cpu, there=True)
    with pytest.raises(ValueError, match=r"^--gpus-per-run 0 beside train.device=cuda: "):
        Cluster(gpus=0).gpus_of(cuda, there=True)
