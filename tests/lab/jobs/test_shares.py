"""What a worker gets of the machine."""

from __future__ import annotations

import pytest

from filtersmith.lab.jobs.shares import environment_of, read_jobs, threads_each, visible_gpus


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5", "2 ", "1e3", "٣", 0, True])
def test_what_is_no_number_of_jobs(value: object) -> None:
    with pytest.raises(ValueError, match=r"^--jobs must be a whole number of at least 1: .*, got ") as caught:
        read_jobs(value)
    assert str(caught.value).endswith(repr(value))


def test_jobs() -> None:
    assert [read_jobs(value) for value in ("1", "12", 3)] == [1, 12, 3]


def test_threads_are_divided_and_there_is_one_at_least() -> None:
    assert [threads_each(8, jobs) for jobs in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


def test_gpus_in_turn_among_those_that_are_visible() -> None:
    assert visible_gpus({}, 3) == ["0", "1", "2"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "3, GPU-ab"}, 2) == ["3", "GPU-ab"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, 1) == ["1"], "CUDA stops at the first that is none"
    assert [environment_of(n, 2, ["3", "5"])["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["3", "5", "3"]


def test_threads_are_set_for_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    own = environment_of(0, 2, [])
    assert (own["OMP_NUM_THREADS"], own["MKL_NUM_THREADS"], own["CUDA_VISIBLE_DEVICES"]) == ("2", "2", "7")
