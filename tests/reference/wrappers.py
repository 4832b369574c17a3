"""Wrappers of optimizers in every form in which they share parameter groups, or do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

Params = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


class SAM(Optimizer):
    """The usual form: groups in common. Only what matters here: its step is the inner one's."""

    shares_the_list = True

    def __init__(self, params: Any, base: Any = SGD, rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base(self.param_groups, **options)
        if self.shares_the_list:
            self.param_groups = self.base_optimizer.param_groups

    def step(self, closure: Any = None) -> None:
        self.base_optimizer.step(closure)


class LooseSAM(SAM):
    """The same dictionaries in a list of its own; after ``load_state_dict`` not even that."""

    shares_the_list = False


class NoRate(Optimizer):
    """Has groups of its own, with no learning rate (the SAM of sam-pytorch)."""

    def __init__(self, params: Any, **options: Any) -> None:
        params = list(params)
        super().__init__(params, {"rho": 0.05})
        self.optim = SGD(params, **options)

    def step(self, closure: Any = None) -> None:
        self.optim.step(closure)


class Apart(Optimizer):
    """Has groups of its own with the same options, and never passes them on."""

    def __init__(self, params: Any, **options: Any) -> None:
        params = list(params)
        super().__init__(params, options)
        self._opt = SGD(params, **options)

    def step(self, closure: Any = None) -> None:
        self._opt.step(closure)


class Pair(Optimizer):
    """Two in one, as of Muon for matrices and AdamW for the rest; its groups are theirs."""

    def __init__(self, params: Any, **options: Any) -> None:
        params = list(params)
        self.matrices = SGD([p for p in params if p.ndim > 1], **options)
        self.rest = SGD([p for p in params if p.ndim <= 1], **options)
        super().__init__([{"params": params}], options)
        self.param_groups = [*self.matrices.param_groups, *self.rest.param_groups]

    def step(self, closure: Any = None) -> None:
        self.matrices.step()
        self.rest.step()


class Several:
    """No optimizer: steps each of those that it has."""

    def __init__(self, params: Any, **options: Any) -> None:
        pair = Pair(params, **options)
        self.all = [pair.matrices, pair.rest]

    def zero_grad(self) -> None:
        for one in self.all:
            one.zero_grad()

    def step(self) -> None:
        for one in self.all:
            one.step()


def lookahead(params: Any, **options: Any) -> Any:
    timm = pytest.importorskip("timm.optim.lookahead")
    return timm.Lookahead(SGD(params, **options), k=2)


def accelerated(params: Any, **options: Any) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.Accelerator(cpu=True).prepare(SGD(params, **options))


def lightning(params: Any, **options: Any) -> Any:
    module = pytest.importorskip("lightning.pytorch.core.optimizer")

    class Stepping(module.LightningOptimizer):  # type: ignore[name-defined,misc]
        """Without a trainer."""

        def step(self, closure: Any = None, **_: Any) -> Any:
            return self._optimizer.step(closure)

    return Stepping(SGD(params, **options))


def zero(params: Any, base: Any = SGD, **options: Any) -> Any:
    """Needs a process group."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(list(params), base, **options)


def processes(folder: Any) -> None:
    """A process group of one, for `zero`; the caller destroys it."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=0, world_size=1)


SHARED: dict[str, Callable[..., Any]] = {
    "plain": SGD,
    "sam": SAM,
    "loose sam": LooseSAM,
    "lookahead": lookahead,
    "accelerate": accelerated,
    "lightning": lightning,
    "two in one": Pair,
    "several": Several,
    "sam of lookahead": lambda params, **options: SAM(params, base=lookahead, **options),
    "no rate outside": NoRate,
}
"""Those whose inner groups are the outer ones, or are the only ones with a learning rate."""

OWN: dict[str, Callable[..., Any]] = {"zero": zero, "apart": Apart}
"""Those that have groups of their own inside."""
