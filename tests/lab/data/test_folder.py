"""Folders of image files: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("torchvision")

from reference.pictures import class_folders, lay_out, pixels, write

from filtersmith.lab.data import Augment, FileSet, ImageSet, load
from filtersmith.lab.data.records import Sizes


def message(place: Path, image_size: int | None = None) -> str:
    """The error that loading gives; always one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(f"imagefolder:{place}", image_size=image_size)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation"])
def test_train_and_test_folders_are_read_pixel_by_pixel(tmp_path: Path, test_name: str) -> None:
    class_folders(tmp_path / "pets" / "train", 3)
    class_folders(tmp_path / "pets" / test_name, 2)
    (tmp_path / "pets" / "train" / ".hidden").mkdir()
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("no image")
    data = load(f"imagefolder:{tmp_path / 'pets'}")
    assert (data.name, data.title) == (f"imagefolder:{tmp_path / 'pets'}", "pets")
    assert (data.classes, data.num_classes, data.channels, data.image_size) == (("cat", "dog"), 2, 3, 8)
    assert data.augment == Augment(pad=1, flip=True)
    assert isinstance(data.train, ImageSet)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    for row, seed in enumerate((0, 1, 2, 100, 101, 102)):
        assert np.array_equal(data.train.images[row].permute(1, 2, 0), pixels(seed))


def test_without_a_test_folder_a_fixed_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", 10)
    data, again = load(f"imagefolder:{tmp_path / 'pets'}"), load(f"imagefolder:{tmp_path / 'pets'}")
    assert data.title == "pets (held-out 20%)"
    assert isinstance(data.train, ImageSet)
    assert isinstance(data.test, ImageSet)
    assert isinstance(again.test, ImageSet)
    assert (data.train.labels.bincount().tolist(), data.test.labels.bincount().tolist()) == ([8, 8], [2, 2])
    assert torch.equal(data.test.images, again.test.images)
    both = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(both.unique(dim=0)) == 20  # no image is in both


def test_grey_files_keep_one_channel_and_join_colour_ones_as_three(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 2, channels=1)
    class_folders(tmp_path / "test", 2, channels=1)
    assert load(f"imagefolder:{tmp_path}").channels == 1
    write(tmp_path / "test" / "dog" / "colour.png", 7)
    data = load(f"imagefolder:{tmp_path}")
    assert data.channels == 3
    assert isinstance(data.train, ImageSet)
    assert np.array_equal(data.train.images[0], np.stack([pixels(0, channels=1)] * 3))


def test_unequal_images_name_two_files_and_the_remedy_which_works(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 2)
    class_folders(tmp_path / "test", 2)
    odd = write(tmp_path / "test" / "dog" / "wide.png", 5, size=(12, 20))
    text = message(tmp_path)
    assert str(tmp_path / "train/cat/0.png") in text
    assert "8x8" in text
    assert str(odd) in text
    assert "20x12" in text
    assert "data.image_size=64" in text
    data = load(f"imagefolder:{tmp_path}", image_size=6)
    assert data.image_size == 6


def test_resizing_takes_the_short_side_then_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200  # the centre square
    for split in ("train", "test"):
        for name in ("a", "b"):
            write(tmp_path / split / name / "0.png", 0)
            Image.fromarray(wide).save(tmp_path / split / name / "1.png")
    data = load(f"imagefolder:{tmp_path}", image_size=4)
    assert isinstance(data.train, ImageSet)
    assert (data.train.images[1, :, :, 1:3] == 200).all()
    assert data.train.images.shape == (4, 3, 4, 4)


def test_oblong_images_load_but_have_no_image_size(tmp_path: Path) -> None:
    for split in ("train", "test"):
        class_folders(tmp_path / split, 1, size=(6, 9))
    data = load(f"imagefolder:{tmp_path}")
    with pytest.raises(ValueError, match=r"6 high and 9 wide.*data\.image_size=6"):
        _ = data.image_size


