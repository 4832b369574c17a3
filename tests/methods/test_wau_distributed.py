"""WAU in two processes: DistributedDataParallel, FSDP2, and the refusal of FSDP1. One start of processes for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from reference import two_processes
from reference.nets import assert_same, batches, train_step
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, Optimizer

import filtersmith as fs
from filtersmith.filters import FilterLayer, locate
from filtersmith.optim.state import clear_filters

STEPS = 3
CONVOLUTIONS = {"0": 8, "2": 5, "4": 1, "6": 7, "8": 4}
"""Layer -> filters. 5 and 7 do not divide by two, and of 1 the second rank holds nothing."""


def network(grouped_transposed: bool = False) -> nn.Module:
    """No batch norm, so that halves of a batch are worth the whole."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 5, 1),
        nn.ReLU(),
        nn.Conv2d(5, 1, 1),
        nn.Tanh(),
        nn.ConvTranspose2d(1, 7, 2),
        nn.ReLU(),
        nn.ConvTranspose2d(7, 4, 1) if not grouped_transposed else nn.ConvTranspose2d(7, 7, 1, groups=7),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


def initialised(**options: Any) -> nn.Module:
    model = network(**options)
    model(torch.zeros(1, 3, 6, 6))
    return model


def adam(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=0.01)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[no-any-return]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("module."): whole(p.detach()).clone() for name, p in model.named_parameters()}


def run(
    model: nn.Module, wau: fs.WAU, optimizer: Optimizer, rank: int = 0, world: int = 1
) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Weights and masks after each step on this rank's part of each batch."""
    steps = []
    for _, (images, labels) in zip(range(STEPS), batches(size=6), strict=False):
        train_step(model, optimizer, (images[rank::world], labels[rank::world]))
        steps.append((weights(model), wau.active))
    return steps


def ddp(mode: Any = "update") -> Any:
    model = DistributedDataParallel(initialised())
    optimizer = adam(model)
    wau = fs.WAU(model, rate=0.5, seed=3, mode=mode).attach(optimizer)
    return run(model, wau, optimizer, dist.get_rank(), 2)


def fsdp2(unit: Any, wau_first: bool, mode: Any = "update") -> Any:
    model = initialised()
    options: dict[str, Any] = {"rate": 0.5, "seed": 3, "unit": unit, "mode": mode}
    wau = fs.WAU(model, **options) if wau_first else None
    fully_shard(model[0])
    fully_shard(model)
    optimizer = adam(model)
    wau = (wau or fs.WAU(model, **options)).attach(optimizer)
    start = weights(model)
    steps = run(model, wau, optimizer, dist.get_rank(), 2)
    cleared = {}
    for name in ("0", "4", "6"):
        layer = FilterLayer(name, model.get_submodule(name))
        clear_filters(optimizer, layer, torch.tensor([0]))
        cleared[name] = whole(optimizer.state[layer.weight]["exp_avg"]).clone()
    return start, steps, cleared


def refused(make: Any) -> str:
    try:
        make()
    except ValueError as error:
        return str(error)
    return "not refused"


def fsdp1() -> None:
    fs.WAU(FullyShardedDataParallel(initialised(), device_id=torch.device("cpu")))


def fsdp2_elements() -> None:
    model = fully_shard(initialised())
    optimizer = adam(model)
    fs.WAU(model, unit="element").attach(optimizer)
    train_step(model, optimizer, next(batches()))


def fsdp2_grouped_transposed() -> None:
    model = fully_shard(initialised(grouped_transposed=True))
    optimizer = adam(model)
    fs.WAU(model).attach(optimizer)
    train_step(model, optimizer, next(batches()))


def partial_sums() -> None:
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    tensor = DTensor.from_local(torch.zeros(4, 2, 1, 1), mesh, [Partial()])
    locate(FilterLayer("layer", nn.Conv2d(2, 4, 1)), torch.tensor([0]), tensor=tensor)


