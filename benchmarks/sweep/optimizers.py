"""Every optimizer of timm and of torch, and what each needs to be made and stepped."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.sweep import cycles, masks
from benchmarks.sweep.outcome import Outcome, Row, judge, one_line
from benchmarks.sweep.twins import Setup, network

CHECKS = {
    "off": masks.off,
    "held": masks.held,
    "pruned": cycles.left_out,
    "restored": cycles.restored,
    "restart": masks.restart,
    "average": masks.average,
    "zeroed": cycles.zeroed,
}
"""Column -> check."""

LOOKAHEAD = ("sgd", "adam", "adamw", "radam", "lamb", "madgrad")
"""Optimizers of timm that are tried inside its Lookahead, too."""
RATES = {"Adadelta": 1.0, "LBFGS": 0.1, "adadelta": 1.0}
"""Learning rates other than 0.01, where that moves nothing or too much."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "Adam": {"amsgrad": True},
    "LBFGS": {"max_iter": 4, "history_size": 4},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "SGD": {"momentum": 0.9, "nesterov": True},
    **{name: {"max_size_triangular": 18} for name in ("kron", "kronc", "kronw")},
}
"""For state that the defaults do not have, and for time (Kron multiplies all factors of a weight in one go)."""
WITH_CLOSURE = {"LBFGS"}


def every(device: str) -> Iterator[Setup]:
    """All set-ups; whether one can be made shows when it is."""
    yield from torchs(device)
    yield from timms(device)


def timms(device: str) -> Iterator[Setup]:
    """Every name that timm lists, made as its training script does it, and some inside Lookahead."""
    from timm.optim import create_optimizer_v2, list_optimizers

    for name in [*list_optimizers(), *(f"lookahead_{name}" for name in LOOKAHEAD)]:
        rate = RATES.get(name, 0.01)

        def make(model: nn.Module, decay: float, name: str = name, rate: float = rate) -> list[Optimizer]:
            return [create_optimizer_v2(model, name, lr=rate, weight_decay=decay, **OPTIONS.get(name, {}))]

        yield Setup("timm", name, make, device=device)


def torchs(device: str) -> Iterator[Setup]:
    """Every optimizer of torch in each implementation that the device has; Muon beside AdamW."""
    for cls in sorted(_classes(), key=lambda cls: cls.__name__):
        if cls is torch.optim.Muon:
            yield Setup("torch", "Muon and AdamW", _muon, device=device)
            continue
        for variant, options in _variants(cls, device).items():

            def make(
                model: nn.Module, decay: float, cls: Any = cls, options: Mapping[str, Any] = options
            ) -> list[Optimizer]:
                takes_decay = "weight_decay" in inspect.signature(cls).parameters
                given = {"lr": RATES.get(cls.__name__, 0.01), **OPTIONS.get(cls.__name__, {}), **options}
                return [cls(model.parameters(), **given, **({"weight_decay": decay} if takes_decay else {}))]

            name = f"{cls.__name__} {variant}".strip()
            yield Setup("torch", name, make, closure=cls.__name__ in WITH_CLOSURE, device=device)


def run(setup: Setup) -> Row:
    """All checks of one optimizer, or why it cannot be tried here."""
    with torch.compiler.set_stance("force_eager"):  # Kron compiles what it steps with: minutes for nothing
        try:
            setup.make(network().to(setup.device), setup.decay)
        except Exception as error:
            return Row(setup.library, setup.name, cannot=f"cannot be made: {one_line(error)}")
        control = judge(lambda: masks.plain(setup))
        if control.word != "passed":
            return Row(setup.library, setup.name, cannot=f"cannot be run: {control.reason}")
        return Row(setup.library, setup.name, {check: judged(check, setup) for check in CHECKS})


def judged(check: str, setup: Setup) -> Outcome:
    """How one check ends."""
    return judge(lambda: CHECKS[check](setup))


def _classes() -> list[type[Optimizer]]:
    found = [getattr(torch.optim, name) for name in dir(torch.optim)]
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer]


def _variants(cls: type[Optimizer], device: str) -> dict[str, dict[str, Any]]:
    """The implementations of an optimizer: name -> options; the first is what torch takes by itself."""
    takes = inspect.signature(cls).parameters
    wanted = {"": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    if device != "cpu":
        wanted = {"": {}, "loop": {"foreach": False}, "fused": {"fused": True}}
        wanted["capturable"] = {"capturable": True}
    return {name: options for name, options in wanted.items() if all(option in takes for option in options)}


def _muon(model: nn.Module, decay: float) -> list[Optimizer]:
    """Muon for the matrices, AdamW for the rest, as it is meant to be used."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    rest = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    return [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=decay),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=decay),
    ]
