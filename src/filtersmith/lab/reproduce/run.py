"""Train the runs that rows need, and keep each in the ledger as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from filtersmith.common.words import plural
from filtersmith.lab.reproduce.ledger import Entry, entry_of, save
from filtersmith.lab.reproduce.plan import Job, Place
from filtersmith.lab.reproduce.sets import Sets
from filtersmith.lab.runner import Surroundings, train_all
from filtersmith.lab.training.folder import make_folder
from filtersmith.lab.training.locking import locked
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import fingerprint
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.standing import examine
from filtersmith.lab.training.stopping import Deadline, StopRequest


@dataclass(frozen=True)
class Call:
    """What a call asks for.

    Attributes:
        ledger: its folder.
        scale: how much of every phase.
        place: where runs stand, and on which data.
        jobs: runs at a time.
        deadline: before which all stops.
    """

    place: Place
    ledger: Path
    scale: float = 1.0
    jobs: int = 1
    deadline: Deadline | None = None


def check(
    every: Sequence[Job], sets: Sets, scale: float, note: Callable[[str], None], *, leave_out: bool = False
) -> list[Job]:
    """Build one run of each arm without training, so that what does not fit shows before an hour has gone.

    Those that need others are built when these are there.

    Args:
        every: the runs.
        sets: their data.
        scale: how much of every phase, for the words.
        note: told what should be known.
        leave_out: go on without the arms that do not fit, and what needs them; otherwise they are an error.

    Returns:
        The runs that fit.
    """
    seen: set[str] = set()
    gone: set[str] = set()
    told: set[str] = set()
    for job in every:
        if job.arm.key in seen or job.planned.needs or examine(job.planned.folder).status == "finished":
            continue
        seen.add(job.arm.key)
        config = job.planned.config
        try:
            session = Session(config, sets.load(config))
        except ValueError as error:
            shortened = "" if scale == 1 else f" with scale {scale:g}, {plural(config.train.epochs, 'epoch')}"
            said = f"{job.planned.arm} on {config.data.name}{shortened}: {error}"
            if not leave_out:
                raise ValueError(said) from error
            if said not in told:  # arms may differ in what their labels do not say
                note(f"left out: {said}")
            told.add(said)
            gone.add(job.arm.key)
            continue
        for warning in session.composition.warnings:
            note(f"warning: {job.planned.arm}: {warning}")
    return [job for job in every if not gone & {job.arm.key, *(one.key for one in job.arm.all_before())}]


def run(every: Sequence[Job], call: Call, sets: Sets, live: Live) -> Iterator[Entry]:
    """Train all jobs; each finished run is written into the ledger, and yielded.

    Raises:
        Interrupted: a signal or the time limit; checkpoints and the ledger are written.
        ValueError: what a run refuses.
    """
    for folder in (call.place.out, call.ledger):
        make_folder(folder)
    by_folder = {job.planned.folder.path: job for job in every}
    with locked(call.place.out, live.note), StopRequest(call.deadline) as stop:
        for (_, _), group in groupby(_in_order(every), key=_group):
            planned = [job.planned for job in group]
            data = sets.load(planned[0].config)
            around = Surroundings(data, fingerprint(planned[0].config, data), live, stop, call.jobs)
            with closing(train_all(planned, around)) as ended:  # where the ledger cannot be written, workers stop
                for one in ended:
                    entry = _entry(by_folder[one.folder.path], sets, call)
                    if entry is not None:
                        save(entry, call.ledger)
                        yield entry


def _group(job: Job) -> tuple[int, str]:
    options = job.planned.config.data.model_copy(update={"augment": True})
    return job.planned.stage, options.model_dump_json()


def _in_order(every: Sequence[Job]) -> list[Job]:
    """By stage, and in it by data, in the order in which they were asked for."""
    places: dict[tuple[int, str], int] = {}
    for job in every:
        places.setdefault(_group(job), len(places))
    return sorted(every, key=lambda job: (job.planned.stage, places[_group(job)]))


def _entry(job: Job, sets: Sets, call: Call) -> Entry | None:
    result, data = job.planned.result(), sets.identity_of(job.arm)
    if result is None or result.status != "finished" or data is None:
        return None
    manifest = job.planned.folder.read_manifest()
    return entry_of(job.arm, job.seed, result, manifest, data=(data.title, data.digest), scale=call.scale)
