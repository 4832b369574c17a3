"""DACNN: one anchored kernel for many layers, and small 1x1 regulators that win accuracy back.

**Paper.** *Deep Anchored Convolutional Neural Networks*, Huang et al., CVPR Workshops 2019, Sec. 3, Eqs. 1-6,
https://arxiv.org/abs/1904.09764

**What it does.** It changes the network that is deployed, unlike the other methods: convolutions of equal shape use
one kernel, so that parameters do not grow with depth, while batch norms stay free (without them training fails). A
*regulator*, a free 1x1 convolution with batch norm and ReLU at the end of a residual branch, lets each block differ a
little again. The same arithmetic is done as before: a shared kernel saves memory, not time.

**When to use it.** Where the memory of weights, or the size of their file, is what is short. Before everything else,
expansion and optimizer included::

    training = fs.compose("dacnn(scope=stage)+regulators")  # in any loop: prepare() changes the network
    report = fs.share_kernels(model, scope="network")  # alone; or "stage", or lists of names
    fs.add_regulators(model, sections="all")  # or [3, 4]
    fs.check_ties(model)  # at any time: names of layers that lost their tie, [] if all is well

The published networks are in the zoo: ``zoo.build("dacnn18-mix-reg")``.

**When not to use it.** Where accuracy matters more than memory: one kernel for nine layers cost nine points. To save
time: the arithmetic is the same. In plain networks of more than five layers without regulators, which got worse with
depth. On a trained network: all layers but the first lose their kernels, and it has to be trained anew.

**Options.** ``scope``: ``"network"`` shares among all convolutions of equal shape, ``"stage"`` only among those that
work at the same resolution, a list of lists of names exactly those. ``sections``: ``"all"``, or the numbers of the
sections that get regulators, from 1; a section is what works at one resolution (Table 4).

**Where paper, authors' code and we differ.**

- Sections are found from the network's graph (torch.fx). A regulator stands behind the last batch norm (instance or
  group norm, or convolution) of a branch, before what scales, shifts, gates or drops the branch. Where a branch ends
  in something else (a linear layer, a concatenation) it gets none, and the report says so (``left_out``). A network
  without residual additions, where the paper has no rule, gets one regulator behind the last convolution of each
  section; where branches are concatenated, that is the end of one of them.
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
(safetensors: ``save_model`` and ``load_model``), ``save_pretrained`` (each layer's kernel is in the file), DDP,
``torch.compile``, averages made afterwards and FSDP2 of the whole network. ``load_state_dict`` refuses
``assign=True`` and the state of a network whose kernels are not shared (where it is a part of a larger network,
what torch loads before it stays loaded), a forward pass refuses a layer that got a kernel of its own; a compiled
network and ``DataParallel``'s copies do not look, `check_ties` does. What else holds one of the kernels, a tie of
one's own or an earlier one, goes along. Frozen kernels are shared among themselves. ``torch.jit.script`` does not
take the check; ``torch.export`` does. WAU, ASA, EMA and the orthogonality loss treat a shared kernel as one layer.
KFLO and its family and RePr refuse it. Regulators change names in the ``state_dict`` (``bn2.weight`` becomes
``bn2.inner.weight``): load pretrained weights before.

**Measured results.** On CIFAR-10 (JPEG), plain networks of 32 channels, 10 epochs where the paper trains 128 channels
for 90, 2 seeds: with 3, 5, 7 and 9 layers 60.2, 69.7, 68.1 and 67.3% with one kernel (11 thousand parameters), 62.2,
75.0, 75.6 and 76.7% with free ones (20 to 75 thousand). As in the paper's Table 2, sharing costs more the deeper a
plain network is, and those that share get worse beyond five layers. At 12 thousand parameters single weights pruned
from the nine free layers keep 70.8%. Residual, mixed and regulated networks were not trained: there was no GPU.
DACNN-18 has 0.67 MB of parameters where its free twin has 9.52. On digits with 200 images, 20 seeds, sharing differs
by +0.07 [−0.22, +0.36] points (95% interval), regulators by +0.15 [−0.22, +0.52]. All tables: ``results/README.md``;
memory and time: ``benchmarks/README.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

from torch import nn

from filtersmith.common.modules import bare
from filtersmith.common.options import Check, bad_option
from filtersmith.common.words import plural
from filtersmith.filters import Surroundings
from filtersmith.graph.residual import Place, places
from filtersmith.graph.trace import parts
from filtersmith.sharing.groups import Scope, check_scope, groups_to_share, layers_not_shared
from filtersmith.sharing.regulators import is_regulated, regulate
from filtersmith.sharing.ties import tie, ties
from filtersmith.sharing.whole import plain, unready

NOWHERE = "no convolution ends a section"


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
        head = f"{plural(layers, 'layer')} share {plural(len(self.groups), 'kernel')}: "
        lines = [head + f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"]
        return "\n".join([*lines, *(f"  {', '.join(group)}" for group in self.groups)])


@dataclass(frozen=True)
class RegulatorReport:
    """What `add_regulators` did.

    Attributes:
        sections: section -> the names of the regulators in it.
        left_out: block -> why the branch of a residual sum in it got none.
        parameters_before: of the network; a shared one counts once.
        parameters_after: likewise.
    """

    sections: dict[int, tuple[str, ...]]
    left_out: dict[str, str]
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        number = sum(map(len, self.sections.values()))
        head = f"{plural(number, 'regulator')}: "
        lines = [head + f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"]
        lines += [f"  section {n}: {', '.join(names)}" for n, names in self.sections.items()]
        return "\n".join([*lines, *(f"  none in {block}: {reason}" for block, reason in self.left_out.items())])


# --- sharing ---------------------------------------------------------------------------------------------


def share_kernels(model: nn.Module, scope: Scope | Sequence[Sequence[str]] = "network") -> SharingReport:
    """Let convolutions of equal shape use one kernel, that of their first layer, in place.

    Biases and batch norms stay their own. Call it before `filtersmith.expand` and before the optimizer is made.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3, bias=False) for _ in range(3)))
        >>> print(fs.share_kernels(model))
        3 layers share 1 kernel: 1,728 -> 576 parameters
          0, 1, 2
        >>> model[0].weight is model[2].weight, fs.check_ties(model)
        (True, [])

    Args:
        model: the network, not yet wrapped or expanded. Regulators keep their kernels.
        scope: ``"network"`` (default): all convolutions of equal shape, groups and type, frozen ones apart;
            ``"stage"``: those of them that give images of the same resolution (where torch.fx cannot trace the
            network, within the largest parts of it that it can; where the resolution cannot be told, none); or the
            groups themselves, lists of layer names.

    Returns:
        The groups, and the number of parameters before and after; ``print`` it.

    Raises:
        ValueError: an unknown scope or name, layers that cannot have one kernel, nothing to share, a network that is
            wrapped, sharded or expanded. The model is as it was.

    Source: *Deep Anchored Convolutional Neural Networks*, Sec. 3, https://arxiv.org/abs/1904.09764
    """
    network = plain(model, "share kernels")
    groups = groups_to_share(network, scope)
    before = _parameters(network)
    tie(network, groups)
    return SharingReport(tuple(ties(network)), before, _parameters(network))


checks_share_kernels: dict[str, Check] = {"scope": check_scope}


def why_not_share_kernels(
    model: nn.Module, *, scope: Scope | Sequence[Sequence[str]] = "network", **_: Any
) -> dict[str, str]:
    """Layer -> why its kernel stays its own, for `filtersmith.why_not`; where sharing is refused, that reason."""
    return layers_not_shared(model, scope)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- regulators ------------------------------------------------------------------------------------------


def check_sections(option: str, value: Any, most: int | None = None) -> list[int] | Literal["all"]:
    """``"all"``, or numbers of sections up to ``most`` where that is known; ``ValueError`` for anything else."""
    if isinstance(value, str) and value == "all":
        return "all"
    allowed = f"'all' or numbers from 1{f' to {most}' if most else ''}"
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise bad_option(option, value, allowed)
    given = list(value)
    numbers = [int(n) for n in given if isinstance(n, Integral) and not isinstance(n, bool)]
    if not given or len(numbers) < len(given) or not all(1 <= n <= (most or n) for n in numbers):
        raise bad_option(option, given, allowed)
    return numbers


checks_add_regulators: dict[str, Check] = {"sections": check_sections}


def add_regulators(model: nn.Module, sections: Literal["all"] | Iterable[int] = "all") -> RegulatorReport:
    """Put a 1x1 convolution, batch norm and ReLU at the end of every residual branch, in place.

    In a network without residual additions, one at the end of each section. Call it after `share_kernels`, before
    `filtersmith.expand` and before the optimizer is made. New layers are drawn from torch's generator.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.MaxPool2d(2), torch.nn.Conv2d(8, 8, 3))
        >>> print(fs.add_regulators(model))
        2 regulators: 808 -> 968 parameters
          section 1: 0.regulator
          section 2: 2.regulator

    Args:
        model: the network, not yet wrapped or expanded, that torch.fx can trace.
        sections: ``"all"`` (default), or the numbers of the sections, from 1: of the resolutions that the network
            works at and that have a place for a regulator, in the order of the first ones.

    Returns:
        The names of the regulators by section, the blocks without one and why, and the number of parameters before
        and after; ``print`` it.

    Raises:
        ValueError: no such section, no place for a regulator, a section that has some, a network that is wrapped,
            sharded, expanded or cannot be traced. The model is as it was.

    Source: *Deep Anchored Convolutional Neural Networks*, Fig. 3, https://arxiv.org/abs/1904.09764
    """
    network = plain(model, "add regulators")
    found, left_out = _places(network)
    if not found:
        why = "; ".join(f"{block}: {reason}" for block, reason in list(left_out.items())[:3])
        raise ValueError(f"{type(network).__name__} has no place for a regulator ({why or NOWHERE})")
    wanted = check_sections("sections", sections, len(found))
    chosen = list(found) if wanted == "all" else list(dict.fromkeys(wanted))
    for number in chosen:
        for place in found[number]:
            if is_regulated(network, place):
                raise ValueError(f"section {number} has a regulator already, behind {place.name!r}")
    before = _parameters(network)
    regulators = regulate(network, {number: found[number] for number in sorted(chosen)})
    return RegulatorReport(regulators, left_out, before, _parameters(network))


def _places(network: nn.Module) -> tuple[dict[int, list[Place]], dict[str, str]]:
    """Section -> the places for regulators in it, and why other blocks have none."""
    graphs = parts(network, network.training)
    if len(graphs) != 1 or not graphs[0].complete:
        raise ValueError(f"{type(network).__name__} cannot be traced by torch.fx, so its sections cannot be told")
    return places(graphs[0])


def why_not_add_regulators(model: nn.Module, **_: Any) -> dict[str, str]:
    """Block -> why its branch gets no regulator, for `filtersmith.why_not`; where they are refused, layer -> why."""
    layers = Surroundings.of(model).layers
    try:
        network = bare(model, "add regulators")
        found, left_out = ({}, unready(network)) if unready(network) else _places(network)
    except ValueError as refusal:
        return dict.fromkeys(layers, str(refusal))
    if not found and not left_out:
        return dict.fromkeys(layers, NOWHERE)
    taken = (place.name for places in found.values() for place in places if is_regulated(network, place))
    return left_out | dict.fromkeys(taken, "it has a regulator already")