def test_missing_empty_and_mismatched_folders(tmp_path: Path) -> None:
    assert "there is no folder" in message(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message(tmp_path / "nowhere")
    assert "holds no class folders" in message(tmp_path)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    assert "there are no images (.jpg .jpeg .png" in message(tmp_path)
    assert "for the classes cat; move empty" in message(tmp_path)
    class_folders(tmp_path / "train", 5)
    class_folders(tmp_path / "test", 1, names=("cat", "dgo"))
    assert "same classes; only one of them has dgo, dog" in message(tmp_path)
    shutil.rmtree(tmp_path / "train")
    assert "none called train" in message(tmp_path)


def test_one_class_and_too_few_images(tmp_path: Path) -> None:
    class_folders(tmp_path / "one", 10, names=("cat",))
    assert message(tmp_path / "one").endswith("one holds one class, cat, but at least 2 are needed")
    class_folders(tmp_path / "few", 1)
    assert "has no test split, and none can be held out" in message(tmp_path / "few")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    class_folders(tmp_path, 5)
    bad = tmp_path / "dog" / "broken.png"
    bad.write_bytes(content)
    assert f"{bad} cannot be read as an image" in message(tmp_path)
    assert f"{bad} cannot be read as an image" in message(tmp_path, image_size=4)


def test_a_cut_off_jpeg_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, 5, size=(32, 32))
    whole = write(tmp_path / "dog" / "cut.jpg", 1, size=(32, 32))
    whole.write_bytes(whole.read_bytes()[:400])
    assert f"{whole} cannot be read as an image" in message(tmp_path)


def test_large_images_stay_on_disk_and_ask_for_their_size(tmp_path: Path) -> None:
    class_folders(tmp_path, 5, size=(100, 120))
    text = message(tmp_path)
    assert "120x100" in text
    assert "data.image_size=100" in text
    data = load(f"imagefolder:{tmp_path}", image_size=100)
    assert isinstance(data.train, FileSet)
    assert isinstance(data.test, FileSet)
    assert (len(data.train), len(data.test), data.channels, data.image_size) == (8, 2, 3, 100)
    assert data.train.labels.tolist() == [int(file.parent.name == "dog") for file in data.train.files]
    odd = write(tmp_path / "dog" / "odd.png", 5, size=(101, 120))
    assert str(odd) in message(tmp_path)
    assert isinstance(load(f"imagefolder:{tmp_path}", image_size=96).train, ImageSet)


def test_what_does_not_fit_in_memory_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filtersmith.lab.data import folder

    class_folders(tmp_path, 5)
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 10 * 3 * 64)
    assert isinstance(load(f"imagefolder:{tmp_path}", image_size=8).train, ImageSet)
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 10 * 3 * 64 - 1)
    assert isinstance(load(f"imagefolder:{tmp_path}", image_size=8).train, FileSet)


