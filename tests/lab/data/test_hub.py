"""Image sets in parquet: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torchvision")
pytest.importorskip("datasets")

import datasets
import pyarrow.parquet as pq
from reference.pictures import encoded, parquet, pixels

from filtersmith.lab.data import Augment, ImageSet, load
from filtersmith.lab.data.records import Sizes

PETS = datasets.ClassLabel(names=["cat", "dog"])


def write_set(folder: Path, train: int = 6, test: int = 4, **options: Any) -> Path:
    """``train-*.parquet`` and ``test-*.parquet`` of 8x8 images; image I is ``pixels(I)``, its label I % 2."""
    for split, count in (("train", train), ("test", test)):
        images = [encoded(i, **options) for i in range(count)]
        parquet(folder / f"{split}-00000-of-00001.parquet", images, label=([i % 2 for i in range(count)], PETS))
    return folder


def message(place: object) -> str:
    """The error that loading gives; always one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(f"hf:{place}")
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("below", [".", "data", "plain_text"])
def test_a_folder_in_the_hubs_layout(tmp_path: Path, below: str) -> None:
    write_set(tmp_path / "pets" / below)
    data = load(f"hf:{tmp_path / 'pets'}")
    assert (data.name, data.title, data.classes) == (f"hf:{tmp_path / 'pets'}", "pets", ("cat", "dog"))
    assert data.augment == Augment(pad=1, flip=True)
    for split, count in ((data.train, 6), (data.test, 4)):
        assert isinstance(split, ImageSet)
        assert split.labels.tolist() == [i % 2 for i in range(count)]
        assert np.array_equal(split.images.permute(0, 2, 3, 1), np.stack([pixels(i) for i in range(count)]))


def test_shards_are_joined_in_order_and_nothing_is_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, home = tmp_path / "set", tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "cache")
    write_set(folder)
    for shard in range(3):
        labels = [shard % 2, 1]
        images = [encoded(10 * shard + i) for i in range(2)]
        parquet(folder / f"train-0000{shard}-of-00003.parquet", images, label=(labels, PETS))
    os.remove(folder / "train-00000-of-00001.parquet")
    shutil_before = sorted(file.name for file in folder.iterdir())
    for file in home.rglob("*"):  # what writing the set left
        assert file.is_dir() or file.unlink() is None
    data = load(f"hf:{folder}")
    assert isinstance(data.train, ImageSet)
    expected = np.stack([pixels(10 * shard + i) for shard in range(3) for i in range(2)])
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1), expected)
    assert data.train.labels.tolist() == [0, 1, 1, 1, 0, 1]
    assert sorted(file.name for file in folder.iterdir()) == shutil_before
    assert not [file for file in home.rglob("*") if file.is_file()]


def test_one_file_is_split_with_a_fifth_held_out(tmp_path: Path) -> None:
    file = parquet(tmp_path / "pets.parquet", [encoded(i) for i in range(20)], label=([0, 1] * 10, PETS))
    data = load(f"hf:{file}")
    assert data.title == "pets.parquet (held-out 20%)"
    assert isinstance(data.test, ImageSet)
    assert (len(data.train), data.test.labels.bincount().tolist()) == (16, [2, 2])


def test_validation_stands_in_for_a_missing_test_split(tmp_path: Path) -> None:
    write_set(tmp_path)
    os.rename(tmp_path / "test-00000-of-00001.parquet", tmp_path / "validation-00000-of-00001.parquet")
    data = load(f"hf:{tmp_path}")
    assert (len(data.train), len(data.test), data.title) == (6, 4, tmp_path.name)


def test_grey_jpegs_keep_one_channel_and_are_resized_on_request(tmp_path: Path) -> None:
    write_set(tmp_path / "mnist-like", channels=1, kind="jpeg")
    data = load(f"hf:{tmp_path / 'mnist-like'}", image_size=16)
    assert (data.channels, data.image_size) == (1, 16)
    assert data.augment == Augment(pad=2, flip=False)  # mirrored digits are other digits


