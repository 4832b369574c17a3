"""KFLO: kernel-filtering linear over-parameterisation.

**Paper.** *Utilizing Excess Resources in Training Neural Networks*, Henig and Giryes, 2022, Sec. 2, Eqs. (1)-(4),
Sec. 4, https://arxiv.org/abs/2207.05532

**What it does.** Trains every kernel as a product of ``depth`` larger ones and deploys the product::

    W' = W_B ... W_3 W_2 W_1,    W_1: (r, c/g, *k)    W_2 .. W_{B-1}: (r, r)    W_B: (n, r)    r = round(width * n)

The product is taken on the kernel (W_1 as a matrix with one underlying filter a row), not on feature maps: the
network gets no deeper, and an input is convolved once, with W'. A bias goes through the same cascade, ``b' = W_B ...
W_2 b_1``. W_2 .. W_B start as identities ``[I | 0]`` and the first rows of W_1 as the layer's own kernel, so that
the expanded network computes exactly what it did before; the other rows are drawn as torch draws the layer's
weights.

**When to use it.** Where training may cost more and the deployed network must stay as it is. Before the optimizer is
made; collapse after training::

    training = fs.compose("kflo(width=4)")  # in any loop: prepare() expands, finish() collapses
    fs.expand(model, fs.KFLO(depth=2, width=4))  # alone
    optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-4), lr=0.1, momentum=0.9)
    deployed = fs.collapse(model)  # after training: plain layers, the same state_dict keys as before

``fs.KFLO.from_pretrained(model, [state_dict, ...])`` starts from trained networks (Sec. 4, transfer learning).

**When not to use it.** With ``depth=3``: in the paper every network loses by it, on CIFAR-10 by 0.2 to 2.5 points.
Where layers are wide and time is short: on VGG-16 a training step takes 1.8 times as long. Where memory is short:
width 4 trains more than four times the weights, with their momentum. With RePr, DSD or Prune, which refuse it.

**Options.** ``depth`` B = 2 and ``width`` rho = 4 are the paper's choice; rho need not be whole.
``init="identity"`` (paper); ``"default"`` draws W_2 .. W_B as torch draws a linear layer, a control for what the
identity is worth. All convolutions and linear layers are expanded, the classifier too; ``layers`` of ``fs.expand``
names others. ``fs.param_groups`` has the paper's rule of decay: the network's decay on the generated kernel W', none
on W_1 and b_1, 1e-9 on W_2 .. W_B. The first is part of the backward pass, once for each gradient: it shows in the
gradients of the factors and is clipped with them, and a line search (LBFGS) does not see it in the loss. A plain
optimizer over ``model.parameters()`` decays the factors instead.

**Where paper, authors' code and we differ.** The authors' code has B = 2 only and never collapses; it puts the decay
into the loss as ``decay * ||W'||^2``, twice the gradient of the text's rule: ``fs.param_groups(...,
decay_factor=1.0)`` reproduces that. The paper omits the bias; the code treats it as we do. With width < 1 some
filters start at zero; we warn. Intermediate matrices for B > 2 are square identities.

**Compatibility.** Convolutions in 1 to 3 dimensions, grouped, depthwise and transposed, linear layers; any stride,
padding, padding mode and dilation; channels_last. Autocast in bfloat16 and float16 (there, ``fs.param_groups`` needs
the gradient scaler); DDP and FSDP2 (expand first); ``torch.compile``, where every backward pass that accumulates, and
every further call of one layer in it, counts the decay again; AveragedModel, which averages the factors and not the
products. FSDP1 is refused where there is decay, DataParallel is not supported. WAU, ASA: their unit is an underlying
filter, a row of W_1, an extension that no paper covers.

**Measured results.** On CIFAR-10 (JPEG) with Cifar-quick, 15 epochs where the paper trains 150, 2 seeds: plain 79.3%,
KFLO 2x1 79.8%, 2x2 79.9%, 2x4 80.3%, 3x2 79.4%. 2x4 ended 1.0 points above, near the paper's 1.15, but DO-Conv higher
still (80.7%), in the paper lower: a short schedule may favour what learns faster, and two seeds do not settle a
point. On C^3(32), likewise 15 epochs and 2 seeds: plain 71.6%, 2x1 71.9%, 2x2 72.1%, 2x4 72.0%, 3x2 72.2%. On digits
with 200 images, 20 seeds, the difference of 2x4 is −0.06 [−0.40, +0.29] points (95% interval). All tables:
``results/README.md``; what a step costs: ``benchmarks/README.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

from filtersmith.common.modules import bare, memory_format
from filtersmith.common.options import bad_option, number, whole_number
from filtersmith.common.said import warn_user
from filtersmith.filters import FilterLayer, filter_major, has_filters, transposed_groups, weight_layout
from filtersmith.reparam import Expansion, Role, expand, fresh, layers_not_expanded, originals, select
from filtersmith.reparam.stacking import Stacked, as_states, check_fit, stack

Init = Literal["identity", "default"]
INITS: tuple[Init, ...] = ("identity", "default")


def compose(filtered: Tensor, pointwise: Sequence[Tensor]) -> Tensor:
    """The generated kernel ``W_B ... W_2 W_1`` (Eqs. 3, 4).

    Args:
        filtered: W_1, shape ``(r, c/g, *k)``.
        pointwise: W_2, ..., W_B, each of shape ``(rows, columns)``; the last one has n rows.

    Returns:
        shape ``(n, c/g, *k)``, in the memory format of ``filtered``.
    """
    # Rows of a matrix in memory order: a channels_last weight is composed as it lies, without a copy.
    last = memory_format(filtered) != torch.contiguous_format
    ordered = filtered.movedim(1, -1) if last else filtered
    product: Tensor = torch.linalg.multi_dot([*reversed(pointwise), ordered.flatten(1)]).unflatten(
        1, ordered.shape[1:]
    )
    return product.movedim(-1, 1) if last else product


def _compose(filtered: Tensor, *pointwise: Tensor) -> Tensor:
    return compose(filtered, pointwise)


def identity(rows: int, columns: int, like: Tensor) -> Tensor:
    """``[I | 0]``, or its first rows where there are fewer columns, with the type and device of ``like``."""
    return torch.eye(rows, columns, dtype=like.dtype, device=like.device)


class Cascade(Expansion):
    """The parametrization of a weight: W_1 is ``original0`` (filter-major), W_2 to W_B are ``original1`` and on."""

    has_underlying_filters = True

    def __init__(
        self, layer: nn.Module, shapes: Sequence[tuple[int, int]], init: Init, decay_factor: float = 0.5
    ) -> None:
        super().__init__()
        self.decay_factor = decay_factor
        weight: Tensor = layer.weight  # type: ignore[assignment]
        inner: Role = "inner"
        self.roles: tuple[Role, ...] = ("filtered", *(inner for _ in shapes))
        self.fan_in: int = nn.init._calculate_fan_in_and_fan_out(weight)[0]
        self._shapes = tuple(shapes)
        self._init = init
        self._groups = transposed_groups(layer)

    def forward(self, filtered: Tensor, *pointwise: Tensor) -> Tensor:
        parameters = filtered, *pointwise
        kernel = self.decayed(self.composed(_compose, parameters), parameters)
        if self._groups is None:
            return kernel
        return weight_layout(kernel, self._groups).clone(memory_format=memory_format(filtered))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The start of the cascade at a kernel: assigning ``layer.weight`` starts it anew."""
        rows = filter_major(weight, self._groups)
        width = self._shapes[0][1]
        more = fresh((max(width - len(rows), 0), *rows.shape[1:]), self.fan_in, weight)
        filtered = torch.cat([rows[:width], more]).clone(memory_format=memory_format(weight))
        if self._init == "identity":
            return filtered, *(identity(*shape, like=weight) for shape in self._shapes)
        return filtered, *(fresh(shape, shape[1], weight) for shape in self._shapes)