LAYOUTS = {
    "capital letters": (("Training/cat/*3", "Training/dog/*3", "TESTING/cat/*2", "TESTING/dog/*2"), (6, 4), ""),
    "years": (("train2014/cat/*3", "train2014/dog/*3", "val2014/cat/*2", "val2014/dog/*2"), (6, 4), ""),
    "more words": (("train_images/a/*3", "train_images/b/*3", "TestSet/a/*2", "TestSet/b/*2"), (6, 4), ""),
    "test and val": (
        ("train/a/*3", "train/b/*3", "test/a/*2", "test/b/*2", "val/a/*1", "val/b/*1"),
        (6, 4),
        "val is not used: test is for testing",
    ),
    "a test folder without labels": (
        ("train/a/*3", "train/b/*3", "test/*2", "val/a/*1", "val/b/*1"),
        (6, 2),
        "test has no class folders and is not used: val is for testing",
    ),
    "Tiny ImageNet with its val sorted": (
        ("train/a/images/*3", "train/b/images/*3", "test/images/*2", "val/a/*1", "val/b/*1", "wnids.txt"),
        (6, 2),
        "test has no class folders and is not used: val is for testing",
    ),
    "folders beside the splits": (
        ("train/a/*3", "train/b/*3", "test/a/*2", "test/b/*2", "extra/*2"),
        (6, 4),
        "beside train there are folders that are not read: extra",
    ),
    "classes called like splits": (("train/train/*3", "train/car/*3", "test/train/*2", "test/car/*2"), (6, 4), ""),
    "a class like a split": (("test_tube/*5", "bullet_train/*5", "beaker/*5"), (12, 3), ""),
    "images of a class in folders": (("a/x/images/*3", "a/y/images/*2", "b/*5"), (8, 2), ""),
    "capital suffixes": (("train/a/0.JPG", "train/b/0.Jpeg", "test/a/0.webp", "test/b/0.TIFF"), (2, 2), ""),
    "what a Macintosh leaves": (
        ("train/a/*3", "train/b/*3", "train/.DS_Store", "train/a/._0.png", "test/a/*2", "test/b/*2", "__MACOSX/a/*2"),
        (6, 4),
        "3 hidden files or folders are skipped: __MACOSX, train/.DS_Store, train/a/._0.png",
    ),
    "what a notebook leaves": (
        ("a/*5", "b/*5", "a/.ipynb_checkpoints/*5", ".ipynb_checkpoints/*2"),
        (8, 2),
        "2 hidden files or folders are skipped: .ipynb_checkpoints, a/.ipynb_checkpoints",
    ),
    "other files": (
        ("a/*5", "b/*5", "a/notes.txt", "b/film.gif", "stray.png"),
        (8, 2),
        "2 files are skipped, as the name ends in none of .jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp: "
        "a/notes.txt, b/film.gif; 1 image in no class folder is skipped: stray.png",
    ),
    "links to folders above": (
        ("a/*5", "b/*5", "a/up -> ..", "loop -> .", "b/self -> ../b"),
        (8, 2),
        "3 links to folders above are not followed: loop, a/up, b/self",
    ),
    "parts of a set": (
        ("fold1/a/*4", "fold1/b/*1", "fold2/a/*4", "fold2/b/*1"),
        (8, 2),
        "each of the classes fold1, fold2 holds the same folders, which are not read as classes: a, b",
    ),
    "classes that are links": (("all/x/*5", "all/y/*5", "set/a -> ../all/x", "set/b -> ../all/y"), (8, 2), ""),
    "two names for one image": (
        ("a/*5", "b/*5", "b/again.png -> 0.png"),
        (8, 2),
        "1 second name of an image is a link and not counted: b/again.png",
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_odd_folders_that_are_read(tmp_path: Path, case: str) -> None:
    lines, counts, notes = LAYOUTS[case]
    lay_out(tmp_path, *lines)
    data = load(f"imagefolder:{tmp_path / 'set' if case == 'classes that are links' else tmp_path}")
    assert (len(data.train), len(data.test)) == counts
    assert data.train.labels.bincount().tolist() == [counts[0] // data.num_classes] * data.num_classes
    assert "; ".join(data.notes) == notes
    assert isinstance(data.train, ImageSet)
    assert isinstance(data.test, ImageSet)
    both = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(both.unique(dim=0)) == sum(counts)


REFUSED = {
    "two splits to train on": (
        ("train2014/a/*1", "train2017/a/*1", "val2014/a/*1"),
        "for training, train2014, train2017",
    ),
    "two cases": (("train/a/*1", "Train/a/*1"), "has several folders for training, Train, train: keep one"),
    "two splits to test on": (("train/a/*1", "val/a/*1", "valid/a/*1"), "several folders for testing, val, valid"),
    "validation in both": (("trainval/a/*1", "val/a/*1"), "trainval, which by its name holds the images of val, too"),
    "splits for each class": (
        ("cats_train/*2", "cats_test/*2"),
        "cats_test, cats_train look like splits, not classes",
    ),
    "a test split in disguise": (("train/a/*2", "train/b/*2", "my_test/a/*1"), "is my_test the split to test on?"),
    "classes beside test": (("a/*2", "b/*2", "test/*2"), "test but none called train; if test is a class, give it"),
    "a class called train": (
        ("car/*2", "train/*2"),
        "2 images and no class folders (expected {0}/train/CLASS/IMAGE; if",
    ),
    "images in the split": (("train/*2", "test/*2"), "{0}/train holds 2 images and no class folders (expected"),
    "images in a folder": (("train/images/*2", "test/images/*2"), "{0}/train holds no class folders but images (exp"),
    "ImageNet": (("train/a/*2", "train/b/*2", "val/*2"), "val/CLASS, or give imagefolder:{0}/train, of which 20%"),
    "Tiny ImageNet": (
        ("train/a/images/*2", "train/b/images/*2", "val/images/*2", "test/images/*2"),
        "val has no class folders, so the classes of its images are not known: sort",
    ),
    "images and labels": (
        ("train/images/*2", "train/labels/a.txt"),
        "holds no class folders but images, labels (exp",
    ),
    "images and masks": (("images/*2", "masks/*2"), "{0} holds no class folders but images, masks (expected"),
    "classes one level down": (("images/a/*2", "images/b/*2", "labels/a.txt"), "is it imagefolder:{0}/images?"),
    "Pascal VOC": (("JPEGImages/*2", "Annotations/0.txt", "ImageSets/Main/a.txt"), "is laid out as Pascal VOC"),
    "splits below classes": (
        ("a/train/*5", "a/test/*2", "b/train/*5", "b/test/*2"),
        "{0}/a holds splits, test, train: they belong above the classes, as in {0}/train/a/IMAGE",
    ),
    "a folder too high": (
        ("set/train/a/*2", "set/test/a/*2"),
        "{0}/set holds splits, test, train: is it imagefolder:{0}/s",
    ),
    "a folder too high, without splits": (
        ("set/a/*2", "set/b/*2"),
        "at least 2 are needed; is it imagefolder:{0}/set?",
    ),
    "a folder between": (
        ("train/all/a/*2", "train/all/b/*2", "test/all/a/*2", "test/all/b/*2"),
        "at least 2 are needed; are the classes in {0}/train/all? move them up",
    ),
    "Caltech 101": (
        ("ObjectCategories/ant/*2", "Annotations/ant/0.txt"),
        "for the classes Annotations; move empty class folders elsewhere",
    ),
    "images beside other things": (
        ("images/a/*2", "images/b/*2", "parts/x.txt"),
        "elsewhere; is it imagefolder:{0}/images?",
    ),
    "splits below a split": (
        ("train/train/*5", "train/val/*2"),
        "{0}/train holds train, val, by name splits and no class",
    ),
    "a split in itself": (
        ("train/train/a/*2", "test/test/a/*2"),
        "{0}/train holds train, by name a split and no class (expected {0}/train/CLASS/IMAGE); are the classes in "
        "{0}/train/train? move them up",
    ),
    "one image, two classes": (
        ("a/*5", "b/*5", "b/5.png -> ../a/0.png"),
        "b/5.png is a link to an image of another class, a",
    ),
    "one folder, two classes": (
        ("x/*5", "set/a -> ../x", "set/b -> ../x"),
        "is a link to an image of another class, a",
    ),
    "train is test": (
        ("train/a/*2", "train/b/*2", "test -> train"),
        "links make 4 images of train part of test, too",
    ),
    "a broken class": (("a/*5", "b/*5", "c -> /nowhere/c"), "{0}/c is a link to /nowhere/c, which is not there"),
    "an empty class": (("a/*5", "b/*5", "c/"), "there are no images (.jpg .jpeg"),
    "a class in other files": (("a/*5", "b/0.gif", "b/1.gif"), "for the classes b; move empty"),
    "a class in test alone": (
        ("train/a/*2", "train/b/*2", "test/a/*2", "test/b/*2", "test/c/*2"),
        "must hold the same classes; only one of them has c",
    ),
    "a broken image": (("a/*5", "b/*5", "b/5.png -> gone.png"), "{0}/b/5.png cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_odd_folders_that_are_refused(tmp_path: Path, case: str) -> None:
    lines, text = REFUSED[case]
    lay_out(tmp_path, *lines)
    assert text.format(tmp_path) in message(tmp_path / "set" if case == "one folder, two classes" else tmp_path)


def test_sizes_before_resizing_and_pictures_that_lie_on_their_side(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/a/*1", "train/b/*1", "test/a/*1", "test/b/*1")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(pixels(9, size=(10, 20)))
    picture.save(tmp_path / "train" / "b" / "0.png", exif=exif)
    data = load(f"imagefolder:{tmp_path}", image_size=8)
    assert data.sizes == Sizes(heights=(8, 20), widths=(8, 10))
    assert "b/0.png is 10x20" in message(tmp_path)
    large = load(f"imagefolder:{tmp_path}", image_size=120)
    assert isinstance(large.train, FileSet)
    assert large.sizes == data.sizes


@pytest.mark.parametrize(
    ("set_name", "text"),
    [("easy-vqa", "/train2014 holds 4,000 images and no class folders"), ("bccd-voc", "is laid out as Pascal VOC")],
)
def test_real_sets_without_classes(set_name: str, text: str) -> None:
    shared = os.environ.get("FILTERSMITH_SHARED") or Path(__file__).parents[3].parent / "shared"
    folder = Path(shared) / "data" / set_name
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand: {folder} is absent")
    assert text in message(folder)
