"""Small optimizers that keep what they keep in every way that people use, and the loops that train with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from filtersmith.filters import FilterLayer, locate


class Own(Optimizer):
    """A learning rate, and an update of each parameter that subclasses say."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, self.state[p], group)

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError


class RowWise(Own):
    """One second moment for each row, in a vector; and momentum."""

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(v=torch.ones(len(p)), m=torch.zeros_like(p))
        state["v"].mul_(0.9).add_(grad.flatten(1).square().mean(1) if p.ndim > 1 else grad.square(), alpha=0.1)
        state["m"].mul_(0.9).add_(grad / state["v"].sqrt().view(-1, *[1] * (p.ndim - 1)))
        p.sub_(state["m"], alpha=group["lr"])


class Counting(Own):
    """Momentum, with its counter and a random number in attributes."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.step_count = 0
        self.generator = torch.Generator().manual_seed(3)

    def step(self, closure: Any = None) -> None:
        self.step_count += 1
        self.jitter = 1 + 0.1 * float(torch.rand((), generator=self.generator))
        super().step(closure)

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        m = state.setdefault("m", torch.zeros_like(p)).mul_(0.9).add_(grad, alpha=0.1)
        p.sub_(m, alpha=group["lr"] * self.jitter / (1 - 0.9**self.step_count))


class MadeInTheConstructor(Own):
    """Its momentum is there from the start, and it stays at the weights of the start."""

    def __init__(self, params: Any, lr: float = 0.1, beta: float = 0.5) -> None:
        super().__init__(params, lr)
        self.beta = beta
        for group in self.param_groups:
            group["steps"] = 0
            for p in group["params"]:
                self.state[p].update(m=torch.full_like(p, 0.0), start=p.detach().clone())

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["steps"] += 1
        super().step(closure)

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["m"].mul_(self.beta).add_(grad)
        p.sub_(state["m"] + (p - state["start"]) / group["steps"], alpha=group["lr"])


class Unknowable(MadeInTheConstructor):
    """As its parent, with an argument that it does not show."""

    def __init__(self, params: Any, secret: float) -> None:
        super().__init__(params, beta=secret / 2)


class Matrix(Own):
    """A matrix of all pairs of rows, of which only the diagonal is used; and momentum."""

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["pairs"], state["m"] = 0.1 * torch.eye(len(p)), torch.zeros_like(p)
        rows = grad.flatten(1) if p.ndim > 1 else grad[:, None]
        state["pairs"] += rows @ rows.T
        state["m"].mul_(0.9).add_(grad)
        p.sub_(group["lr"] * state["m"] / state["pairs"].diagonal().sqrt().view(-1, *[1] * (p.ndim - 1)))


class Mixing(Own):
    """Momentum of the rows in the directions of their main axes, as SOAP has it: of no single row."""

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        rows = grad.flatten(1) if p.ndim > 1 else grad[:, None]
        if not state:
            state.update(pairs=torch.eye(len(p)), m=torch.zeros_like(rows))
        state["pairs"] += rows @ rows.T
        axes = torch.linalg.eigh(state["pairs"]).eigenvectors
        state["m"].mul_(0.9).add_(axes.T @ rows)
        p.sub_((axes @ state["m"]).view_as(p), alpha=group["lr"])


class Rebinding(Own):
    """Makes new tensors in every step, of the parameter as well."""

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["m"] = 0.9 * state.get("m", torch.zeros_like(p)) + grad
        p.data = p.data - group["lr"] * state["m"]


class InAttributes(Own):
    """Its momentum is in a list beside the groups."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.momenta = [[torch.zeros_like(p) for p in group["params"]] for group in self.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group, momenta in zip(self.param_groups, self.momenta, strict=True):
            for p, m in zip(group["params"], momenta, strict=True):
                if p.grad is not None:
                    p.sub_(m.mul_(0.9).add_(p.grad), alpha=group["lr"])


class InDouble(Own):
    """Has the weights in double precision, too, and writes them into the network in every step."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.double = [p.detach().double() for p in self.param_groups[0]["params"]]

    def step(self, closure: Any = None) -> None:
        with torch.no_grad():
            for p, double in zip(self.param_groups[0]["params"], self.double, strict=True):
                p.copy_(double.sub_(p.grad, alpha=0.1))


class SlowWeights(Optimizer):
    """A wrapper that keeps weights of its own, and goes back to them half of the way every third step."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base.param_groups, {})
        self.base_optimizer, self.param_groups = base, base.param_groups
        self.taken = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.base_optimizer.step()
        self.taken += 1
        for p in (p for group in self.param_groups for p in group["params"] if self.taken % 3 == 0):
            if "slow" not in self.state[p]:
                self.state[p]["slow"] = torch.empty_like(p).copy_(p)
            p.copy_(self.state[p]["slow"].lerp_(p, 0.5))


MakeAny = Callable[[Any], Any]


def kernels() -> nn.Sequential:
    """A layer of every kind of kernel; nothing is ever computed with it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        up, grouped = nn.ConvTranspose2d(5, 6, 2), nn.ConvTranspose2d(6, 4, 2, groups=2)
        return nn.Sequential(nn.Conv2d(3, 5, 3), up, grouped, nn.Linear(7, 5))


def steps(network: nn.Module, optimizer: Any, count: int, seed: int = 0, size: float = 1.0) -> None:
    """Steps with random gradients of a size."""
    generator = torch.Generator().manual_seed(seed)

    def closure() -> Tensor:
        for p in network.parameters():
            p.grad = size * (torch.randn(p.shape, generator=generator) + 0.3 * p.detach())
        return torch.ones(())

    for _ in range(count):
        if type(optimizer).__name__ == "LBFGS":
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


@torch.no_grad()
def renewed(network: nn.Sequential, filters: Tensor, seed: int = 5) -> list[tuple[FilterLayer, Tensor]]:
    """Give filters of every layer new weights, as RePr does; the layers, with copies of these weights."""
    generator, found = torch.Generator().manual_seed(seed), []
    for name, module in network.named_children():
        layer = FilterLayer(name, module)
        view, index = locate(layer, filters)
        view[index] = torch.randn(view[index].shape, generator=generator)
        found.append((layer, view[index].clone()))
    return found


def rows_of(layer: FilterLayer, filters: Tensor, tensor: Tensor | None = None) -> Tensor:
    """A copy of what filters have in a tensor of the shape of their weight."""
    view, index = locate(layer, filters, tensor=tensor)
    return view[index].clone()
