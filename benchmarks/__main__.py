"""All tables of what the methods and the laboratory cost, one after another: ``python -m benchmarks``.

``--write`` keeps in results/performance what is kept there, ``--device cuda`` measures what there is to measure on a
GPU. Each table is made by a process of its own, and where one fails the others are made all the same; the exit status
is 1 then. On two cores, on which nothing else should run, all of it takes about an hour.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import arguments

ON_GPU = ("step_cost", "kflo_cost", "repr_cost", "lab_overhead", "compile_once", "side_by_side")
KEPT = (*ON_GPU, "profiles", "growth")
ALL = (*KEPT, "arithmetic", "sharing_memory", "loader", "imagenet")


def main() -> None:
    asked, failed = arguments(__doc__, device=True), []
    for name in ALL if asked.device == "cpu" else ON_GPU:
        options = ["--write"] * (asked.write and name in KEPT)
        options += ["--device", asked.device] if name in ON_GPU else []
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