def test_the_label_column_among_several(tmp_path: Path) -> None:
    images = [encoded(i) for i in range(10)]
    fine = ([0, 1] * 5, datasets.ClassLabel(names=["rose", "tulip"]))
    coarse = ([0] * 10, datasets.ClassLabel(names=["flower", "tree"]))
    parquet(tmp_path / "train.parquet", images, coarse_label=coarse, fine_label=fine, number=list(range(10)))
    text = message(tmp_path)
    assert "--set data.label=coarse_label or --set data.label=fine_label" in text
    assert "fine_label (2 named classes), number (int64)" in text
    assert load(f"hf:{tmp_path}", label="fine_label").classes == ("rose", "tulip")
    parquet(tmp_path / "train.parquet", images, coarse=coarse, label=fine)
    assert load(f"hf:{tmp_path}").classes == ("rose", "tulip")


def test_plain_integers_are_classes_by_number(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", [encoded(i) for i in range(15)], target=[0, 1, 2] * 5)
    assert load(f"hf:{tmp_path}").classes == ("0", "1", "2")


def test_missing_columns_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    text = (["a", "b"], datasets.Value("string"))
    parquet(tmp_path / "train.parquet", [encoded(0), encoded(1)], caption=text)
    assert "say which, --set data.label=caption; its columns are image (Image), caption (string)" in message(tmp_path)
    datasets.Dataset.from_dict({"label": [0, 1]}).to_parquet(tmp_path / "train.parquet")
    assert "no image column; its columns are label (int64)" in message(tmp_path)


@pytest.mark.parametrize("wrong", [-1, 2])
def test_labels_out_of_range_are_named_with_the_range(tmp_path: Path, wrong: int) -> None:
    write_set(tmp_path)
    names, numbers = datasets.ClassLabel(names=["cat", "dog"]), [0, 1, wrong]
    table = datasets.Dataset.from_dict({"image": [None] * 3, "label": numbers})  # ClassLabel refuses to write 2
    arrow = table.data.table.cast(datasets.Features(image=datasets.Image(), label=names).arrow_schema)
    import pyarrow.parquet

    arrow = arrow.set_column(0, arrow.schema.field(0), _column([encoded(i) for i in range(3)]))
    pyarrow.parquet.write_table(arrow, tmp_path / "test-00000-of-00001.parquet")
    text = message(tmp_path)
    assert f"test split, column 'label', has label {wrong} (image 2)" in text
    assert "2 classes are labelled 0 to 1" in text


def _column(images: list[bytes]) -> Any:
    import pyarrow as pa

    return pa.array([{"bytes": image, "path": None} for image in images], datasets.Image().pa_type)


def test_a_row_without_label_or_image_is_named(tmp_path: Path) -> None:
    write_set(tmp_path)
    parquet(tmp_path / "test-00000-of-00001.parquet", [encoded(0), None], label=([0, 1], PETS))
    assert "row 1 has no 'image'" in message(tmp_path)
    parquet(tmp_path / "test-00000-of-00001.parquet", [encoded(0), encoded(1)], label=([0, None], PETS))
    assert "row 1 has no 'label'" in message(tmp_path)


def test_unequal_and_broken_images_are_named_by_row(tmp_path: Path) -> None:
    write_set(tmp_path)
    file = tmp_path / "test-00000-of-00001.parquet"
    parquet(file, [encoded(0), encoded(1, size=(9, 8))], label=([0, 1], PETS))
    text = message(tmp_path)
    assert "test image 0 is 8x8 pixels" in text
    assert "test image 1 is 8x9" in text
    assert "data.image_size=64" in text
    assert load(f"hf:{tmp_path}", image_size=8).image_size == 8
    parquet(file, [encoded(0), encoded(1)[:60]], label=([0, 1], PETS))
    assert "test image 1 cannot be read as an image" in message(tmp_path)
    write_set(tmp_path, test=0)
    assert "test split has no images" in message(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "middle"])
