"""How important each filter is: the criteria by which RePr and its rivals choose the filters to drop.

Every criterion gives one number for each filter; the lowest of the whole network are dropped first. ``z`` is what a
filter gives behind its batch norm and activation, ``L`` the loss of a batch.

==============  ====================================================================================================
``"ortho"``     ``-O_f``, minus the mean ``|cosine|`` to the layer's filters (RePr, CVPR 2019, Eqs. 1-2)
``"oracle"``    ``accuracy - accuracy without the filter``, one filter at a time (RePr, Sec. 3-4)
``"l1"``        L1 norm of the filter
``"l2"``        L2 norm of the filter (RePr, Sec. 2, from Han et al., 2015; neither says which norm)
``"activation"``  mean of ``|z|`` over examples and positions
``"gradient"``  mean over batches of the L1 norm of ``dL/dW[f]``
``"taylor"``    mean over examples of ``|mean over positions of dL/dz * z|`` (Molchanov et al., ICLR 2017)
``"apoz"``      minus the share of zeros in ``z`` (Hu et al., 2016)
``"random"``    uniform in [0, 1)
==============  ====================================================================================================
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from filtersmith.common.modules import unwrap
from filtersmith.common.options import bad_option, layer_names, seed_number, unknown_name
from filtersmith.filters import (
    FilterLayer,
    Need,
    Surroundings,
    cannot,
    filter_layers,
    filter_major,
    reason_against,
    transposed_groups,
)
from filtersmith.graph.channels import channel_graph
from filtersmith.graph.sites import is_depthwise
from filtersmith.measure.evaluation import batches, contiguous_weights, device_of, undisturbed
from filtersmith.measure.oracle import accuracy_drops
from filtersmith.measure.overlap import overlaps
from filtersmith.measure.responses import Loss, gradients, mean_activation, share_of_zeros, taylor
from filtersmith.pruning.deployed import plain_copy
from filtersmith.pruning.subnetwork import left_out

CRITERIA = ("ortho", "oracle", "l1", "l2", "activation", "gradient", "taylor", "apoz", "random")
ON_DATA = ("oracle", "activation", "gradient", "taylor", "apoz")
"""The criteria that look at images and labels."""
NEED = Need(deployed=True, plain=True, whole=True, own=True)
"""What a layer needs to have its filters ranked."""
_NORMALISE = {"ortho": "dim", "l1": "dim", "l2": "dim", "taylor": "layer"}


def rank(
    model: nn.Module,
    criterion: str | Callable[..., Any] = "ortho",
    *,
    data: Iterable[Any] | None = None,
    layers: Iterable[str] | None = None,
    loss: Loss | None = None,
    normalise: Literal[None, "dim", "layer"] = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The importance of every filter of a network, which is left exactly as it was.

    It runs in evaluation mode. A convolution that cannot be followed to its activation is taken at its own output.
    In a sub-phase of RePr, data shows 0 for filters that are left out; criteria of weights see those that they keep.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, (1, 2)), torch.nn.ReLU())
        >>> model[0].weight.data = torch.tensor([[3.0, 0.0], [3.0, 4.0]]).view(2, 1, 1, 2)  # cosine 0.6
        >>> {name: scores.tolist() for name, scores in fs.rank(model, "l2").items()}
        {'0': [3.0, 5.0]}
        >>> assert fs.rank(model)["0"][0].item() < -0.29  # "ortho": the lowest overlap most

    Args:
        model: the network; wrapped in DDP or compiled as well.
        criterion: ``"ortho"`` (default), ``"l1"``, ``"l2"``, ``"random"``; with data ``"oracle"``, ``"activation"``,
            ``"gradient"``, ``"taylor"``, ``"apoz"``; or a function. If its first parameter is called ``model``, it
            gets the network and returns ``{layer name: importance}`` for these layers at least (such as
            ``functools.partial(rank, criterion="taylor", data=loader)``). Any other gets the filters of one layer,
            filter-major ``(n, c/g, *k)`` and detached, and returns ``(n,)``; of a linear layer ``(n, c, 1, 1)``.
        data: batches ``(images, labels)`` for the criteria that need them; read once. Take held-out training images.
        layers: of convolutions, ConvNeXt's linear layers too; by default all that are not depthwise ("ortho" is 0).
        loss: ``loss(outputs, labels)`` for "gradient" and "taylor"; by default the mean cross entropy.
        normalise: makes layers comparable. ``"dim"`` with "ortho" divides by what random directions of that many
            dimensions D have, with "l1" by D, with "l2" by sqrt(D); ``"layer"`` with "taylor" divides by the L2 norm
            over the layer. Default: not at all.
        seed: of "random", which draws from its own generator.

    Returns:
        Layer name -> importance, shape ``(n,)``, float32 or float64, on the CPU; the lowest are pruned first.

    Raises:
        ValueError: an option out of range, missing or empty data, a layer that is unknown or cannot take part, no
            convolution, a result that is not one finite number a filter. The model is always as it was.

    Source: *RePr*, Sec. 5, https://arxiv.org/abs/1811.07275; Taylor: arXiv 1611.06440; APoZ: arXiv 1607.03250
    """
    _check(criterion, data, loss, normalise, seed)
    chosen = _eligible(model, layers)
    network = plain_copy(unwrap(model), "be ranked on data") if criterion in ON_DATA else unwrap(model)
    with undisturbed(network):
        if callable(criterion):
            found = _custom(network, criterion, chosen)
        elif data is not None and criterion in ON_DATA:
            found = _on_data(network, criterion, chosen, data, F.cross_entropy if loss is None else loss)
        else:
            found = _without_data(criterion, chosen, normalise, seed)
    if criterion == "taylor" and normalise == "layer":
        found = {name: F.normalize(scores, dim=0) for name, scores in found.items()}
    return {layer.name: _checked(found[layer.name], layer) for layer in chosen}


