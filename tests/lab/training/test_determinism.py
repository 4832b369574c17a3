"""The switches of one run are not those of the next."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from filtersmith.lab.training.determinism import determinism


def switches() -> tuple[bool, bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark,
    )


@pytest.mark.parametrize(
    ("wanted", "inside"), [(True, (True, True, False, False)), (False, (False, False, True, True))]
)
def test_while_it_is_entered(wanted: bool, inside: tuple[bool, ...]) -> None:
    before = switches()
    with suppress(KeyError), determinism(wanted):
        assert switches() == inside
        raise KeyError
    assert switches() == before