def test_a_corrupt_file_is_named(tmp_path: Path, damage: str) -> None:
    write_set(tmp_path)
    file = tmp_path / "train-00000-of-00001.parquet"
    content = bytearray(file.read_bytes())
    if damage == "middle":
        content[4:400] = bytes(396)  # the footer still promises columns
    file.write_bytes({"cut": content[:200], "garbage": b"x" * 500, "empty": b"", "middle": content}[damage])
    text = message(tmp_path)
    assert f"{file} cannot be read" in text


def test_missing_paths_and_sets(tmp_path: Path) -> None:
    assert f"there is no file or folder {tmp_path}/nothing" in message(tmp_path / "nothing")
    assert "no parquet file" in message(tmp_path)
    write_set(tmp_path / "a")
    write_set(tmp_path / "b")
    assert f"holds several sets, a, b; choose one, as in hf:{tmp_path}/a" in message(tmp_path)
    for file in (tmp_path / "a").glob("train*"):
        file.unlink()
    assert "no training split, only test" in message(tmp_path / "a")


def test_splits_that_do_not_belong_together(tmp_path: Path) -> None:
    write_set(tmp_path)
    other = datasets.ClassLabel(names=["dog", "cat"])
    parquet(tmp_path / "test-00000-of-00001.parquet", [encoded(0), encoded(1)], label=([0, 1], other))
    assert "test-00000-of-00001.parquet has other columns or class names than" in message(tmp_path)


def test_a_hub_id_goes_through_the_hubs_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "pets")
    local = load(f"hf:{tmp_path / 'pets'}")
    files = {split: str(tmp_path / f"pets/{split}-00000-of-00001.parquet") for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    asked: list[str] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda place: asked.append(place) or loaded)
    data = load("hf:somebody/pets")
    assert (asked, data.title, data.classes) == (["somebody/pets"], "pets", local.classes)
    assert isinstance(data.train, ImageSet)
    assert isinstance(local.train, ImageSet)
    assert (data.train.images == local.train.images).all()

    def offline(place: str) -> None:
        raise ConnectionError("no\nroute")

    both = datasets.DatasetDict(train=loaded["train"], training=loaded["test"], extra=loaded["test"])
    monkeypatch.setattr(datasets, "load_dataset", lambda place: both)
    assert "training and somebody/pets (train) could both be the train split" in message("somebody/pets")
    del both["training"]
    both["test"] = loaded["test"]
    assert load("hf:somebody/pets").notes == ("splits that are not read: extra",)
    monkeypatch.setattr(datasets, "load_dataset", offline)
    assert "somebody/pets is no file or folder here, and the Hugging Face hub did not give it: no route" in message(
        "somebody/pets"
    )


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "TESTING"), ("cifar10-train", "cifar10-test"), ("train/a", "dev/b")]
)
def test_splits_by_any_common_name(tmp_path: Path, train: str, test: str) -> None:
    images = [encoded(i) for i in range(4)]
    parquet(tmp_path / f"{train}.parquet", images, label=([0, 1, 0, 1], PETS))
    parquet(tmp_path / f"{test}.parquet", images[:2], label=([1, 0], PETS))
    data = load(f"hf:{tmp_path}")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 0, 1], [1, 0])
    assert "held-out" not in data.title


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_set(tmp_path)
    os.rename(tmp_path / "train-00000-of-00001.parquet", tmp_path / "train-00000-of-00003.parquet")
    assert "the train split lacks numbers 1, 2 of its 3 shards (it has train-00000-of-00003.parquet)" in message(
        tmp_path
    )


def test_shards_with_other_class_names_are_not_joined(tmp_path: Path) -> None:
    write_set(tmp_path)
    os.rename(tmp_path / "train-00000-of-00001.parquet", tmp_path / "train-00000-of-00002.parquet")
    other = datasets.ClassLabel(names=["dog", "cat"])
    parquet(tmp_path / "train-00001-of-00002.parquet", [encoded(0), encoded(1)], label=([0, 1], other))
    assert "train-00001-of-00002.parquet has other columns or class names than" in message(tmp_path)


