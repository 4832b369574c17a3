"""Several methods, several seeds, one recipe: train them all, then say what each is worth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from torch import nn

from filtersmith.lab.data.describe import noted
from filtersmith.lab.generations import TEACHER, lacks_teacher, with_teacher
from filtersmith.lab.jobs.cluster import Cluster
from filtersmith.lab.pictures import draw
from filtersmith.lab.publish import Results
from filtersmith.lab.recipe.config import CompareConfig, to_yaml
from filtersmith.lab.recipe.origin import OptionError
from filtersmith.lab.results.document import Comparison, write_atomically
from filtersmith.lab.runner import Elsewhere, Surroundings, train_all
from filtersmith.lab.runs import (
    check_folders,
    config_of,
    kept,
    kept_damaged,
    network_title,
    normalised,
    plan,
    rows,
    title,
    with_earlier,
)
from filtersmith.lab.tasks.task import TaskData
from filtersmith.lab.training.folder import make_folder
from filtersmith.lab.training.locking import locked
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import fingerprint
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.standing import examine
from filtersmith.lab.training.stopping import Deadline, StopRequest
from filtersmith.methods import BASELINE
from filtersmith.methods.composition import Resolve

__all__ = [
    "check_folders",
    "check_methods",
    "compare",
    "kept",
    "kept_damaged",
    "network_title",
    "normalised",
    "plan",
    "rows",
    "title",
    "with_earlier",
]


def check_methods(config: CompareConfig, data: TaskData) -> list[str]:
    """Build every method once without training, so that a bad option does not show after an hour.

    Returns which weights fitted, and warnings: what will run, but hardly as it was meant.
    """
    first = Session(config.run_config(BASELINE, config.seeds[0]), data)
    notes = first.made.notes()
    for arm in config.methods:
        if arm != BASELINE:
            try:
                session = _built(config, arm, data, first.model)
            except ValueError as error:
                raise OptionError("methods", f"{arm}: {error}") from error
            notes += session.made.notes()
            notes += [f"warning: {arm}: {warning}" for warning in session.composition.warnings]
    return list(dict.fromkeys(notes))


def refusals(config: CompareConfig, data: TaskData) -> Callable[[str], str | None]:
    """What says of a method why the network of a comparison does not take it; ``None`` where it does."""
    plain = Session(config.run_config(BASELINE, config.seeds[0]), data)

    def refusal(method: str) -> str | None:
        try:
            _built(config, method, data, plain.model)
        except ValueError as error:
            return str(error)
        return None

    return refusal


def _built(config: CompareConfig, arm: str, data: TaskData, plain: nn.Module) -> Session:
    """A row, ready to be trained with the first seed; where it needs a teacher, ``plain`` stands for that."""
    own = config_of(config, arm, config.seeds[0])
    stands_in = _always(plain) if lacks_teacher(own.method) else None
    own = own.model_copy(update={"method": with_teacher(own.method, TEACHER)})
    return Session(own, data, resolve=stands_in)


def _always(network: nn.Module) -> Resolve:
    """Any teacher is a copy of this network: it gives logits of the right shape before there is a better one."""
    twin = copy.deepcopy(network)
    return lambda name: twin


def compare(
    config: CompareConfig,
    out: Path,
    data: TaskData,
    live: Live,
    *,
    jobs: int = 1,
    cluster: Cluster | None = None,
    deadline: Deadline | None = None,
    not_together: Mapping[str, str] | None = None,
) -> Comparison:
    """Train every run that is not finished yet; the results so far are saved after each.

    Args:
        config: as `normalised` returns it.
        out: its folder: ``config.yaml``, ``results.json``, of tasks that have them ``pictures.json``, and
            ``runs/METHOD/seed-S``. Methods and seeds of earlier
            calls stay in it, and in the results.
        data: the loaded data set.
        live: shows progress.
        jobs: so many runs are trained at a time, each in a process that loads the data itself and has its share of
            this one's threads.
        cluster: of Ray, whose nodes train the runs, in place of processes of this machine.
        deadline: all stops before it, with checkpoints.
        not_together: pairs that were asked for and are not in ``config`` -> why; those of earlier calls stay.

    Raises:
        ValueError: ``out`` holds another comparison or cannot be written to, or an option does not fit; a cluster
            cannot be used.
        Interrupted: SIGTERM, Ctrl-C or the deadline; results so far and checkpoints are written.
    """
    seen = fingerprint(config, data)
    asked, whole = with_earlier(config, out)
    check_folders(asked, whole, out, seen)
    for line in (kept(asked, whole), *kept_damaged(asked, whole, out), *noted(data), *check_methods(asked, data)):
        if line is not None:
            live.note(line)
    make_folder(out)
    # One stop for all runs: a signal between two of them counts, too.
    with locked(out, live.note), StopRequest(deadline) as stop, _elsewhere(cluster, asked, out, live) as elsewhere:
        asked, whole = with_earlier(config, out)  # until it was locked, another process could write there
        write_atomically(out / "config.yaml", to_yaml(whole))
        results = Results(whole, out, data, seen, not_together)
        planned = plan(asked, out)
        try:
            with closing(train_all(planned, Surroundings(data, seen, live, stop, jobs, elsewhere))) as ended:
                for one in ended:
                    results.publish([one])
        except BaseException:
            results.publish(planned)  # those, too, that were stopped
            raise
        comparison = results.publish([])
        draw(whole, out, data, live.note)
        return comparison


def _elsewhere(
    cluster: Cluster | None, config: CompareConfig, out: Path, live: Live
) -> AbstractContextManager[Elsewhere | None]:
    """The nodes of a cluster, where one is wanted and there is something to train."""
    if cluster is None or all(examine(one.folder).status == "finished" for one in plan(config, out)):
        return nullcontext()
    from filtersmith.lab.jobs.on_ray import on_ray

    return on_ray(cluster, config.train, out, live)