# --- criteria -------------------------------------------------------------------------------------------------


@torch.no_grad()
def _of_weights(criterion: str, layer: FilterLayer, normalise: str | None) -> Tensor:
    filters = _filters(layer)
    if criterion == "ortho":
        return -overlaps(filters, layer.groups, normalise="dim" if normalise == "dim" else None)
    rows = filters.to(torch.promote_types(filters.dtype, torch.float32)).flatten(1)
    norms: Tensor = torch.linalg.vector_norm(rows, ord=int(criterion[1]), dim=1)
    if normalise == "dim":
        norms = norms / (rows.shape[1] if criterion == "l1" else math.sqrt(rows.shape[1]))
    return norms


def _without_data(
    criterion: str, layers: tuple[FilterLayer, ...], normalise: str | None, seed: int
) -> dict[str, Tensor]:
    if criterion == "random":
        generator = Generator("cpu").manual_seed(seed)
        return {layer.name: _random(layer.filters, generator) for layer in layers}
    return {layer.name: _of_weights(criterion, layer, normalise) for layer in layers}


def _random(filters: int, generator: Generator) -> Tensor:
    return torch.rand(filters, generator=generator, dtype=torch.float64, device="cpu")


def _on_data(
    network: nn.Module, criterion: str, chosen: tuple[FilterLayer, ...], data: Iterable[Any], loss: Loss
) -> dict[str, Tensor]:
    """The scores of layers, measured in the network or in its plain copy."""
    measured = _in_network(network, criterion, _eligible(network, [layer.name for layer in chosen]), data, loss)
    return {layer.name: _without_absent(layer, measured[layer.name], criterion) for layer in chosen}


def _in_network(
    network: nn.Module, criterion: str, layers: tuple[FilterLayer, ...], data: Iterable[Any], loss: Loss
) -> dict[str, Tensor]:
    given = batches(data, device_of(network))
    if criterion == "oracle":
        # One channel at a time is taken off: several times slower where the channels lie side by side.
        with contiguous_weights(network):
            return accuracy_drops(network, layers, ((images.contiguous(), labels) for images, labels in given))
    if criterion == "gradient":
        return gradients(network, layers, given, loss)
    if criterion == "taylor":
        return taylor(network, layers, given, loss)
    if criterion == "activation":
        return mean_activation(network, layers, given)
    return {name: -share for name, share in share_of_zeros(network, layers, given).items()}


def is_of_network(criterion: Callable[..., Any]) -> bool:
    """Whether a function that ranks gets the network; else it gets the filters of one layer."""
    try:
        first = next(iter(inspect.signature(criterion).parameters), None)
    except (TypeError, ValueError):  # some functions written in C do not tell
        first = None
    return first == "model"


