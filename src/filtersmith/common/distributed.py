"""Agreement between the processes of a distributed run: what the first one decides holds for all."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """What this process rank holds of a tensor: of a sharded one its part, else all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def follow_first(tensor: Tensor) -> None:
    """Overwrite a tensor with that of rank 0; nothing where there is one process. All ranks have to call it."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    # NCCL sends what lies on a GPU only.
    sent = tensor.detach()
    sent = sent.cuda() if dist.get_backend() == "nccl" and not sent.is_cuda else sent.contiguous()
    dist.broadcast(sent, src=0)
    tensor.copy_(sent)