class BiasCascade(Expansion):
    """The parametrization of a bias: b_1 goes through the weight's own W_2 to W_B."""

    roles: tuple[Role, ...] = ("filtered",)

    def __init__(self, weight: ParametrizationList, width: int, fan_in: int) -> None:
        super().__init__()
        self._weight = (weight,)  # in a tuple: referred to, not owned, so that no parameter is listed twice
        self._width = width
        self._fan_in = fan_in

    def forward(self, bias: Tensor) -> Tensor:
        for matrix in originals(self._weight[0])[1:]:
            bias = matrix @ bias
        return bias

    def right_inverse(self, bias: Tensor) -> Tensor:
        more = fresh((max(self._width - len(bias), 0),), self._fan_in, bias)
        return torch.cat([bias[: self._width], more])


class KFLO:
    """Train each kernel as a product of larger ones, and deploy the product.

    Hand it to `filtersmith.expand` before the optimizer is made; `filtersmith.collapse` gives the plain network back.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
        >>> model = fs.expand(model, fs.KFLO(depth=2, width=4))
        >>> [tuple(p.shape) for p in model[0].parametrizations.weight.parameters()]
        [(32, 3, 3, 3), (8, 32)]
        >>> optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-4), lr=0.1)  # and train as ever
        >>> sum(p.numel() for p in fs.collapse(model).parameters())
        3114

    Args:
        depth: B, the number of factors, at least 2 (default, paper).
        width: rho > 0; a layer with n filters gets ``round(width * n)`` underlying ones. 4 by default (paper).
        init: of W_2 to W_B: ``"identity"`` (default, paper: the expanded network computes what it did before) or
            ``"default"`` (drawn as torch draws a linear layer).
        decay_factor: of the penalty on generated kernels, as `filtersmith.param_groups` takes it, at least 0: 0.5
            (default, the paper's text) or 1.0 (the authors' code).

    Raises:
        ValueError: an option out of range; from `filtersmith.expand` a layer that cannot be expanded.

    Source: *Utilizing Excess Resources in Training Neural Networks*, Sec. 2, https://arxiv.org/abs/2207.05532
    """

    networks = None
    resolved: ClassVar[tuple[str, ...]] = ("networks",)

    def __init__(self, depth: int = 2, width: float = 4, init: Init = "identity", decay_factor: float = 0.5) -> None:
        self.depth: int = whole_number("depth", depth, 2)
        number("width", width, lambda x: 0 < x < math.inf, "a number above 0")
        self.width = width  # as it was given: 4 is shown as 4
        if init not in INITS:
            raise bad_option("init", init, f"one of {', '.join(INITS)}")
        self.init: Init = init
        self.decay_factor: float = number(
            "decay_factor", decay_factor, lambda x: 0 <= x < math.inf, "a number of at least 0"
        )

    @classmethod
    def for_training(
        cls,
        depth: int = 2,
        width: float = 4,
        init: Init = "identity",
        decay_factor: float = 0.5,
        networks: Sequence[nn.Module] | None = None,
    ) -> KFLO | Stacked:
        """What a composition makes of the options; with ``networks`` the width is their number."""
        if networks is None:
            return cls(depth, width, init, decay_factor)
        listed = list(networks) if isinstance(networks, (list, tuple)) else []
        if not listed or not all(isinstance(network, nn.Module) for network in listed):
            raise bad_option("networks", networks, "a list of trained networks")
        if width != 4 or init != "identity":
            option, value = ("width", width) if width != 4 else ("init", init)
            raise bad_option(option, value, "left out with networks, which are the underlying filters")
        return Stacked(cls(depth, len(listed), init, decay_factor), listed)

    def __repr__(self) -> str:
        decay = "" if self.decay_factor == 0.5 else f", decay_factor={self.decay_factor}"
        return f"KFLO(depth={self.depth}, width={self.width}, init={self.init!r}{decay})"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Expand the network, as `filtersmith.expand` does."""
        return expand(model, self)

    def wants(self, layer: nn.Module) -> bool:
        """Every convolution and linear layer (Sec. 4)."""
        return has_filters(layer)

    def refuses(self, layer: nn.Module) -> str | None:
        """Why a layer cannot be expanded, or ``None``."""
        if self._underlying(layer) < 1:
            return f"width {self.width} leaves it no underlying filter"
        return None

    def register(self, layer: nn.Module) -> None:
        """Expand one layer, which `filtersmith.expand` has checked."""
        filters = FilterLayer("", layer).filters
        width = self._underlying(layer)
        if width < filters and self.init == "identity":
            warn_user(f"KFLO: width {self.width} starts {filters - width} of {filters} filters of a layer at zero")
        shapes = [(width, width)] * (self.depth - 2) + [(filters, width)]
        cascade = Cascade(layer, shapes, self.init, self.decay_factor)
        register_parametrization(layer, "weight", cascade)
        if layer.bias is not None:
            weight: ParametrizationList = layer.parametrizations["weight"]  # type: ignore[assignment, index]
            register_parametrization(layer, "bias", BiasCascade(weight, width, cascade.fan_in))

    @classmethod
    def why_not(cls, model: nn.Module, **options: Any) -> dict[str, str]:
        """Layer -> why it is not expanded, for `filtersmith.why_not`; with the options of the class."""
        return layers_not_expanded(model, cls(**options))

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        state_dicts: Iterable[Mapping[str, Any]],
        *,
        depth: int = 2,
        layers: Iterable[str] | None = None,
        decay_factor: float = 0.5,
    ) -> nn.Module:
        """Expand ``model`` with the kernels of P trained networks as its underlying filters (Sec. 4).

        The width is P. The network then computes what the first one does. What is no kernel (batch norms, and layers
        that are not expanded) comes from the first network. A key that all of them lack keeps its value in ``model``
        and its layer starts as with `expand`: leave the classifier out where the classes are others.

        Args:
            model: a plain network, changed in place.
            state_dicts: of plain networks of its class, at least one.
            depth, decay_factor: as of `KFLO`.
            layers: as of `filtersmith.expand`.

        Returns:
            ``model``.

        Raises:
            ValueError: no state dict, a key that ``model`` does not have or that only some of them have, another
                shape, and whatever `filtersmith.expand` refuses; ``model`` is as it was.
        """
        states = as_states(state_dicts)
        method = cls(depth=depth, width=len(states), decay_factor=decay_factor)
        chosen = select(model, method, layers)  # refuses before anything is loaded
        network = bare(model, "expand")
        check_fit(states, network)
        network.load_state_dict(states[0], strict=False)
        expand(model, method, layers=[target.name for target in chosen])
        with torch.no_grad():
            for target in chosen:
                prefix = f"{target.name}." if target.name else ""
                for tensor in ("weight", "bias"):
                    if f"{prefix}{tensor}" in states[0]:
                        stack(target.layer, tensor, [state[f"{prefix}{tensor}"] for state in states])
        return model

    def _underlying(self, layer: nn.Module) -> int:
        return round(self.width * FilterLayer("", layer).filters)
