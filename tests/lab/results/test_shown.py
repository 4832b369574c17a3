"""Pictures beside the results of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.results.picture import Picture
from filtersmith.lab.results.shown import FILE_NAME, Shown, load, save

SHOWN = Shown(
    method="wau", seed=0, weights="ab", pictures=(Picture("a cat", "one cat <found>", "box,\n1,\n", "data:x"),)
)


def test_what_is_written_is_read_of_the_folder_and_of_its_results(tmp_path: Path) -> None:
    assert load(tmp_path) == () == load(tmp_path / "results.json"), "most comparisons have none"
    save([SHOWN], tmp_path)
    assert load(tmp_path) == (SHOWN,) == load(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"schema": 2, "shown": []}', "has schema 2; this version reads schema 1"), ('{"schema": 1}', "shown: Field")],
)
def test_what_is_no_file_of_pictures(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match=said):
        load(tmp_path)