def _custom(network: nn.Module, criterion: Callable[..., Any], layers: tuple[FilterLayer, ...]) -> dict[str, Any]:
    if not is_of_network(criterion):
        return {layer.name: criterion(_as_convolution(_filters(layer))) for layer in layers}
    found = criterion(network)
    if not isinstance(found, Mapping):
        raise ValueError(f"the criterion must return a mapping of layers to scores, got {type(found).__name__}")
    for layer in layers:
        if layer.name not in found:
            raise ValueError(f"the criterion gave nothing for layer {layer.name!r}")
    return dict(found)


def _without_absent(layer: FilterLayer, scores: Tensor, criterion: str) -> Tensor:
    """Filters that are left out now have activations and gradients of 0, also where something is made of zeros."""
    gone = left_out(layer.module)
    nothing = -1.0 if criterion == "apoz" else 0.0
    return scores if gone is None else scores.masked_fill(gone.to(scores.device), nothing)


def _filters(layer: FilterLayer) -> Tensor:
    return filter_major(layer.weight.detach(), transposed_groups(layer.module))


def _as_convolution(filters: Tensor) -> Tensor:
    return filters if filters.ndim > 2 else filters[:, :, None, None]


# --- checks ---------------------------------------------------------------------------------------------------


def _check(criterion: Any, data: Any, loss: Any, normalise: Any, seed: Any) -> None:
    if not callable(criterion):
        if not isinstance(criterion, str):
            raise bad_option("criterion", criterion, "a name or a function")
        if criterion not in CRITERIA:
            raise unknown_name("criterion", criterion, CRITERIA)
    fitting = None if callable(criterion) else _NORMALISE.get(criterion)
    if normalise is not None and normalise != fitting:
        allowed = f"None or {fitting!r}" if fitting else "None"
        raise bad_option("normalise", normalise, f"{allowed} with this criterion")
    if loss is not None and not callable(loss):
        raise bad_option("loss", loss, "None or a function of outputs and labels")
    seed_number("seed", seed)
    if criterion in ON_DATA:
        if data is None:
            raise ValueError(f"criterion {criterion!r} needs data: batches (images, labels)")
        if not isinstance(data, Iterable):
            raise bad_option("data", type(data).__name__, "an iterable of batches (images, labels)")


def _eligible(model: nn.Module, layers: Iterable[str] | None) -> tuple[FilterLayer, ...]:
    """The layers whose filters are ranked; ``ValueError`` where one cannot be."""
    names, around = None if layers is None else layer_names(layers), Surroundings.of(model)
    if not around.layers or around.flattened:
        return filter_layers(model, names, replace(NEED, linear="never"), "be ranked")
    linear = {name for name, module in around.layers.items() if isinstance(module, nn.Linear)}
    asked = linear if names is None else linear & set(names)
    pointwise = channel_graph(model).linear if asked else set[str]()
    if names is None:
        fit = {name for name in pointwise if reason_against(name, around.layers[name], NEED, around) is None}
        names = [n for n, m in around.layers.items() if n in fit or not (n in linear or is_depthwise(m))]
        if not names:
            raise ValueError(f"{type(unwrap(model)).__name__} has no convolution that is not depthwise")
    elif asked - pointwise:
        raise cannot(next(name for name in names if name in asked - pointwise), "be ranked", "it is a linear layer")
    return filter_layers(model, names, NEED, "be ranked")


def _checked(given: Any, layer: FilterLayer) -> Tensor:
    """A layer's scores on the CPU; ``ValueError`` where they are not one finite real number for each filter."""
    where = f"layer {layer.name!r}"
    if not isinstance(given, Tensor) or given.shape != (layer.filters,) or given.is_complex():
        got = f"{given.dtype}, shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"{where}: its importance must be {layer.filters} real numbers, one per filter, got {got}")
    dtype = torch.promote_types(given.dtype, torch.float32) if given.is_floating_point() else torch.float64
    scores: Tensor = given.detach().to("cpu", dtype, copy=True)
    if not scores.isfinite().all():
        first = int((~scores.isfinite()).nonzero()[0])
        raise ValueError(f"{where}: the importance of filter {first} is {float(scores[first])}")
    return scores
