"""Everything of a network, and of torch, that a measure has to leave as it was."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "values": copy.deepcopy(model.state_dict()),
        "modes": [module.training for module in model.modules()],
        "trained": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "objects": [id(tensor) for tensor in (*model.parameters(), *model.buffers())],
        "hooks": [(len(module._forward_hooks), *module._forward_pre_hooks.values()) for module in model.modules()],
        "attributes": [
            {
                name: id(value) if isinstance(value, torch.Tensor) else type(value)
                for name, value in vars(module).items()
            }
            for module in model.modules()
        ],
        "random": torch.get_rng_state(),
    }
