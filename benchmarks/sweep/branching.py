"""Checks of what a network trains instead of what it deploys: expansions, and kernels that are shared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.optim import SGD

import filtersmith as fs
from benchmarks.sweep.leaving_out import tried
from benchmarks.sweep.outcome import expect
from benchmarks.sweep.subject import Found, Subject, equal, run

METHODS: dict[str, tuple[Callable[[], Any], bool]] = {
    "kflo": (lambda: fs.KFLO(depth=2, width=2), True),
    "do-conv": (fs.DOConv, True),
    "acnet": (fs.ACNet, False),
    "dbb": (fs.DBB, False),
}
"""Name -> the method, and whether the expanded network computes what it did before."""


def expanded(subject: Subject, method: str) -> None:
    """Expanded, it computes what it did where the method says so; collapsed after a step, always."""
    make, exact = METHODS[method]
    network = subject.make()
    plain = run(subject, subject.copied(network), training=False)
    tried(network, lambda: fs.expand(network, make()))
    if exact:
        equal(run(subject, network, training=False), _outputs(plain), "expanded")
    step(subject, network)
    collapsed = fs.collapse(network)
    right = run(subject, network, training=False)
    equal(_outputs(run(subject, collapsed, training=False)), _outputs(right), "collapsed")
    state, as_it_was = collapsed.state_dict(), subject.make().state_dict()
    folded = {name for name in state.keys() - as_it_was.keys() if not exact and name.endswith(".bias")}
    expect(state.keys() - folded == as_it_was.keys(), "collapsed, it has other tensors")
    shapes = all(tensor.shape == as_it_was[name].shape for name, tensor in state.items() if name not in folded)
    expect(shapes, "collapsed, it has tensors of other shapes")


def shared(subject: Subject) -> None:
    """Kernels that layers share train together, and come back from both kinds of files."""
    network = subject.make()
    tried(network, lambda: fs.share_kernels(network))
    step(subject, network)
    expect(fs.check_ties(network) == [], "after a step a layer has lost its tie")
    right = run(subject, network, training=False)
    again = subject.make()
    fs.share_kernels(again)
    again.load_state_dict(network.state_dict())
    equal(run(subject, again, training=False), right, "loaded")
    free = subject.make()
    free.load_state_dict(network.state_dict())
    equal(run(subject, free, training=False), right, "loaded into the plain network")
    if not _by_safetensors(subject.make(), subject.make()):  # MNASNet's state has a version, the file has none
        return
    again = subject.make()
    fs.share_kernels(again)
    expect(_by_safetensors(network, again), "it cannot be loaded from safetensors")
    equal(run(subject, again, training=False), right, "loaded from safetensors")


def _by_safetensors(network: nn.Module, other: nn.Module) -> bool:
    """Bring a network's tensors into another one; whether that can be done."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.safetensors"
        save_model(network, str(file))
        try:
            load_model(other, str(file))
        except Exception:  # a network's own words
            return False
    return True


def step(subject: Subject, network: nn.Module) -> None:
    """One step of training."""
    optimizer = SGD([p for p in network.parameters() if p.requires_grad], lr=0.0)
    found = run(subject, network, training=True)
    size = torch.stack([gradient.norm() for gradient in found.gradients.values()]).norm()
    optimizer.param_groups[0]["lr"] = 0.1 / float(size) if size > 0 else 0.0
    for name, parameter in network.named_parameters():
        parameter.grad = found.gradients[name].clone()
    optimizer.step()
    network.zero_grad()


def _outputs(found: Found) -> Found:
    return Found(found.outputs, {}, {})