def zero() -> Any:
    """Each rank's inner optimizer steps its own part of the parameters."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = DistributedDataParallel(initialised())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), SGD, lr=0.05)
    wau = fs.WAU(model, rate=0.5, seed=3)
    wau.attach(optimizer)
    before = weights(model)
    train_step(model, optimizer, next(batches()))
    return before, weights(model), wau.active


def everything() -> dict[str, Any]:
    return {
        "ddp": ddp(),
        "ddp, skip": ddp("skip"),
        "fsdp2, skip": fsdp2("filter", wau_first=False, mode="skip"),
        "fsdp2, WAU first, skip": fsdp2("filter", wau_first=True, mode="skip"),
        "fsdp2": fsdp2("filter", wau_first=False),
        "fsdp2, WAU first": fsdp2("filter", wau_first=True),
        "fsdp2, input channels": fsdp2("input-channel", wau_first=False),
        "zero": zero(),
        "fsdp1": refused(fsdp1),
        "partial sums": refused(partial_sums),
        "fsdp2, elements": refused(fsdp2_elements),
        "fsdp2, grouped transposed": refused(fsdp2_grouped_transposed),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return two_processes.run(everything, tmp_path_factory.mktemp("ranks"))


def alone(unit: Any = "filter", mode: Any = "update") -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """The same run in one process on whole batches."""
    model = initialised()
    optimizer = adam(model)
    return run(model, fs.WAU(model, rate=0.5, seed=3, unit=unit, mode=mode).attach(optimizer), optimizer)


def changed(name: str, after: dict[str, Tensor], before: dict[str, Tensor], axis: int) -> list[bool]:
    differ = after[f"{name}.weight"] != before[f"{name}.weight"]
    return differ.transpose(0, axis).flatten(1).any(1).tolist()  # type: ignore[no-any-return]


def assert_close_run(ours: list[Any], theirs: list[Any]) -> None:
    for (weights_a, masks_a), (weights_b, masks_b) in zip(ours, theirs, strict=True):
        assert_same(masks_a, masks_b)
        torch.testing.assert_close(weights_a, weights_b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("case", "mode"), [("ddp", "update"), ("ddp, skip", "skip")])
def test_ddp_ranks_hold_the_same_filters_and_keep_the_same_weights(
    ranks: list[dict[str, Any]], case: str, mode: str
) -> None:
    assert_same(ranks[0][case], ranks[1][case])
    assert_close_run(ranks[0][case], alone(mode=mode))


@pytest.mark.parametrize(
    ("case", "unit", "mode"),
    [
        ("fsdp2", "filter", "update"),
        ("fsdp2, WAU first", "filter", "update"),
        ("fsdp2, input channels", "input-channel", "update"),
        ("fsdp2, skip", "filter", "skip"),
        ("fsdp2, WAU first, skip", "filter", "skip"),
    ],
)
def test_fsdp2_is_the_run_of_one_process(ranks: list[dict[str, Any]], case: str, unit: str, mode: str) -> None:
    assert_same(ranks[0][case], ranks[1][case])
    before, steps, _ = ranks[0][case]
    assert_close_run(steps, alone(unit, mode))
    for after, active in steps:
        for name in CONVOLUTIONS:
            axis = int((name in ("6", "8")) == (unit == "filter"))
            moved = changed(name, after, before, axis)
            # Held means bit for bit; what is active moves unless its gradient is 0 (a dead ReLU behind it).
            assert not any(m and not a for m, a in zip(moved, active[name].tolist(), strict=True)), name
        before = after
    assert sum(changed("0", after, ranks[0][case][0], 0)) > 4, "always the same filters"


def test_fsdp2_rows_of_optimizer_state_are_cleared_on_the_rank_that_holds_them(ranks: list[dict[str, Any]]) -> None:
    for name, average in ranks[0]["fsdp2"][2].items():
        rows = average.transpose(0, int(name == "6")).flatten(1)
        assert not rows[0].any()
        assert len(rows) == 1 or rows[1:].any()


def test_zero_redundancy_optimizer(ranks: list[dict[str, Any]]) -> None:
    assert_same(ranks[0]["zero"][1], ranks[1]["zero"][1])
    before, after = ranks[0]["zero"][:2]
    masks = ranks[0]["zero"][2]
    assert set(masks) == set(CONVOLUTIONS), "also of what another rank steps"
    assert_same(masks, ranks[1]["zero"][2])
    for name, mask in masks.items():
        moved = changed(name, after, before, int(name in ("6", "8")))
        assert not any(m and not a for m, a in zip(moved, mask.tolist(), strict=True)), name


def test_what_shards_filters_beyond_recognition_is_refused(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert "FullyShardedDataParallel flattens the weights" in rank["fsdp1"]
        assert "fully_shard" in rank["fsdp1"]
        assert "only Shard and Replicate keep filters whole" in rank["partial sums"]
        assert "'0'" in rank["fsdp2, elements"]
        assert "use unit='filter'" in rank["fsdp2, elements"]
        assert "grouped transposed layer '8'" in rank["fsdp2, grouped transposed"]
