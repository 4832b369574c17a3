"""The comparison to which a run belongs: there stand the other seeds, and the interval that one seed has not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from filtersmith.lab import public
from filtersmith.lab.recipe.config import CompareConfig, check, read_recipe
from filtersmith.lab.results.document import FILE_NAME, Comparison, load
from filtersmith.lab.runs import plan


class Compared(NamedTuple):
    """A comparison that may be shown elsewhere, and the row that has this run."""

    comparison: Comparison
    arm: str


def comparison_of(run: Path) -> Compared | None:
    """The comparison in whose folder a run stands; ``None`` where it was trained alone, or has later been changed."""
    run = run.resolve()
    out = run.parents[2] if len(run.parents) > 2 else run
    if not ((out / FILE_NAME).is_file() and (out / "config.yaml").is_file()):
        return None
    try:
        planned = plan(check(CompareConfig, read_recipe(str(out / "config.yaml"))), out)
        comparison = load(out)
    except ValueError:  # whatever lies there, it isn't about this run
        return None
    arm = next((one.arm for one in planned if one.folder.path.resolve() == run), None)
    if arm is None or arm not in comparison.methods:
        return None
    shown = public.comparison(comparison)
    return Compared(shown, shown.methods[comparison.methods.index(arm)])
