"""KFLO's transfer by stacking: the kernels of several trained networks as the underlying filters of one (Sec. 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from filtersmith.common.modules import bare
from filtersmith.common.options import bad_option, unknown_name
from filtersmith.filters import filter_major, transposed_groups
from filtersmith.reparam.parametrization import originals


class Stacked:
    """KFLO that begins with trained networks, as a composition has it: ``kflo(networks=[...])``.

    Args:
        method: a `KFLO`, how the network is expanded; its width is the number of networks.
        networks: of the class of the one that is trained. What has another shape there, as a classifier for other
            classes, begins as it was drawn.
    """

    def __init__(self, method: Any, networks: Sequence[nn.Module]) -> None:
        self.method: Any = method
        self.networks: Sequence[nn.Module] = networks

    def prepare(self, model: nn.Module) -> nn.Module:
        """Expand the network around the networks' kernels; ``ValueError`` where nothing of one fits."""
        own = bare(model, "expand").state_dict()
        states = [network.state_dict() for network in self.networks]
        fits = [key for key in own if all(key in state and state[key].shape == own[key].shape for state in states)]
        if not any(key.endswith("weight") for key in fits):
            raise ValueError(
                "networks must be of the class of the network that is trained: none of their weights fit"
            )
        states = [{key: state[key] for key in fits} for state in states]
        method = self.method
        expanded: nn.Module = type(method).from_pretrained(
            model, states, depth=method.depth, decay_factor=method.decay_factor
        )
        return expanded


def stack(layer: nn.Module, tensor: str, kernels: list[Tensor]) -> None:
    """Fill the underlying filters (or biases) of an expanded layer with those of several plain ones."""
    how: ParametrizationList = layer.parametrizations[tensor]  # type: ignore[assignment, index]
    groups = transposed_groups(layer) if tensor == "weight" else None
    originals(how)[0].copy_(torch.cat([filter_major(kernel, groups) for kernel in kernels]))


def as_states(states: Any) -> list[Mapping[str, Any]]:
    allowed = "a list of one or more state dicts"
    if isinstance(states, Mapping) or not isinstance(states, Iterable):
        raise bad_option("state_dicts", type(states).__name__, allowed)
    listed = list(states)
    for state in listed:
        if not isinstance(state, Mapping):
            raise bad_option("state_dicts", f"a list with a {type(state).__name__}", allowed)
    if not listed:
        raise bad_option("state_dicts", listed, allowed)
    return listed


def check_fit(states: list[Mapping[str, Any]], network: nn.Module) -> None:
    own = network.state_dict()
    for place, state in enumerate(states):
        if not state:
            raise ValueError(f"state_dicts[{place}] must hold parameters of the network, got an empty one")
        for key, value in state.items():
            if key not in own:
                raise unknown_name(f"key of state_dicts[{place}]", key, own)
            shapes = [getattr(one, "shape", None) for one in (own[key], value)]
            if shapes[0] != shapes[1]:
                wanted, got = (tuple(shape) if shape is not None else "no tensor" for shape in shapes)
                raise ValueError(
                    f"state_dicts[{place}] must have {key!r} of the shape {wanted}, got {got}: "
                    "leave the key out to start that layer afresh"
                )
        if other := set(state) ^ set(states[0]):
            raise ValueError(
                f"state_dicts must have the same keys, got {min(other)!r} in only one of numbers 0 and {place}"
            )
