"""The plain network that a sub-network is: full shape, the class it had, zeros for what is left out.

Where zeros in the parameters do not make it, a copy goes on as a sub-network, and its state cannot be had.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from filtersmith.common.modules import deep_copy, plain_name, unwrap
from filtersmith.common.options import bad_option
from filtersmith.common.subphase import owner_of
from filtersmith.filters import cannot
from filtersmith.pruning.plan import fill
from filtersmith.pruning.sliced import Slicing, filled, slice_module, slicing_of, unslice_module


def refuse_what_stays_sliced(
    network: nn.Module, doing: str = "be deployed without some filters", way_out: str = "deploy in a full phase"
) -> None:
    """``ValueError`` for a sub-network that zeros in the parameters do not make; ``doing``: behind "cannot"."""
    for _, _, slicing in _sliced(network):
        if slicing.why_sliced is not None:
            name, why = slicing.why_sliced
            raise cannot(name, doing, why, way_out)


def plain_state_dict(network: nn.Module) -> dict[str, Any]:
    """A copy of a network's ``state_dict``, with zeros for what it leaves out now.

    Raises:
        ValueError: zeros do not make the network without that.
    """
    refuse_what_stays_sliced(network)
    by_tensor: dict[int, Tensor] = {}
    by_name: dict[str, Tensor] = {}
    for name, module, _ in _sliced(network):
        for of_module, tensor in filled(module).items():
            by_tensor[id(getattr(module, of_module))] = by_name[f"{name}.{of_module}"] = tensor.detach()
    state = network.state_dict(keep_vars=True)
    for key, value in state.items():
        if not isinstance(value, Tensor):
            state[key] = copy.deepcopy(value)
        elif id(value) not in by_tensor:  # a hook of somebody's may have put another one there
            by_tensor[id(value)] = by_name[key] if key in by_name else value.detach().clone()
        if isinstance(value, Tensor):
            state[key] = by_tensor[id(value)]
    return state


def plain_copy(network: nn.Module, doing: str) -> nn.Module:
    """A copy of a network with zeros for what it leaves out now; a network that leaves nothing out is its own.

    Raises:
        ValueError: zeros do not make the network without that, or it cannot be copied. ``doing``: behind "cannot".
    """
    if next(_sliced(network), None) is None:
        return network
    refuse_what_stays_sliced(network, doing, "wait for a full phase")
    try:
        return deep_copy(network)
    except Exception as error:  # of a part that is the user's own
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"cannot {doing} in a sub-phase, which takes a copy of the network: {why}; wait for a full phase"
        ) from error


def leave_out_of(copied: nn.Module, network: nn.Module) -> None:
    """Leave out of a copy of a network, or of an average of it, what the network leaves out now.

    Raises:
        ValueError: it is the network itself, or no copy of it; it is as it was.
    """
    copied = unwrap(copied)
    if copied is network:
        raise bad_option("network", "the trained network itself", "a copy of it")
    modules = {plain_name(name): module for name, module in copied.named_modules()}
    pairs = [(modules.get(plain_name(name)), module, slicing) for name, module, slicing in _sliced(network)]
    for twin, module, _ in pairs:
        if twin is None or _shapes(twin) != _shapes(module):
            raise bad_option("network", type(copied).__name__, f"a copy of the trained {type(network).__name__}")
    for module in modules.values():
        unslice_module(module)
    for twin, _, slicing in pairs:
        assert twin is not None, "checked above"
        if slicing.plan is None:
            slice_module(twin, slicing)
        else:
            fill(replace(slicing.plan, module=twin))


def whole(copied: nn.Module) -> nn.Module:
    """A copy of a network, which computes with all of its filters from now on, as far as it does not yet."""
    for module in copied.modules():
        if owner_of(module) is None:
            unslice_module(module)
    return copied


def _sliced(network: nn.Module) -> Iterator[tuple[str, nn.Module, Slicing]]:
    for name, module in network.named_modules():
        if (slicing := slicing_of(module)) is not None:
            yield name, module, slicing


def _shapes(module: nn.Module) -> dict[str, Any]:
    tensors = {**module._parameters, **module._buffers}
    return {name: None if tensor is None else tensor.shape for name, tensor in tensors.items()}
