"""New processes, forked from a server that has imported everything: a start takes a tenth of a second and not ten."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

# torch._dynamo: every optimizer imports it when it is made
IMPORTED = ["filtersmith.lab.compare", "filtersmith.cli", "accelerate", "torch._dynamo", "torch.distributed.fsdp"]
IMPORTED += ["sklearn.datasets", "sklearn.metrics", "sklearn.model_selection", "pytest", "hypothesis"]
IMPORTED += ["torchvision.models.detection", "torchvision.transforms.v2"]
IMPORTED += ["torchmetrics.detection", "faster_coco_eval"]


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """``work(*arguments)``, a function of a module, in a new process that ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process
