"""What ``filtersmith audit`` does and prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filtersmith.common.options import bad_option
from filtersmith.lab.audit import page
from filtersmith.lab.audit.audit import Audit, Progress, audit
from filtersmith.lab.audit.document import to_json
from filtersmith.lab.audit.images import FEWEST, Images, images_for
from filtersmith.lab.audit.options import Options
from filtersmith.lab.audit.table import build
from filtersmith.lab.audit.target import FORMS, Target, open_target
from filtersmith.lab.audit.verdict import verdict
from filtersmith.lab.endings import DONE
from filtersmith.lab.recipe.arms import slug
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.recipe.origin import about
from filtersmith.lab.results.document import write_atomically
from filtersmith.lab.results.page import need_extra
from filtersmith.lab.tasks.classification import CLASSIFICATION
from filtersmith.lab.tasks.names import info_of
from filtersmith.lab.training.folder import check_writable, make_folder

if TYPE_CHECKING:
    from rich.console import Console

    from filtersmith.lab.data import Data

OUT = Path("runs/audit")


def run(options: Options) -> int:
    """Audit a network; print the table and the verdict, and write the page."""
    from rich.console import Console

    from filtersmith.lab.console import make_console

    need_extra()
    _check(options)
    folder = options.out or OUT / slug(options.target.strip("/"))
    if options.format == "text":
        check_writable(folder)  # before the work
    console = make_console(quiet=options.format == "json")
    with _progress(Console(stderr=True)) as progress:
        found = _measure(options, progress)
        text = to_json(found)
    if options.format == "json":
        print(text, end="")
        return DONE
    drawn = page.render(found)
    make_folder(folder)
    # Before anything is printed: who reads it may stop reading.
    write_atomically(folder / "audit.json", text)
    written = write_atomically(folder / "audit.html", drawn)
    for one in (found, found.against.of if found.against is not None else None):
        if one is not None:
            _show(console, one)
    print(f"Page: {written.resolve()}", flush=True)
    return DONE


def _check(options: Options) -> None:
    if not options.target:
        raise bad_option("TARGET", options.target, FORMS)
    if options.format == "json" and options.out is not None:
        raise bad_option("out", str(options.out), "left out with --format json, which writes nothing")
    if options.images < FEWEST:
        raise bad_option("images", options.images, f"a whole number from {FEWEST} on")
    if options.oracle > options.images:
        raise bad_option("oracle", options.oracle, f"at most the {options.images:,} of --images")


def _measure(options: Options, progress: Progress) -> Audit:
    data = _data(options)
    facts = None if data is None else CLASSIFICATION.facts(data)
    with about("model.weights" if options.weights else "model.name"):
        target = open_target(options.target, options.weights, facts, trust=options.trust)
    if data is None and target.run is not None:
        data = _data_of(target)
        facts = facts if data is None else CLASSIFICATION.facts(data)
    if data is None and options.oracle:
        raise bad_option("oracle", options.oracle, "given with --data, whose images it needs")
    other = None
    if options.against is not None:
        try:
            other = open_target(options.against, options.against_weights, facts, trust=options.trust)
        except ValueError as error:
            raise ValueError(f"--against {options.against}: {error}") from error
        target, other = _told_apart(options, target, other)
    if data is None:
        return audit(target, None, against=None if other is None else (other, None), progress=progress)
    classes = target.facts.get("num_classes", data.num_classes)
    if options.oracle and classes != data.num_classes:
        what = f"left out: the network knows {classes} classes, and {data.title} has {data.num_classes}"
        raise bad_option("oracle", options.oracle, what)
    images = _images(data, target, options)
    beside = None if other is None else (other, _images(data, other, options))
    return audit(target, images, against=beside, oracle=options.oracle, progress=progress)


def _images(data: Data, target: Target, options: Options) -> Images:
    try:
        return images_for(data, target.facts, options.images)
    except ValueError as error:
        raise ValueError(f"{target.title}: {error}") from error


def _told_apart(options: Options, target: Target, other: Target) -> tuple[Target, Target]:
    """Two networks of one name, with where their weights come from, as it was typed."""
    if target.title != other.title:
        return target, other
    places = (options.target, options.weights), (options.against, options.against_weights)
    return tuple(  # type: ignore[return-value]  # of two
        replace(one, title=f"{one.title} ({(place if one.run is not None else weights) or 'random weights'})")
        for one, (place, weights) in zip((target, other), places, strict=True)
    )


def _data(options: Options) -> Data | None:
    """The images that are asked for; the options of ``--set`` are those of ``data`` alone."""
    for name in options.settings:
        if not name.startswith("data."):
            raise bad_option("set", name, "of data, such as data.image_size=64")
    if options.data is None:
        if options.settings:
            raise bad_option("set", options.settings[0], "given with --data")
        return None
    config = merge(RunConfig, options={"data.name": options.data}, assignments=options.settings)
    with about("data.name"):
        return CLASSIFICATION.load(config.data)


def _data_of(target: Target) -> Data | None:
    """The data of a run, as it was trained on them; ``None`` where they are not there any more."""
    assert target.run is not None
    try:
        config = target.run.read_config()
        return CLASSIFICATION.load(config.data) if info_of(config.task).one_class else None
    except ValueError:
        return None


def _show(console: Console, found: Audit) -> None:
    from rich.table import Table
    from rich.text import Text

    from filtersmith.lab.results.terminal import LayerName, Lines

    table, said = build(found), verdict(found)
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for number, head in enumerate(table.heads):
        grid.add_column(head, justify="left" if number == 0 else "right", overflow="fold", no_wrap=number > 0)
    for row in table.rows:
        grid.add_row(LayerName(row[0]), *map(Text, row[1:]))
    console.print(Text(f"{found.target.title} · weights: {found.target.weights}", style="bold"))
    console.print(grid)
    console.print()
    console.print(Lines(table.legend, "dim"))
    console.print()
    console.print(Text(said.headline, style="bold"))
    console.print(Lines(said.grounds))
    console.print(Lines(said.limits, "dim"))
    console.print()


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """A bar for each piece of work, where the output is a terminal; gone when it is done."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn()
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def begin(what: str, steps: int) -> Callable[[], None]:
            bar = bars.add_task(what, total=steps)
            return lambda: bars.advance(bar)

        yield begin
