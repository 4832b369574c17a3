"""Folders of image files: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("torchvision")

from reference.pictures import class_folders, pixels, write

from filtersmith.lab.data import Augment, FileSet, ImageSet, load


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
    assert "at least 2 classes are needed, found ['cat']" in message(tmp_path / "one")
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
