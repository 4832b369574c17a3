"""``python sharded_on_cpu.py SCRIPT``: a script with accelerate whose FSDP plugin counts without a GPU, too.

Accelerate takes a plugin for FSDP on accelerators only; on CPUs it leaves it aside. Here its state is put to FSDP by
hand, so that two processes of a test shard weights over gloo.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

_init = state.AcceleratorState.__init__


def _with_fsdp(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    _init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    state.AcceleratorState.__init__ = _with_fsdp
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
