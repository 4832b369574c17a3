"""What all tests share: one thread (two cores are enough for everything), fixed seeds, no deadlines."""

from __future__ import annotations

import gc
import signal

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
gc.disable()  # until all is collected: what is imported stays
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
settings.register_profile("filtersmith", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("filtersmith")


LONG = ("test_extending", "test_export", "test_matrix")
FORKED = ("test_side_by_side", "test_resume", "test_distributed", "test_repr_distributed", "test_wau_distributed")
FORKED += ("test_sharded", "test_metric", "test_subnetwork", "test_expand", "test_ties", "test_lr", "test_report")
FORKED += ("test_processes", "test_on_ray")
"""Files with processes that are forked from a server (`reference.server`)."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps a stack trace for a GPU, half a millisecond


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; what needs the server of processes by one worker, so that one server is started."""
    for item in items:
        if item.path.stem in FORKED:
            item.add_marker(pytest.mark.xdist_group("forked"))
    items.sort(key=lambda item: (item.path.stem not in FORKED, item.path.stem not in LONG))


def pytest_collection_finish() -> None:
    """What was imported stays: looking through it again for garbage would take a fifth of the time of all tests."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()
