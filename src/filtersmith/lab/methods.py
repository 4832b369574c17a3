"""Methods as the laboratory names them (``wau(rate=0.3)``), and how each kind meets the training loop."""

from __future__ import annotations

import ast
import inspect
import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from filtersmith.common.options import bad_option, unknown_name, whole_number
from filtersmith.common.phases import split, starts, sub_phases
from filtersmith.lab.recipe.arms import split_arm
from filtersmith.measure.ranking import ON_DATA, rank
from filtersmith.methods import EMA, METHODS, WAU, Flow, OrthoLoss, Prune
from filtersmith.methods.flow import asa_rates, sas_rates
from filtersmith.methods.registry import Kind
from filtersmith.reparam import expand

BASELINE = "baseline"
LEAST_RATE = 0.1
"""Share of the full learning rate below which filters that come back hardly learn."""

# What the laboratory sets itself: the objects, and the run's own seed, budget and schedule.
_OWN = {"self", "model", "optimizer", "wau", "scheduler", "step_scheduler", "epochs", "phases"}


@dataclass(frozen=True)
class MethodSpec:
    """A method with options, as in ``wau(rate=0.3)``. ``baseline`` is plain training.

    ``kflo+wau(rate=0.3)`` is WAU on a network that KFLO has expanded: ``expansion`` is the part before the plus.
    ``repr+ortho-loss`` is RePr with a term in the loss: ``term`` is the part behind it. ``dacnn+regulators`` is plain
    training of a network that was changed before all else: these parts are ``architecture``, ``name`` is baseline.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    expansion: MethodSpec | None = None
    term: MethodSpec | None = None
    architecture: tuple[MethodSpec, ...] = ()

    def __str__(self) -> str:
        options = ",".join(f"{k}={_shown(v)}" for k, v in self.options.items())
        own = f"{self.name}({options})" if options else self.name
        plain = self.name == BASELINE and self.architecture
        parts = (*self.architecture, self.expansion, None if plain else own, self.term)
        return "+".join(str(part) for part in parts if part is not None)

    @property
    def kind(self) -> Kind | None:
        """Of the method; ``None`` for the baseline."""
        return None if self.name == BASELINE else METHODS[self.name].kind

    @property
    def expands(self) -> bool:
        """Whether it is a re-parametrization."""
        return self.kind == "re-parametrization"


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

    A re-parametrization and another method go together with a plus, ``kflo+wau(0.3)``, and so do a method and a term
    of the loss, ``repr+ortho-loss``. Changes of the architecture stand in front of all that, or alone. Values are
    Python literals; words need no quotes. ``ValueError`` in one line for anything else.
    """
    bare, network = split_arm(text)
    if network is not None:
        raise bad_option("method", text, f"a method alone ({bare!r}; --model names its network)")
    specs = [_parse_one(part) for part in re.split(r"\+(?![^(]*\))", text)]
    architecture = tuple(takewhile(lambda spec: spec.kind == "architecture", specs))
    rest = specs[len(architecture) :]
    expansion = rest.pop(0) if len(rest) > 1 and rest[0].expands else None
    term = rest.pop() if len(rest) > 1 and rest[-1].kind == "loss" else None
    changes = [record.name for record in METHODS.values() if record.kind == "architecture"]
    names = [part.name for part in architecture]
    once_in_order = names == [name for name in changes if name in names]
    clash: set[Kind | None] = {"architecture"}
    if len(specs) > 1:
        clash.add(None)
    if expansion is not None:
        clash.add("re-parametrization")
    if term is not None:
        clash.add("loss")
    if not once_in_order or len(rest) > 1 or (rest and rest[0].kind in clash):
        front = "".join(f"[{name} +] " for name in changes)
        allowed = f"one method, or {front}[a re-parametrization +] one of another kind [+ a term of the loss]"
        raise bad_option("method", text, allowed)
    method = rest[0] if rest else MethodSpec(BASELINE)
    return replace(method, expansion=expansion, term=term, architecture=architecture)


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
    parts, others = ([*spec.architecture, spec.expansion, spec.term] for spec in (one, other))
    if len(parts) != len(others):
        return False
    for left, right in zip(parts, others, strict=True):
        if left is None or right is None:
            if left is not right:
                return False
        elif not same(left, right):
            return False
    if one.name != other.name or one.name == BASELINE:
        return one.name == other.name
    defaults = {
        option: parameter.default
        for cls in (WAU, METHODS[one.name].cls)
        for option, parameter in inspect.signature(cls).parameters.items()
    }
    names = option_names(one.name)
    return all(one.options.get(n, defaults.get(n)) == other.options.get(n, defaults.get(n)) for n in names)


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


