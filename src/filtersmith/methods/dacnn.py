"""DACNN: one anchored kernel for many layers, and small 1x1 regulators that win accuracy back.

**Paper.** *Deep Anchored Convolutional Neural Networks*, Huang et al., CVPR Workshops 2019 (Sec. 3, Eqs. 1-6).

**What it does.** It changes the network that is deployed, unlike the other methods: convolutions of equal shape use
one kernel, so that parameters do not grow with depth, while batch norms stay free (without them training fails). A
*regulator*, a free 1x1 convolution with batch norm and ReLU at the end of a residual branch, lets each block differ a
little again. The same arithmetic is done as before: a shared kernel saves memory, not time.

**When to call it.** Before everything else, expansion and optimizer included::

    report = fs.share_kernels(model, scope="network")  # or "stage", or lists of names
    fs.add_regulators(model, sections="all")  # or [3, 4]
    print(report)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fs.check_ties(model)  # at any time: names of layers that lost their tie, [] if all is well

The published networks are in the zoo: ``zoo.build("dacnn18-mix-reg")``.

**Options.** ``scope``: ``"network"`` shares among all convolutions of equal shape, ``"stage"`` only among those that
work at the same resolution, a list of lists of names exactly those. ``sections``: ``"all"``, or the numbers of the
sections that get regulators, from 1; a section is what lies between two changes of resolution (Table 4).

**Where paper, authors' code and we differ.**

- Sections are found from the network's graph (torch.fx). A network without residual additions, where the paper has no
  rule, gets one regulator at the end of each section.
- The paper counts one regulator per residual block in its text and Table 4, one per layer in Table 6. Ours is one
  per block: 18 layers with regulators have 0.30 million parameters where Table 6 prints 0.46, 24 have 0.35 (0.56),
  34 have 0.44 (0.72). With Table 6's rule, ``layers * 16384`` more than plain, the printed ones come out.
- Counts include both vectors of a batch norm; the paper's include one. For 100 classes: plain 14/18/34 layers have
  0.167, 0.168, 0.172 million (printed 0.165, 0.166, 0.168), mixed 4.743, 4.916, 4.924 (4.73, 4.90, 4.91), mixed with
  regulators 18/34: 5.617, 6.189 (5.60, 6.10; the paper's Figure 5 plots 6.16).
- Free twins of Table 2 have the same structure as the shared networks; the printed counts fit neither them nor the
  authors' code. ResNet-18 and ResNet-34 have 11.22 and 21.33 million parameters (printed 11.13, 21.24), VGG-16 14.77
  (14.90).
- The authors' regulators are defined and never applied; ours follow Figure 3.

**Compatibility.** The kernel that stays is that of the first layer. Ties survive ``deepcopy``, saving and loading
(safetensors: ``save_model`` and ``load_model``), DDP, ``torch.compile``, averages made afterwards and FSDP2 of the
whole network. ``load_state_dict`` refuses ``assign=True`` and the state of a network whose kernels are not shared, a
forward pass refuses a layer that got a kernel of its own; a compiled network does not look, `check_ties` does. WAU,
ASA, EMA and the orthogonality loss treat a shared kernel as one layer. KFLO and its family and RePr refuse it.
Regulators change names in the ``state_dict`` (``bn2.weight`` becomes ``bn2.inner.weight``): load pretrained weights
before.

**Measured results.** All tables: README and ``results/``.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from filtersmith.errors import bad_option, unknown_name
from filtersmith.filters import memory_format, weight_of
from filtersmith.graph import Part, parts
from filtersmith.operations import Operation, in_place, operation
from filtersmith.reparam import bare
from filtersmith.resolution import reductions
from filtersmith.ties import rename, tie, ties

Scope = Literal["network", "stage"]


class Regulator(nn.Sequential):
    """1x1 convolution, batch norm, ReLU; as many channels out as in. Of the dimensions and the place of ``like``."""

    def __init__(self, channels: int, dims: int, like: torch.Tensor) -> None:
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
        placed: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        super().__init__(
            OrderedDict(
                conv=conv(channels, channels, 1, bias=False, **placed),
                bn=norm(channels, **placed),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.to(memory_format=memory_format(like))


class Copy(nn.Module):
    """A copy of the regulator's output, where the next operation writes into it: ReLU's gradient is made of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class Regulated(nn.Sequential):
    """What stood at the end of a branch (``inner``), and the regulator behind it."""