def test_texts_are_classes_in_their_order(tmp_path: Path) -> None:
    kinds = (["dog", "cat", "dog", "cat", "ant", "ant"], datasets.Value("string"))
    images = [encoded(i) for i in range(6)]
    parquet(tmp_path / "train.parquet", images, animal=kinds)
    parquet(tmp_path / "test.parquet", images[:2], animal=(["cat", "ant"], datasets.Value("string")))
    assert "no column that is the label by its name: say which, --set data.label=animal" in message(tmp_path)
    data = load(f"hf:{tmp_path}", label="animal")
    assert (data.classes, data.train.labels.tolist()) == (("ant", "cat", "dog"), [2, 1, 2, 1, 0, 0])
    assert data.test.labels.tolist() == [1, 0]
    parquet(tmp_path / "test.parquet", images[:2], animal=(["cat", ""], datasets.Value("string")))
    with pytest.raises(ValueError, match=r"test\.parquet: row 1 has no 'animal'"):
        load(f"hf:{tmp_path}", label="animal")


def test_numbers_that_name_images_are_no_classes_and_cost_no_memory(tmp_path: Path) -> None:
    ids = [10**12 + i for i in range(12)]
    parquet(tmp_path / "train.parquet", [encoded(i) for i in range(12)], label=ids)
    assert "column 'label', has 12 different values in 12 rows, which can't be classes" in message(tmp_path)
    parquet(tmp_path / "train.parquet", [encoded(i) for i in range(12)], label=[3, 10**12] * 6)
    data = load(f"hf:{tmp_path}")
    assert data.classes == ("3", "1000000000000")
    assert data.notes == (
        "the labels in column 'label' are 2 numbers from 3 to 1000000000000; each that occurs is a class",
    )


def test_what_is_not_used_is_noted(tmp_path: Path) -> None:
    write_set(tmp_path)
    many = datasets.ClassLabel(names=["cat", "dog", "emu"])
    for split in ("train", "test", "validation"):
        file = tmp_path / f"{split}-00000-of-00001.parquet"
        parquet(file, [encoded(i, size=(8 + i, 9)) for i in range(2)], label=([0, 1], many))
    parquet(tmp_path / "more.parquet", [encoded(0)], label=([0], many))
    data = load(f"hf:{tmp_path}", image_size=8)
    assert data.notes == (
        "parquet files that name no split are not read: more.parquet",
        "the validation split is not used: the test split is for testing",
        "there are no training images of 1 class: emu",
        "there are no test images of 1 class: emu",
    )
    assert data.sizes == Sizes(heights=(8, 9), widths=(9, 9))


def test_cifar10_jpeg(tmp_path: Path) -> None:
    """The first rows of each file: all sixty thousand cost a quarter of a minute and are read in the same way."""
    shared = os.environ.get("FILTERSMITH_SHARED") or Path(__file__).parents[3].parent / "shared"
    folder = Path(shared) / "data" / "cifar10-jpeg"
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand: {folder} is absent")
    some, labels = tmp_path / folder.name, []
    some.mkdir()
    for split, count in (("train", 4000), ("test", 1000)):
        whole = pq.read_table(folder / f"{split}-00000-of-00001.parquet")
        assert whole["label"].value_counts().to_pylist() == [
            {"values": label, "counts": len(whole) // 10} for label in whole["label"].unique().to_pylist()
        ]
        pq.write_table(whole.slice(0, count), some / f"{split}-00000-of-00001.parquet")
        labels.append(whole["label"][:count].to_pylist())
    data = load(f"hf:{some}")
    assert (data.title, data.num_classes, data.channels, data.image_size) == ("CIFAR-10 (JPEG)", 10, 3, 32)
    assert data.augment == Augment(pad=4, flip=True)
    assert isinstance(data.train, ImageSet)
    assert [data.train.labels.tolist(), data.test.labels.tolist()] == labels
    assert data.train.images.shape == (4000, 3, 32, 32)
    assert 100 < data.train.images[:1000].float().mean() < 140