def change_architecture(spec: MethodSpec, model: nn.Module) -> None:
    """Change a network that was just built, in place, where the method has parts of that kind; before all else."""
    for part in spec.architecture:
        METHODS[part.name].cls(model, **part.options)


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
        model: the network, which `change_architecture` and then `expand_network` have seen.
        optimizer: of the network's parameters, without a schedule yet.
        make_scheduler: ``(optimizer, epochs)`` -> a schedule over so many epochs, stepped per batch.
        epochs: budget of the whole run; a flow divides it evenly, the longer phases last.
        seed: for methods that draw at random, where the options name none.
        held_out: batches of images that nothing is trained on, for methods that choose by data.
        highest_rate: the highest factor on the learning rate from the start of an epoch to the end of the run.

    Attributes:
        phase_starts: epochs after which a new phase begins.
        sub_phases: epochs after which phases of a sub-network begin and end; with the budget, if for good.
        warnings: what will run, but hardly as it was meant.
    """

    def __init__(
        self,
        spec: MethodSpec,
        model: nn.Module,
        optimizer: Optimizer,
        make_scheduler: Callable[[Optimizer, int], LRScheduler],
        epochs: int,
        seed: int,
        *,
        held_out: Any = None,
        highest_rate: Callable[[int], float] = lambda epoch: 1.0,
    ) -> None:
        self._flow: Flow | None = None
        self._method: Any = None
        self._cycle: Any = None
        self._terms: list[OrthoLoss] = []
        self.sub_phases: tuple[tuple[int, int], ...] = ()
        self.warnings: list[str] = []
        for loss in (spec, spec.term):
            if loss is not None and loss.kind == "loss":
                self._terms.append(METHODS[loss.name].cls(model, **loss.options))
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
        if record is not None and record.kind == "cycle":
            cycle = _cycle_options(spec, epochs, held_out)
            self._cycle = record.cls(model, optimizer, **options | cycle)
            self.sub_phases = sub_phases(epochs, self._cycle.s1, self._cycle.s2, self._cycle.cycles)
            self.warnings = _short_of_rate(self.sub_phases, self._cycle.prune, highest_rate)
        elif record is not None and record.kind == "pruning":
            after = _prune_after(spec, epochs)
            self._cycle = record.cls(model, optimizer, **options | {"after": after})
            self.sub_phases = ((after, epochs),) if self._cycle.share else ()
        elif record is not None and not spec.expands and record.kind != "loss":
            self._method = record.cls(model, **options).attach(optimizer)
        self._scheduler = make_scheduler(optimizer, epochs)

    @property
    def average(self) -> nn.Module | None:
        """The averaged network that is deployed in place of the trained one, if the method is an average."""
        return self._method.network if isinstance(self._method, EMA) else None

    @property
    def parameters_kept(self) -> int | None:
        """How many parameters the deployed network keeps where a method sets some to zero for good, else ``None``."""
        return self._cycle.parameters_kept if isinstance(self._cycle, Prune) else None

    def penalty(self) -> Tensor | None:
        """What is added to the loss of a batch."""
        return sum((term() for term in self._terms[1:]), self._terms[0]()) if self._terms else None

    def end_batch(self) -> None:
        """After every optimizer step."""
        scheduler = self._flow.scheduler if self._flow is not None else self._scheduler
        if scheduler is not None:
            scheduler.step()

    def end_epoch(self) -> None:
        """After every epoch."""
        if self._flow is not None:
            self._flow.step()
        if self._cycle is not None:
            self._cycle.step()

    def finish(self) -> None:
        """After the last epoch, before the network is deployed; harmless when done already."""
        if self._cycle is not None:
            self._cycle.finish()

    def state_dict(self) -> dict[str, Any]:
        if self._flow is not None:
            return {"flow": self._flow.state_dict()}
        assert self._scheduler is not None
        return {
            "method": self._method.state_dict() if self._method is not None else None,
            "cycle": self._cycle.state_dict() if self._cycle is not None else None,
            "scheduler": self._scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._flow is not None:
            self._flow.load_state_dict(state["flow"])
            return
        assert self._scheduler is not None
        if self._method is not None:
            self._method.load_state_dict(state["method"])
        if self._cycle is not None:
            self._cycle.load_state_dict(state["cycle"])
        self._scheduler.load_state_dict(state["scheduler"])


def _cycle_options(spec: MethodSpec, epochs: int, held_out: Any) -> dict[str, Any]:
    """The phases of a cyclic method, in proportion to the budget where the options name none; and its criterion.

    The paper's 20 + 10 of 100 epochs. Every filter that comes back is trained for an epoch or more.
    """
    s1 = whole_number("s1", spec.options.get("s1", max(1, round(epochs / 5))), 1)
    s2 = whole_number("s2", spec.options.get("s2", max(1, round(epochs / 10))), 1)
    cycles = whole_number("cycles", spec.options.get("cycles", min(3, max(1, (epochs - 1) // (s1 + s2)))), 0)
    if cycles * (s1 + s2) >= epochs:
        raise bad_option("train.epochs", epochs, f"above the {cycles * (s1 + s2)} of {cycles} x ({s1} + {s2}) epochs")
    options = {"s1": s1, "s2": s2, "cycles": cycles}
    rank_by = spec.options.get("rank")
    if rank_by not in ON_DATA:
        return options
    if held_out is None:
        raise bad_option(
            "data.holdout", 0, f"above 0 for rank={rank_by}, which needs images that nothing is trained on"
        )

    def by_data(model: nn.Module) -> dict[str, Tensor]:
        return rank(model, rank_by, data=held_out.epoch(0))

    return options | {"rank": by_data}


def _prune_after(spec: MethodSpec, epochs: int) -> int:
    """The epoch after which a method prunes for good: half the budget, where the options name none."""
    after = whole_number("after", spec.options.get("after", max(1, epochs // 2)), 1)
    if after >= epochs:
        raise bad_option("train.epochs", epochs, f"above after={after}, so that the pruned network is trained, too")
    return after


def _short_of_rate(phases: tuple[tuple[int, int], ...], prune: float, highest: Callable[[int], float]) -> list[str]:
    """A warning where what comes back last would hardly be trained."""
    if not phases or not prune or (rate := highest(phases[-1][1])) >= LEAST_RATE:
        return []
    return [
        f"after the last restore, behind epoch {phases[-1][1]}, the schedule has at most {rate:.1%} of the full "
        "learning rate, and what comes back is hardly trained: train.schedule=constant, or fewer cycles"
    ]


def _flow_rates(name: str, rates: Any, rate: Any) -> tuple[Any, ...]:
    if name == "asa":
        return asa_rates(rate)
    if name == "sas":
        return sas_rates(rate)
    if not isinstance(rates, (list, tuple)) or not rates:
        raise bad_option("rates", rates, "a list with the rate of each phase, for example [0.5,1,0.5]")
    return tuple(rates)
