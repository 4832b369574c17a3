"""What a person sees while runs go on: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from filtersmith.common.words import plural
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
    """The progress of ``runs`` runs: a bar for all, and one for each that is training.

    Where the output is no terminal: a line when a run ends and, if ``every_epoch``, one an epoch. As a `Progress` it
    is that of the run that `begin` began.
    """

    def __init__(self, console: Console, runs: int, *, every_epoch: bool = False) -> None:
        self.console = console
        self.lines: bool = not console.is_terminal
        self.every_epoch = every_epoch
        self._runs = runs
        self.bars: RichProgress = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=self.lines,
        )
        self._all = self.bars.add_task("all runs", total=runs, note=f"0/{runs}", visible=runs > 1)
        self._current: Bar | None = None
        self._ended = 0
        self._said: set[str] = set()

    def __enter__(self) -> Live:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.bars.stop()

    @property
    def so_far(self) -> str:
        """How many runs of all are over."""
        return f"{self._ended} of {plural(self._runs, 'run')} done"

    def note(self, text: str) -> None:
        """Something that a person should know; said once, however many runs say it."""
        if text not in self._said:
            self.console.print(text, markup=False, highlight=False)
        self._said.add(text)

    def bar(self, label: str) -> Bar:
        """Another run begins."""
        return Bar(self, label)

    def ended(self, label: str, note: str) -> None:
        """A run is over, or needed no training."""
        self._ended += 1
        self.bars.update(self._all, completed=self._ended, note=f"{self._ended}/{self._runs}")
        self.console.print(f"[{self._ended}/{self._runs}] {label}: {note}", markup=False, highlight=False)

    def begin(self, label: str) -> None:
        """The next run begins, in place of the one before."""
        if self._current is not None:
            self._current.stop()
        self._current = self.bar(label)

    def end(self, note: str) -> None:
        """The run that began last is over."""
        if self._current is not None:
            self.ended(self._current.label, note)

    def start(self, epochs: int, done: Sequence[Epoch]) -> None:
        if self._current is not None:
            self._current.start(epochs, len(done))

    def batch(self, done: int, batches: int) -> None:
        if self._current is not None:
            self._current.batch(done, batches)

    def epoch(self, epoch: Epoch) -> None:
        if self._current is not None:
            self._current.epoch(epoch)


class Bar:
    """The progress of one run in a `Live`."""

    def __init__(self, live: Live, label: str) -> None:
        self._live = live
        self.label = label
        self._task = live.bars.add_task(label, total=None, note="starting")
        self._epochs = 0
        self._finished = 0
        self._shown = 0.0
        self._note = ""

    def start(self, epochs: int, done: int) -> None:
        """``done`` of its epochs are finished already."""
        self._epochs, self._finished = epochs, done

    def batch(self, done: int, batches: int) -> None:
        now = time.monotonic()
        if self._live.lines or (done < batches and now - self._shown < 0.1):
            return
        self._shown = now
        fraction = (self._finished * batches + done) / (self._epochs * batches)
        note = f"epoch {min(self._finished + 1, self._epochs)}/{self._epochs} {self._note}"
        self._live.bars.update(self._task, total=1.0, completed=fraction, note=note)

    def epoch(self, epoch: Epoch) -> None:
        self._finished = epoch.epoch
        self._note = f"test {epoch.test_accuracy:.1%}"
        if self._live.every_epoch:
            loss = "nan" if epoch.train_loss is None else f"{epoch.train_loss:.4f}"
            train = "" if epoch.train_accuracy is None else f"train {epoch.train_accuracy:6.2%}  "
            self._live.console.print(
                f"epoch {epoch.epoch:>3}/{self._epochs}  loss {loss}  {train}"
                f"test {epoch.test_accuracy:6.2%}  {epoch.train_seconds:.1f} s",
                markup=False,
                highlight=False,
            )

    def stop(self) -> None:
        """Nothing is left of it on the terminal."""
        with suppress(KeyError):  # it is gone already
            self._live.bars.remove_task(self._task)

    def end(self, note: str) -> None:
        """The run is over."""
        self.stop()
        self._live.ended(self.label, note)
