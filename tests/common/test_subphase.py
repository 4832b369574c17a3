"""Whose sub-phase a network is in, and what others do with it meanwhile."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import filtersmith as fs
from filtersmith.common.subphase import owner_of

OTHERS: dict[str, Any] = {
    "RePr": lambda net, optimizer: fs.RePr(net, optimizer),
    "Prune": lambda net, optimizer: fs.Prune(net, optimizer),
    "Prune, weights": lambda net, optimizer: fs.Prune(net, optimizer, unit="weight"),
    "DSD": lambda net, optimizer: fs.DSD(net, optimizer),
    "KFLO": lambda net, optimizer: fs.expand(net, fs.KFLO()),
    "ACNet": lambda net, optimizer: fs.expand(net, fs.ACNet()),
    "sharing": lambda net, optimizer: fs.share_kernels(net),
    "a composition": lambda net, optimizer: fs.compose("wau+repr").attach(net, optimizer, epochs=30),
}
REFUSED = r"^cannot [\w ]+: the network is in a sub-phase of {}, which leaves filters out of it: wait until .* first$"


def in_a_sub_phase(method: Any = fs.RePr, **options: Any) -> tuple[nn.Sequential, Any, Any]:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *(nn.Conv2d(8, 8, 3) for _ in range(2))]
    net = nn.Sequential(*convolutions, nn.Conv2d(8, 2, 1)).double()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    made = method(net, optimizer, **(options or {"s1": 1, "s2": 1, "cycles": 1}))
    assert made.step() == "pruned"
    return net, optimizer, made


def image(size: int = 2) -> Tensor:
    return torch.randn(size, 3, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("other", OTHERS)
def test_a_second_method_leaves_the_sub_phase_to_the_first(other: str) -> None:
    net, optimizer, first = in_a_sub_phase()
    net.eval()
    output, state, attributes = net(image()), copy.deepcopy(net.state_dict()), [vars(m).copy() for m in net.modules()]
    with pytest.raises(ValueError, match=REFUSED.format("RePr")):
        OTHERS[other](net, optimizer)
    assert torch.equal(net(image()), output)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert [vars(module).keys() for module in net.modules()] == [a.keys() for a in attributes]
    assert first.step() == "restored"
    assert not any(owner_of(module) for module in net.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        OTHERS[other](net, optimizer)


def test_of_two_that_were_made_before_the_second_waits() -> None:
    net, optimizer, _ = in_a_sub_phase(fs.Prune, after=1)
    for made in (fs.WAU(net).attach(optimizer), fs.EMA(net)):
        made.detach()
    with pytest.raises(ValueError, match=REFUSED.format("Prune")):
        fs.RePr(net, optimizer)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 3))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    cycle, pruning = fs.RePr(net, optimizer, s1=1, s2=1, cycles=1), fs.Prune(net, optimizer, after=1)
    cycle.step()
    gone = cycle.pruned["1"]
    with pytest.raises(ValueError, match=REFUSED.format("RePr")):
        pruning.step()
    assert pruning.phase == "full"
    assert torch.equal(cycle.pruned["1"], gone)
    cycle.step()
    pruning.step()
    with pytest.raises(ValueError, match=REFUSED.format("Prune")):
        cycle.load_state_dict({**cycle.state_dict(), "pruned": {"1": gone}})
    assert cycle.phase == "full"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "file"])
def test_a_copy_is_in_no_sub_phase(copied: Any) -> None:
    net, _, _ = in_a_sub_phase()
    twin = copied(net)
    fs.RePr(twin, torch.optim.SGD(twin.parameters(), 0.1))
    torch.testing.assert_close(twin.eval()(image()), net.eval()(image()))
    assert any(owner_of(module) for module in net.modules())


def test_an_average_of_a_sub_phase_computes_its_own_state() -> None:
    net, optimizer, first = in_a_sub_phase()
    average = fs.EMA(net, 0.0).attach(optimizer)
    first.step()
    net(image()).mean().backward()
    optimizer.step()
    assert torch.equal(average.network(image()), net(image()))