@dataclass(frozen=True)
class SharingReport:
    """What `share_kernels` did.

    Attributes:
        groups: the names of the layers that share one kernel now, a tuple for each kernel.
        parameters_before: of the network; a shared one counts once.
        parameters_after: likewise.
    """

    groups: tuple[tuple[str, ...], ...]
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        layers = sum(map(len, self.groups))
        head = f"{layers} layers share {len(self.groups)} kernel{'s' * (len(self.groups) > 1)}: "
        lines = [head + f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"]
        return "\n".join([*lines, *(f"  {', '.join(group)}" for group in self.groups)])


@dataclass(frozen=True)
class RegulatorReport:
    """What `add_regulators` did.

    Attributes:
        sections: section -> the names of the regulators in it.
        parameters_before: of the network; a shared one counts once.
        parameters_after: likewise.
    """

    sections: dict[int, tuple[str, ...]]
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        number = sum(map(len, self.sections.values()))
        head = f"{number} regulator{'s' * (number > 1)}: "
        lines = [head + f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"]
        return "\n".join([*lines, *(f"  section {n}: {', '.join(names)}" for n, names in self.sections.items())])


# --- sharing ---------------------------------------------------------------------------------------------


def share_kernels(model: nn.Module, scope: Scope | Sequence[Sequence[str]] = "network") -> SharingReport:
    """Let convolutions of equal shape use one kernel, that of their first layer, in place.

    Biases and batch norms stay their own. Call it before ``expand`` and before the optimizer is made.

    Args:
        model: the network, not yet wrapped or expanded. Regulators keep their kernels.
        scope: ``"network"``: all convolutions of equal shape, groups and type; ``"stage"``: those of them that give
            images of the same resolution (where torch.fx cannot trace the network, within the largest parts of it
            that it can); or the groups themselves, lists of layer names.

    Returns:
        The groups, and the number of parameters before and after.

    Raises:
        ValueError: an unknown scope or name, layers that cannot have one kernel, nothing to share, a network that is
            wrapped, sharded or expanded. The model is as it was.
    """
    network = bare(model, "share kernels")
    layers = {name: module for name, module in network.named_modules() if isinstance(module, _ConvNd)}
    if isinstance(scope, str):
        if scope not in ("network", "stage"):
            raise bad_option("scope", scope, "'network', 'stage' or lists of layer names")
        groups = _equal_groups(network, layers, scope)
        if not groups:
            where = " at the same resolution" if scope == "stage" else ""
            raise ValueError(
                f"scope={scope!r} matches nothing: {type(network).__name__} has no two convolutions of equal shape"
                + where
            )
    else:
        groups = _named_groups(network, layers, scope)
    for group in groups:
        for name in group:
            if reason := _refusal(layers[name]):
                raise ValueError(f"layer {name!r} cannot share its kernel: {reason}")
    before = _parameters(network)
    tie(network, groups)
    return SharingReport(tuple(ties(network)), before, _parameters(network))


def _equal_groups(network: nn.Module, layers: dict[str, _ConvNd], scope: str) -> list[list[str]]:
    """Two or more layers whose kernels fit each other, in the order of the network."""
    regulators = [module for module in network.modules() if isinstance(module, Regulator)]
    left_out = {id(part) for regulator in regulators for part in regulator.modules()}
    stages = _stages(network) if scope == "stage" else {}
    groups: dict[Any, list[str]] = {}
    for name, module in layers.items():
        if id(module) not in left_out and (weight_of(module) is not None or _refusal(module)):
            groups.setdefault((_kernel_type(module), stages.get(id(module))), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _named_groups(network: nn.Module, layers: dict[str, _ConvNd], scope: Any) -> list[list[str]]:
    """The user's groups, checked; a layer by its first name."""
    allowed = "'network', 'stage' or lists of layer names"
    if not isinstance(scope, Iterable):
        raise bad_option("scope", scope, allowed)
    groups = [list(names) if isinstance(names, Iterable) and not isinstance(names, str) else names for names in scope]
    if not groups or not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in groups):
        raise bad_option("scope", scope, allowed)
    every = dict(network.named_modules(remove_duplicate=False))
    first = {id(module): name for name, module in layers.items()}
    seen: set[str] = set()
    chosen = []
    for names in groups:
        group = []
        for name in names:
            if name not in every:
                raise unknown_name("layer", name, layers)
            if id(every[name]) not in first:
                raise ValueError(
                    f"layer {name!r} cannot share its kernel: it is a {type(every[name]).__name__}, no convolution"
                )
            group.append(first[id(every[name])])
        if len(set(group)) < 2:
            raise bad_option("scope", names, "groups of at least two different layers")
        if repeated := sorted(seen & set(group)):
            raise ValueError(f"scope names the layer {repeated[0]!r} in two groups")
        seen |= set(group)
        one = _kernel_type(layers[group[0]])
        for name in group[1:]:
            if (other := _kernel_type(layers[name])) != one:
                kernels = f"{_described(one)} and {_described(other)}"
                raise ValueError(f"layers {group[0]!r} and {name!r} cannot share a kernel: {kernels}")
        chosen.append(group)
    return chosen


def _kernel_type(module: Any) -> tuple[Any, ...]:
    """What two layers must have in common to use one kernel."""
    weight = module.weight
    shape = None if isinstance(weight, nn.parameter.UninitializedParameter) else tuple(weight.shape)
    return shape, weight.dtype, weight.device, module.groups, isinstance(module, _ConvTransposeNd)


def _described(kernel: tuple[Any, ...]) -> str:
    shape, dtype, device, groups, transposed = kernel
    size = "x".join(map(str, shape)) if shape else "no shape yet"
    grouped = f" in {groups} groups" if groups > 1 else ""
    return f"{size}{grouped}{' transposed' * transposed} ({str(dtype).removeprefix('torch.')}, {device})"


def _refusal(module: nn.Module) -> str | None:
    """Why a convolution cannot use another one's kernel, or ``None``."""
    weight = module._parameters.get("weight")
    if weight is None:
        return "it is computed from other parameters (expanded, or parametrized): share kernels before"
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return "it is lazy and has no weight yet: run one forward pass first"
    return None


def _stages(network: nn.Module) -> dict[int, Any]:
    """Module, by id -> the part of the network that it is in, and how much smaller than the image its output is."""
    found: dict[int, Any] = {}
    for part in parts(network, network.training):
        sizes = reductions(part)
        for node in part.graph.nodes:
            if node.op == "call_module":
                found.setdefault(id(part.called(node)), (part.prefix, sizes[node]))
    return found


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- regulators ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a regulator can stand: behind the module ``name``."""

    name: str
    channels: int
    dims: int
    like: torch.Tensor
    overwritten: bool


def add_regulators(model: nn.Module, sections: Literal["all"] | Iterable[int] = "all") -> RegulatorReport:
    """Put a 1x1 convolution, batch norm and ReLU at the end of every residual branch, in place (paper Fig. 3).

    In a network without residual additions, one at the end of each section. Call it after `share_kernels`, before
    ``expand`` and before the optimizer is made. New layers are drawn from torch's generator.

    Args:
        model: the network, not yet wrapped or expanded, that torch.fx can trace.
        sections: ``"all"``, or the numbers of the sections, from 1: stretches of the network between two changes of
            resolution that have a place for a regulator.

    Returns:
        The names of the regulators by section, and the number of parameters before and after.

    Raises:
        ValueError: no such section, no place for a regulator, a section that has some, a network that is wrapped,
            sharded, expanded or cannot be traced. The model is as it was.
    """
    network = bare(model, "add regulators")
    for name, module in network.named_modules():
        if isinstance(module, _ConvNd) and weight_of(module) is not module._parameters.get("weight"):
            raise ValueError(f"layer {name!r} is expanded: add regulators before")
    graphs = parts(network, network.training)
    if len(graphs) != 1 or not graphs[0].whole:
        raise ValueError(f"{type(network).__name__} cannot be traced by torch.fx, so its sections cannot be told")
    places = _places(graphs[0])
    if not places:
        raise ValueError(f"{type(network).__name__} has no place for a regulator: no convolution that ends a section")
    if sections == "all":
        chosen = list(places)
    else:
        if isinstance(sections, str) or not isinstance(sections, Iterable):
            raise bad_option("sections", sections, f"'all' or numbers from 1 to {len(places)}")
        given = list(sections)
        if not given or not all(type(number) is int and number in places for number in given):
            raise bad_option("sections", given, f"'all' or numbers from 1 to {len(places)}")
        chosen = list(dict.fromkeys(given))
    for number in chosen:
        for place in places[number]:
            if isinstance(_owner(network, place.name), (Regulator, Regulated)):
                raise ValueError(f"section {number} has a regulator already, behind {place.name!r}")
    before = _parameters(network)
    report = {number: tuple(_regulate(network, place) for place in places[number]) for number in sorted(chosen)}
    return RegulatorReport(report, before, _parameters(network))


def _owner(network: nn.Module, name: str) -> nn.Module:
    return network.get_submodule(name.rpartition(".")[0])


def _regulate(network: nn.Module, place: _Place) -> str:
    """Put one regulator behind a module; its name."""
    inner = network.get_submodule(place.name)
    regulator = Regulator(place.channels, place.dims, place.like)
    regulated = Regulated(OrderedDict(inner=inner, regulator=regulator))
    if place.overwritten:
        regulated.add_module("copy", Copy())
    regulated.train(inner.training)
    setattr(_owner(network, place.name), place.name.rpartition(".")[2], regulated)
    rename(network, place.name, f"{place.name}.inner")
    return f"{place.name}.regulator"


def _places(part: Part) -> dict[int, list[_Place]]:
    """Section -> the places in it."""
    sizes = reductions(part)
    ends = [(node, end) for node in part.graph.nodes if (end := _branch_end(part, node)) is not None]
    if not ends:
        ends = [(end, end) for end in _section_ends(part, sizes)]
    sections: dict[Any, list[_Place]] = {}
    for node, end in ends:
        conv = _made_by(part, end)
        if conv is not None and _calls(part, end) == 1:
            dims = len(conv.kernel_size)
            place = _Place(part.name(end), conv.out_channels, dims, conv.weight, _overwritten(part, end))
            sections.setdefault(sizes[node], []).append(place)
    return {number: found for number, found in enumerate(sections.values(), 1)}


def _branch_end(part: Part, node: fx.Node) -> fx.Node | None:
    """For the sum of a shortcut and a residual branch the branch's last batch norm or convolution, else ``None``.

    The branch is the operand behind more convolutions that the other one does not know. What comes after the batch
    norm stays behind the regulator: what drops whole branches, or a gate (squeeze and excitation).
    """
    if len(node.all_input_nodes) != 2 or operation(node, None, 2) is not Operation.SUM:
        return None
    one, other = node.all_input_nodes
    above_one, above_other = _above(one), _above(other)
    own, others = (
        sum(_is_convolution(part, n) for n in nodes) for nodes in (above_one - above_other, above_other - above_one)
    )
    if own == others:
        return None
    end = one if own > others else other
    while not (_is_convolution(part, end) or (end.op == "call_module" and isinstance(part.called(end), _BatchNorm))):
        sources = end.all_input_nodes
        gated = [n for n in sources if all(n in _above(another) for another in sources)]
        if len(gated) != 1:
            return None
        (end,) = gated
    return end


def _above(node: fx.Node) -> set[fx.Node]:
    """A value and everything that it is made of."""
    found, left = set(), [node]
    while left:
        if (current := left.pop()) not in found:
            found.add(current)
            left += current.all_input_nodes
    return found


def _section_ends(part: Part, sizes: dict[fx.Node, Any]) -> Iterator[fx.Node]:
    """The last convolution at each resolution, followed through its batch norm and activation."""
    last = {sizes[node]: node for node in part.graph.nodes if _is_convolution(part, node)}
    for node in last.values():
        while len(node.users) == 1 and (user := next(iter(node.users))).op == "call_module":
            module = part.called(user)
            if not isinstance(module, _BatchNorm) and operation(user, module, 2) is not Operation.KEEPS_ZERO:
                break
            if sizes[user] != sizes[node]:
                break  # a pooling
            node = user
        yield node


def _made_by(part: Part, node: fx.Node) -> Any:
    """The convolution whose channels a value has, or ``None``."""
    while not _is_convolution(part, node):
        if len(node.all_input_nodes) != 1:
            return None
        (node,) = node.all_input_nodes
    return part.called(node)


def _overwritten(part: Part, node: fx.Node) -> bool:
    """Whether a call may write into a value, or into what shares its memory (``Identity``, ``Dropout``).

    torch.fx does not tell ``x += y`` from ``x + y``.
    """
    for user in node.users:
        module = part.called(user) if user.op == "call_module" else None
        arithmetic = user.target in (operator.add, operator.sub, operator.mul, operator.truediv)
        writes = arithmetic or user.target in (operator.iadd, operator.isub, operator.imul) or in_place(user, module)
        if writes and user.args and user.args[0] is node:
            return True
        if operation(user, module, 2) is Operation.KEEPS_ZERO and _overwritten(part, user):
            return True
    return False


def _is_convolution(part: Part, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(part.called(node), _ConvNd)


def _calls(part: Part, node: fx.Node) -> int:
    """How often the module that a node calls is called."""
    return sum(n.op == "call_module" and n.target == node.target for n in part.graph.nodes)
