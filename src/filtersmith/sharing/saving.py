"""How a kernel that layers share stands in the ``state_dict``, which is what every library saves.

Under each of its names, either as one tensor or as one for each name:

- One tensor, where the network that was tied is saved by itself: safetensors' ``save_model`` and ``load_model`` look
  for that, and a file holds the kernel once.
- Each its own, where whoever loads the file makes the network of its class, with free kernels: a kernel that stood
  there once would fill one layer and leave the others as they were drawn. That is what ``save_pretrained`` is for (of
  transformers, diffusers, ``PyTorchModelHubMixin``), and how the whole is loaded that the network is a part of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_DECLARED = "all_tied_weights_keys"
"""Attribute of a network of transformers 5: name -> the name that it shares a tensor with; tied after loading."""

_OURS = "_declared_ties"
"""Attribute of such a network: what of that came from here."""


def saved_apart(network: nn.Module, prefix: str) -> bool:
    """Whether each name has a tensor of its own: see above."""
    return prefix != "" or callable(getattr(type(network), "save_pretrained", None))


def name_kernels(network: nn.Module) -> None:
    """See to it that the network, and what part of it may be saved by itself, has its kernels apart where it must."""
    for module in network.modules():
        ours = module is network or saved_apart(module, "")
        if ours and _name_apart not in module._state_dict_hooks.values():
            module.register_state_dict_post_hook(_name_apart)


def declare(network: nn.Module, groups: Iterable[Sequence[str]]) -> None:
    """Tell transformers which layers share a kernel, in the place of what it was told before.

    A class that shares kernels when it is made has them shared again after ``from_pretrained``, which gives each name
    a Parameter of its own.
    """
    if isinstance(known := vars(network).get(_DECLARED), dict):
        old = vars(network).get(_OURS, {})
        ours = {f"{name}.weight": f"{group[0]}.weight" for group in groups for name in group[1:]}
        setattr(network, _DECLARED, {name: source for name, source in known.items() if name not in old} | ours)
        setattr(network, _OURS, ours)


def _name_apart(module: nn.Module, state: MutableMapping[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
    """After ``state_dict``: the first name keeps the kernel itself, the others get copies of it."""
    if not saved_apart(module, prefix):
        return
    layers = (layer for layer in module.modules() if isinstance(layer, _ConvNd))
    kernels = Counter(id(kernel) for layer in layers if (kernel := layer._parameters.get("weight")) is not None)
    named: set[int] = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in named:
            saved = state.get(prefix + name)
            if isinstance(saved, Tensor) and not isinstance(saved, nn.Parameter):  # those are asked for (keep_vars)
                state[prefix + name] = saved.clone()
        elif kernels[id(parameter)] > 1:
            named.add(id(parameter))
