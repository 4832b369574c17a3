"""Every two methods: they train together, both at work, stopped and gone on with; or are refused with a reason."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest
import torch
from reference.nets import assert_same
from reference.small_training import IMAGES, OPTIONS, composed, network, trained

from filtersmith import METHODS

FLOWS, RESTORES = {"asa", "sas", "flow"}, {"repr", "dsd", "prune"}
BRANCHES = {"do-conv", "acnet", "dbb"}
EXPANDS, MOVES = {"kflo", *BRANCHES}, {"wau", "conv-lr", *FLOWS}
REFUSED = [
    (FLOWS | RESTORES, FLOWS | RESTORES, "both divide the training into phases of their own"),
    (EXPANDS, EXPANDS, "both re-parametrize the kernels"),
    (BRANCHES, MOVES, "it is expanded already, and its parameters are not the kernel that is deployed"),
    (EXPANDS, RESTORES, "it is expanded already, and its parameters are not the kernel that is deployed"),
    (BRANCHES, {"ortho-loss"}, "it is expanded already, and its parameters are not the kernel that is deployed"),
    ({"ema"}, {"prune"}, "the average would not have the zeros of what is pruned"),
    ({"dacnn"}, EXPANDS | {"repr", "prune"}, "it shares its kernel with another layer"),
]
"""All that does not go together, and why."""


def reason(first: str, second: str) -> str | None:
    return next((why for a, b, why in REFUSED if (first in a and second in b) or (first in b and second in a)), None)


def spelled(*names: str) -> str:
    """In the order in which methods are joined: architecture, re-parametrization, others."""
    before = [name for name in METHODS if not METHODS[name].same_network]
    order = [*before, *(name for name in METHODS if name in EXPANDS), *METHODS]
    return "+".join(name + OPTIONS.get(name, "") for name in sorted(names, key=order.index))


@cache
def alone(text: str) -> dict[str, torch.Tensor]:
    return trained(text).state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("first", "second"), list(combinations(METHODS, 2)))
def test_two_methods(first: str, second: str) -> None:
    text, why = spelled(first, second), reason(first, second)
    if why is not None:
        with pytest.raises(ValueError, match=why) as refused:
            trained(text)
        assert "\n" not in str(refused.value)
        return
    deployed = trained(text)
    found = deployed.state_dict()
    assert all(value.isfinite().all() for value in found.values())
    for one in (first, second):
        assert not equal(found, alone(spelled(one))), f"{text} is {one} alone"
    plain = composed(text).change_architecture(network())
    plain.load_state_dict(found)
    torch.testing.assert_close(plain.eval()(IMAGES), deployed.eval()(IMAGES))
    assert_same(trained(text, stopped=True).state_dict(), found)
