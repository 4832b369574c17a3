"""Names of parquet files: the split of each, and one clear line where shards are missing or there twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.data.shards import find


def place(folder: Path, names: str) -> Path:
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


READ = [
    (
        "train-00000-of-00001 test-00000-of-00001",
        {"train": "train-00000-of-00001", "test": "test-00000-of-00001"},
        "",
    ),
    ("training Test", {"train": "training", "test": "Test"}, ""),
    ("Train dev", {"train": "Train", "validation": "dev"}, ""),
    ("data/train data/validation", {"train": "data/train", "validation": "data/validation"}, ""),
    ("cifar10-train cifar10-test", {"train": "cifar10-train", "test": "cifar10-test"}, ""),
    ("train/part-0 train/part-1 test/part-0", {"train": "train/part-0 train/part-1", "test": "test/part-0"}, ""),
    ("train/a-x train/b-y", {"train": "train/a-x train/b-y"}, ""),
    ("default/train/0000 default/test/0000", {"train": "default/train/0000", "test": "default/test/0000"}, ""),
    (
        "train-00000-of-00002-ab12 train-00001-of-00002-c2d",
        {"train": "train-00000-of-00002-ab12 train-00001-of-00002-c2d"},
        "",
    ),
    ("train-1-of-2 train-2-of-2", {"train": "train-1-of-2 train-2-of-2"}, ""),
    ("train_0 train_1", {"train": "train_0 train_1"}, ""),
    ("pets", {"train": "pets"}, ""),
    (
        "cats dogs",
        {"train": "cats dogs"},
        "no parquet file names a split, so all are read as one: cats.parquet, dogs.parquet",
    ),
    ("train extra", {"train": "train"}, "parquet files that name no split are not read: extra.parquet"),
    ("train old/train", {"train": "train"}, "parquet files in old are not read"),
    ("train .cache/test ._train __MACOSX/train", {"train": "train"}, ""),
]


@pytest.mark.parametrize(("names", "splits", "note"), READ)
def test_what_is_read(tmp_path: Path, names: str, splits: dict[str, str], note: str) -> None:
    place(tmp_path, " ".join(f"{name}.parquet" for name in names.split()) + " README.md")
    found, notes = find("hf:set", tmp_path)
    assert found == {
        split: [tmp_path / f"{name}.parquet" for name in several.split()] for split, several in splits.items()
    }
    assert "; ".join(notes) == note


REFUSED = [
    ("", "hf:set: no parquet file (like train-00000-of-00001.parquet) in {0}"),
    (
        "train-0-of-3 train-2-of-3",
        "the train split lacks number 1 of its 3 shards (it has train-0-of-3.parquet, train-2-of",
    ),
    ("train test-00003-of-00005", "the test split lacks numbers 0, 1, 2, 4 of its 5 shards"),
    ("train-0-of-9999", "lacks numbers 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 9,988 more of its 9,999 shards"),
    ("train-0-of-2 train-1-of-2 train-2-of-2", "has number 2 of 2 shards, which are counted from 0"),
    (
        "train-0-of-2-ab train-0-of-2-cd train-1-of-2-ab",
        "has shard 0 twice, train-0-of-2-ab.parquet, train-0-of-2-cd",
    ),
    ("train-0-of-1 train-0-of-2 train-1-of-2", "the train split is there in several versions, train-0-of-1.parquet"),
    ("train train-0-of-1", "the train split is there in several versions"),
    ("train training", "the train split is there in several versions, train.parquet, training.parquet: keep one"),
    ("train train/0000", "the train split is there in several versions"),
    ("train_test", "{0}/train_test.parquet could belong to the splits test and train; rename it"),
    ("train/test", "could belong to the splits test and train; rename it"),
    ("a/train b/train", "hf:set holds several sets, a, b; choose one, as in hf:{0}/a"),
]


@pytest.mark.parametrize(("names", "text"), REFUSED)
def test_what_is_refused(tmp_path: Path, names: str, text: str) -> None:
    place(tmp_path, " ".join(f"{name}.parquet" for name in names.split()))
    with pytest.raises(ValueError, match=r".") as caught:
        find("hf:set", tmp_path)
    assert text.format(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_file_is_read_whatever_its_name_but_for_a_test_split(tmp_path: Path) -> None:
    place(tmp_path, "pets.parquet test.parquet train-1-of-4.parquet")
    assert find("hf:set", tmp_path / "pets.parquet") == ({"train": [tmp_path / "pets.parquet"]}, [])
    assert find("hf:set", tmp_path / "test.parquet") == ({"test": [tmp_path / "test.parquet"]}, [])
    _, notes = find("hf:set", tmp_path / "train-1-of-4.parquet")
    assert notes == ["train-1-of-4.parquet is read alone, of 4 shards"]
