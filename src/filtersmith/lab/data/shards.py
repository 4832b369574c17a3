"""The parquet files of a set: which split each belongs to, and whether all of them are there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filtersmith.common.words import noun
from filtersmith.lab.data.files import is_hidden, shortened
from filtersmith.lab.data.splits import TRAIN, split_of, splits_in

_DEEP = 3  # folders below the set's own
_SHOWN = 4


@dataclass(frozen=True)
class _Shard:
    """What the name of a parquet file says: ``train-00002-of-00005-HASH.parquet`` is number 2 of 5."""

    file: Path
    folder: str  # below the set's own, without folders that name a split
    split: str | None
    number: int | None
    of: int | None
    base: str  # the name without numbers, where it says the split: the files of one export have the same


def find(name: str, path: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split, in order, and what is to be said of files that are not read.

    Args:
        name: What the user typed.
        path: A folder, or one file.

    Raises:
        ValueError: No files, several sets, shards missing or there twice, two exports of one split.
    """
    if path.is_file():
        shard = _shard(path, path.parent)
        split, alone = shard.split or TRAIN, shard.of is not None and shard.of > 1
        return {split: [path]}, [f"{path.name} is read alone, of {shard.of} shards"] if alone else []
    shards = [_shard(file, path) for file in _files(path)]
    if not shards:
        raise ValueError(f"{name}: no parquet file (like train-00000-of-00001.parquet) in {path}")
    top = [shard for shard in shards if shard.folder in (".", "data")]
    sets = sorted({shard.folder for shard in shards if shard not in top})
    if not top and len(sets) > 1:
        raise ValueError(f"{name} holds several sets, {shortened(sets, 8)}; choose one, as in hf:{path / sets[0]}")
    chosen, notes = top or shards, []
    if top and sets:
        notes.append(f"parquet files in {shortened(sets, _SHOWN)} are not read")
    named = [shard for shard in chosen if shard.split]
    if named and (others := [shard.file.name for shard in chosen if not shard.split]):
        notes.append(f"parquet files that name no split are not read: {shortened(others, _SHOWN)}")
    grouped: dict[str, list[_Shard]] = {}
    for shard in named or chosen:
        grouped.setdefault(shard.split or TRAIN, []).append(shard)
    for split, parts in grouped.items():
        _check_complete(f"{name}: the {split} split", parts, one_export=bool(named))
    if not named and len({shard.base for shard in chosen}) > 1:
        files = [shard.file.name for shard in chosen]
        notes.append(f"no parquet file names a split, so all are read as one: {shortened(files, _SHOWN)}")
    return {split: [shard.file for shard in parts] for split, parts in grouped.items()}, notes


def _files(path: Path) -> list[Path]:
    """Parquet files down to a few folders, those above first, each folder by name; none that is hidden."""
    levels = (sorted(path.glob("/".join(["*"] * depth))) for depth in range(1, _DEEP + 2))
    return [
        file
        for level in levels
        for file in level
        if file.suffix.lower() == ".parquet"
        and not any(is_hidden(part) for part in file.relative_to(path).parts)
        and not file.is_dir()
    ]


def _shard(file: Path, root: Path) -> _Shard:
    numbers = re.search(r"(\d+)-of-(\d+)", file.stem)
    number, of = (int(numbers[1]), int(numbers[2])) if numbers else (None, None)
    above = file.relative_to(root).parent.parts
    base = re.sub(r"-of-\d+.*", "", file.stem)  # without the hash that the hub puts behind
    said = splits_in(base)
    said_above = {split for part in above if (split := split_of(part))}
    if len(said | said_above) > 1:
        raise ValueError(f"{file} could belong to the splits {' and '.join(sorted(said | said_above))}; rename it")
    folder = Path(*(part for part in above if not split_of(part)))
    base = re.sub(r"\d+", "", base).strip("-_. ") if said or not said_above else ""
    return _Shard(file, str(folder), next(iter(said | said_above), None), number, of, base)


def _check_complete(what: str, shards: Sequence[_Shard], *, one_export: bool) -> None:
    """Refuse a split of which shards are missing, there twice, or of several exports."""
    names = [shard.file.name for shard in shards]
    totals = {shard.of for shard in shards}
    bases = {(shard.file.parent, shard.base) for shard in shards}
    if len(totals) > 1 or (one_export and len(bases) > 1):
        raise ValueError(f"{what} is there in several versions, {shortened(names, _SHOWN)}: keep one of them there")
    total = totals.pop()
    if total is None:
        return
    numbers = [shard.number for shard in shards if shard.number is not None]
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        doubled = [shard.file.name for shard in shards if shard.number == twice[0]]
        raise ValueError(f"{what} has shard {twice[0]} twice, {shortened(doubled, _SHOWN)}: keep one of them there")
    first = 1 if total in numbers and 0 not in numbers else 0  # some count from 1
    if missing := sorted(set(range(first, first + total)) - set(numbers)):
        raise ValueError(
            f"{what} lacks {_numbers(missing)} of its {total:,} shards (it has {shortened(names, _SHOWN)}); "
            "copy what is missing there"
        )
    if beyond := sorted(set(numbers) - set(range(first, first + total))):
        raise ValueError(f"{what} has {_numbers(beyond)} of {total:,} shards, which are counted from {first}")


def _numbers(numbers: Iterable[int]) -> str:
    listed = [str(number) for number in numbers]
    return f"{noun(len(listed), 'number')} {shortened(listed, 10)}"
