"""Methods as the laboratory names them (``wau(rate=0.3)``), and how each kind meets the training loop."""

from __future__ import annotations

import ast
import inspect
import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from filtersmith.errors import bad_option, unknown_name
from filtersmith.methods import EMA, METHODS, WAU, Flow
from filtersmith.methods.flow import asa_rates, sas_rates
from filtersmith.reparam import expand
from filtersmith.schedule import split, starts

BASELINE = "baseline"

# What the laboratory sets itself: the objects, and the run's own seed, budget and schedule.
_OWN = {"self", "model", "optimizer", "wau", "scheduler", "step_scheduler", "epochs", "phases"}


@dataclass(frozen=True)
class MethodSpec:
    """A method with options, as in ``wau(rate=0.3)``. ``baseline`` is plain training.

    ``kflo+wau(rate=0.3)`` is WAU on a network that KFLO has expanded: ``expansion`` is the part before the plus.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    expansion: MethodSpec | None = None

    def __str__(self) -> str:
        options = ",".join(f"{k}={_shown(v)}" for k, v in self.options.items())
        own = f"{self.name}({options})" if options else self.name
        return f"{self.expansion}+{own}" if self.expansion is not None else own

    @property
    def expands(self) -> bool:
        """Whether it is a re-parametrization."""
        return self.name != BASELINE and METHODS[self.name].kind == "re-parametrization"


def option_names(name: str) -> list[str]:
    """The options that a method takes in the laboratory."""
    if name == BASELINE:
        return []
    record = METHODS[name]
    names = [p for p in inspect.signature(record.cls).parameters if p not in _OWN]
    if record.kind == "flow":  # a flow is asked for together with the WAU that it steers
        wau = [p for p in inspect.signature(WAU).parameters if p not in _OWN]
        names += ["rates", *(p for p in wau if p != "rate")] if record.cls is Flow else wau
    return names


def parse(text: str) -> MethodSpec:
    """Read ``name`` or ``name(option=value, ...)``; one value without a name is the first option's.

    A re-parametrization and another method go together with a plus: ``kflo+wau(0.3)``. Values are Python literals;
    words need no quotes. ``ValueError`` in one line for anything else.
    """
    parts = re.split(r"\+(?![^(]*\))", text)
    specs = [_parse_one(part) for part in parts]
    if len(specs) == 1:
        return specs[0]
    if len(specs) > 2 or not specs[0].expands or specs[1].expands or specs[1].name == BASELINE:
        raise bad_option("method", text, "one method, or a re-parametrization + one of another kind")
    return replace(specs[1], expansion=specs[0])


def _parse_one(text: str) -> MethodSpec:
    match = re.fullmatch(r"\s*([A-Za-z][\w-]*)\s*(?:\((.*)\))?\s*", text, flags=re.DOTALL)
    if not match:
        raise bad_option("method", text, "a name or name(option=value, ...)")
    name, arguments = match.groups()
    if name != BASELINE and name not in METHODS:
        raise unknown_name("method", name, [BASELINE, *METHODS])
    names = option_names(name)
    try:
        # Hyphenated words (input-channel) would parse as a subtraction.
        quoted = re.sub(r"(?<=[=(,])\s*([A-Za-z]\w*(?:-\w+)+)\s*(?=[,)]|$)", r"'\1'", f"({arguments or ''})")
        call = ast.parse(f"f{quoted}", mode="eval").body
    except (SyntaxError, ValueError):  # a null byte is a ValueError
        raise bad_option("method", text, "a name or name(option=value, ...)") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise bad_option("method", text, "a name or name(option=value, ...)")
    if len(call.args) > len(names):
        raise bad_option("method", text, f"{name} with options among {', '.join(names) or 'none'}")
    given = [(names[place], node) for place, node in enumerate(call.args)]
    given += [(keyword.arg or "**", keyword.value) for keyword in call.keywords]
    options: dict[str, Any] = {}
    for option, node in given:
        if option not in names:
            raise unknown_name(f"option of {name}", option, names)
        if option in options:
            raise ValueError(f"{text}: {option} is given twice")
        options[option] = _value(node, text)
    # In the order of the signature: one method has one spelling, and with it one folder.
    return MethodSpec(name, {option: options[option] for option in names if option in options})


def same(one: MethodSpec, other: MethodSpec) -> bool:
    """Whether two specifications mean the same training, an option at its default being one left out."""
    if one.expansion is not None and other.expansion is not None:
        return same(one.expansion, other.expansion) and same(_alone(one), _alone(other))
    if one.name != other.name or one.name == BASELINE or one.expansion is not other.expansion:
        return one.name == other.name and one.expansion is other.expansion
    defaults = {
        option: parameter.default
        for cls in (WAU, METHODS[one.name].cls)
        for option, parameter in inspect.signature(cls).parameters.items()
    }
    names = option_names(one.name)
    return all(one.options.get(n, defaults.get(n)) == other.options.get(n, defaults.get(n)) for n in names)


def _alone(spec: MethodSpec) -> MethodSpec:
    return replace(spec, expansion=None)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, text) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise bad_option("method", text, "written with numbers, words and lists as values") from None


def _shown(value: Any) -> str:
    if isinstance(value, str):  # quotes only where `parse` needs them: 'features.0'
        plain = re.fullmatch(r"[A-Za-z]\w*(-\w+)*", value) and not keyword.iskeyword(value)
        return value if plain else repr(value)
    return f"[{','.join(map(_shown, value))}]" if isinstance(value, (list, tuple)) else repr(value)


def expand_network(spec: MethodSpec, model: nn.Module) -> None:
    """Expand the network, before its optimizer is made, where the method is or has a re-parametrization."""
    expansion = spec if spec.expands else spec.expansion
    if expansion is not None:
        expand(model, METHODS[expansion.name].cls(**expansion.options))


class AppliedMethod:
    """A method at work in one run: what is stepped, asked and saved.

    Make it after the optimizer; it makes the learning-rate schedule.

    Args:
        spec: which method.
        model: the network, which `expand_network` has seen.
        optimizer: of the network's parameters, without a schedule yet.
        make_scheduler: ``(optimizer, epochs)`` -> a schedule over so many epochs, stepped per batch.
        epochs: budget of the whole run; a flow divides it evenly, the longer phases last.
        seed: for methods that draw at random, where the options name none.

    Attributes:
        phase_starts: epochs after which a new phase begins.
    """

    def __init__(
        self,
        spec: MethodSpec,
        model: nn.Module,
        optimizer: Optimizer,
        make_scheduler: Callable[[Optimizer, int], LRScheduler],
        epochs: int,
        seed: int,
    ) -> None:
        self._flow: Flow | None = None
        self._method: Any = None
        self._scheduler: LRScheduler | None = None
        self.phase_starts: tuple[int, ...] = ()
        record = METHODS[spec.name] if spec.name != BASELINE else None
        options = dict(spec.options)
        if record is not None and "seed" in option_names(spec.name):
            options.setdefault("seed", seed)
        if record is not None and record.kind == "flow":
            rates = _flow_rates(spec.name, options.pop("rates", None), options.get("rate", 0.5))
            wau = WAU(model, **options).attach(optimizer)
            lengths = split(epochs, len(rates))
            phases = [(rate, length) for rate, length in zip(rates, lengths, strict=True) if length]
            self._flow = Flow(
                phases,
                wau,
                optimizer,
                # One schedule for all phases; where they are unequal, the first ones end before it does.
                scheduler=lambda inner: make_scheduler(inner, max(lengths)),
                step_scheduler=False,
            )
            self.phase_starts = starts([length for _, length in phases])[1:]
            return
        if record is not None and not spec.expands:
            self._method = record.cls(model, **options).attach(optimizer)
        self._scheduler = make_scheduler(optimizer, epochs)

    @property
    def average(self) -> nn.Module | None:
        """The averaged network that is deployed in place of the trained one, if the method is an average."""
        return self._method.network if isinstance(self._method, EMA) else None

    def end_batch(self) -> None:
        """After every optimizer step."""
        scheduler = self._flow.scheduler if self._flow is not None else self._scheduler
        if scheduler is not None:
            scheduler.step()

    def end_epoch(self) -> None:
        """After every epoch."""
        if self._flow is not None:
            self._flow.step()

    def state_dict(self) -> dict[str, Any]:
        if self._flow is not None:
            return {"flow": self._flow.state_dict()}
        assert self._scheduler is not None
        return {
            "method": self._method.state_dict() if self._method is not None else None,
            "scheduler": self._scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._flow is not None:
            self._flow.load_state_dict(state["flow"])
            return
        assert self._scheduler is not None
        if self._method is not None:
            self._method.load_state_dict(state["method"])
        self._scheduler.load_state_dict(state["scheduler"])


def _flow_rates(name: str, rates: Any, rate: Any) -> tuple[Any, ...]:
    if name == "asa":
        return asa_rates(rate)
    if name == "sas":
        return sas_rates(rate)
    if not isinstance(rates, (list, tuple)) or not rates:
        raise bad_option("rates", rates, "a list with the rate of each phase, for example [0.5,1,0.5]")
    return tuple(rates)
