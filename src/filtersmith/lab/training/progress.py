"""What a person sees while runs go on: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from filtersmith.lab.results.document import Epoch


class Progress(Protocol):
    """Told by a run how far it is."""

    def note(self, text: str) -> None: ...
    def start(self, epochs: int, done: Sequence[Epoch]) -> None: ...
    def batch(self, done: int, batches: int) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None: ...
    def start(self, epochs: int, done: Sequence[Epoch]) -> None: ...
    def batch(self, done: int, batches: int) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...


class Live:
    """The progress of ``runs`` runs, one after the other: a bar for all, a bar for the one that is training.

    Where the output is no terminal: a line when a run begins and, if ``every_epoch``, one an epoch.
    """

    def __init__(self, console: Console, runs: int, *, every_epoch: bool = False) -> None:
        self._console = console
        self._lines = not console.is_terminal
        self._every_epoch = every_epoch
        self._runs = runs
        self._bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=self._lines,
        )
        self._all = self._bars.add_task("all runs", total=runs, note=f"0/{runs}", visible=runs > 1)
        self._current: TaskID | None = None
        self._label = ""
        self._number = 0
        self._epochs = 0
        self._finished = 0
        self._shown = 0.0
        self._note = ""
        self._said: set[str] = set()

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Something that a person should know; said once, however many runs say it."""
        if text not in self._said:
            self._console.print(text, markup=False, highlight=False)
        self._said.add(text)

    def begin(self, label: str) -> None:
        """The next run begins."""
        if self._current is not None:
            self._bars.remove_task(self._current)
        self._label, self._note, self._finished = label, "", 0
        self._number += 1
        self._current = self._bars.add_task(label, total=None, note="starting")

    def end(self, note: str) -> None:
        """The run is over, or needed no training."""
        self._bars.update(self._all, completed=self._number, note=f"{self._number}/{self._runs}")
        self._console.print(f"[{self._number}/{self._runs}] {self._label}: {note}", markup=False, highlight=False)

    def start(self, epochs: int, done: Sequence[Epoch]) -> None:
        self._epochs, self._finished = epochs, len(done)

    def batch(self, done: int, batches: int) -> None:
        now = time.monotonic()
        if self._current is None or self._lines or (done < batches and now - self._shown < 0.1):
            return
        self._shown = now
        fraction = (self._finished * batches + done) / (self._epochs * batches)
        note = f"epoch {min(self._finished + 1, self._epochs)}/{self._epochs} {self._note}"
        self._bars.update(self._current, total=1.0, completed=fraction, note=note)

    def epoch(self, epoch: Epoch) -> None:
        self._finished = epoch.epoch
        self._note = f"test {epoch.test_accuracy:.1%}"
        if self._every_epoch:
            loss = "nan" if epoch.train_loss is None else f"{epoch.train_loss:.4f}"
            self._console.print(
                f"epoch {epoch.epoch:>3}/{self._epochs}  loss {loss}  train {epoch.train_accuracy:6.2%}  "
                f"test {epoch.test_accuracy:6.2%}  {epoch.train_seconds:.1f} s",
                markup=False,
                highlight=False,
            )
