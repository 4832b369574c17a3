"""RePr and the loss term in two processes: rank 0 decides, and both stay the same. One start of processes for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from reference import two_processes
from reference.nets import assert_same
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

import filtersmith as fs
from filtersmith.zoo.vanilla import Vanilla


def network() -> Vanilla:
    """No batch norm, so that halves of a batch are worth the whole."""
    torch.manual_seed(0)
    return Vanilla(3, 6, image_size=8, bn=False).double()


def of_another_mind(weight: Tensor) -> Tensor:
    """An importance of filters that the two ranks do not agree on."""
    order = torch.arange(len(weight)).float()
    return order if dist.is_initialized() and dist.get_rank() == 0 else -order


def run(
    model: nn.Module, inner: nn.Module, share: slice, rank: Any, seed: int, *, weight: float = 0, cycles: int = 2
) -> dict[str, Any]:
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    cycle = fs.RePr(model, optimizer, s1=1, s2=1, cycles=cycles, prune=0.4, rank=rank, seed=seed, reinit_next="small")
    penalty = fs.OrthoLoss(model, weight)
    masks = []
    for epoch in range(5):
        for step in range(2):
            generator = torch.Generator().manual_seed(10 * epoch + step)
            x, y = torch.randn(4, 3, 8, 8, generator=generator).double(), torch.randint(10, (4,), generator=generator)
            optimizer.zero_grad()
            (F.cross_entropy(model(x[share]), y[share]) + penalty()).backward()
            optimizer.step()
        cycle.step()
        masks.append(cycle.pruned)
    momentum = [optimizer.state[p]["momentum_buffer"] for p in inner.parameters()]
    return {"masks": masks, "weights": dict(inner.state_dict()), "momentum": momentum, "restarts": cycle.restarts}


def work() -> dict[str, Any]:
    """In each process: with a criterion that both agree on, and with one that they do not."""
    rank = dist.get_rank()
    found = {}
    half = slice(2 * rank, 2 * rank + 2)
    for name, criterion in (("agreed", "l2"), ("not agreed", of_another_mind)):
        inner = network()
        seed = 0 if name == "agreed" else rank  # the ranks would also draw other filters
        found[name] = run(DistributedDataParallel(inner), inner, half, criterion, seed)
    inner = network()
    # Alone: where restored filters are orthogonal, the last bit decides on the sign of the penalty's gradient.
    found["penalty"] = run(DistributedDataParallel(inner), inner, half, "l2", 0, weight=0.01, cycles=0)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return two_processes.run(work, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", ["agreed", "not agreed"])
def test_both_ranks_stay_the_same(ranks: list[Any], case: str) -> None:
    assert_same(ranks[0][case], ranks[1][case])
    dropped = [sum(int(mask.sum()) for mask in masks.values()) for masks in ranks[0][case]["masks"]]
    assert dropped == [5, 0, 5, 0, 0]


def test_rank_0_decides(ranks: list[Any]) -> None:
    for masks in (ranks[1]["not agreed"]["masks"][0], ranks[1]["not agreed"]["masks"][2]):
        assert [mask.nonzero().flatten().tolist() for mask in masks.values()] == [[0, 1, 2], [0, 1]]


@pytest.mark.parametrize(("case", "options"), [("agreed", {}), ("penalty", {"weight": 0.01, "cycles": 0})])
def test_two_halves_train_like_the_whole_batch(ranks: list[Any], case: str, options: dict[str, Any]) -> None:
    model = network()
    alone = run(model, model, slice(None), "l2", 0, **options)
    assert_same(alone["masks"], ranks[0][case]["masks"])
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(ranks[0][case]["weights"][name], weight, rtol=1e-9, atol=1e-12)
