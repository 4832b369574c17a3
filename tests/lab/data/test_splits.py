"""Names of folders and files: which are splits, which are not, and which are used."""

from __future__ import annotations

import pytest

from filtersmith.lab.data.splits import TEST, TRAIN, VALIDATION, choose, disguised, split_of, splits_in, words


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            TRAIN,
            "train training Train TRAIN trainval train2014 train_2014 trainset TrainImages train-data 1_train trn",
        ),
        (TEST, "test testing Test TESTING test2017 test_images testset testA tst Test-Set"),
        (VALIDATION, "val valid validation eval evaluation dev val2014 VAL valset Validation_Data ValidSet"),
        (
            None,
            "cat trains training_shoes test_tube bullet_train contest cheval chéval devil images 2014 train_test _",
        ),
    ],
)
def test_what_a_name_means(split: str | None, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


def test_words_and_splits_of_longer_names() -> None:
    assert words("ILSVRC2012_img_trainSet") == ["ilsvrc", "img", "train", "set"]
    assert splits_in("cifar10-train") == {TRAIN}
    assert splits_in("train_and_test") == {TRAIN, TEST}
    assert splits_in("restrain") == set()


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        ("cats_train cats_test other", "cats_train cats_test"),
        ("cats_train cats_test dogs_train dogs_test", "cats_train cats_test dogs_train dogs_test"),
        ("my_train your_test", "my_train your_test"),
        ("bullet_train freight_train", ""),
        ("train_station test_tube airport", ""),
        ("cat dog", ""),
    ],
)
def test_splits_in_disguise(names: str, alike: str) -> None:
    assert disguised(names.split()) == alike.split()


@pytest.mark.parametrize(
    ("train", "test", "validation", "result"),
    [
        ("train", "", "", ("train", None, [])),
        ("train", "test", "", ("train", "test", [])),
        ("Train", "", "val", ("Train", "val", [])),
        ("train", "testing", "val dev", ("train", "testing", ["val, dev is not used: testing is for testing"])),
        ("trainval", "test", "val", ("trainval", "test", ["val is not used: test is for testing"])),
        ("", "test", "", "has a folder test but none called train; if test is a class, give it another name"),
        ("train train2", "test", "", "has several folders for training, train, train2: keep one"),
        ("train", "test test2", "", "has several folders for testing, test, test2: keep one"),
        ("train", "", "val dev", "has several folders for testing, val, dev: keep one"),
        ("trainval", "", "val", "has trainval, which by its name holds the images of val, too"),
    ],
)
def test_which_are_used(train: str, test: str, validation: str, result: object) -> None:
    folders = {TRAIN: train.split(), TEST: test.split(), VALIDATION: validation.split()}
    if isinstance(result, str):
        with pytest.raises(ValueError, match=f"^{result}"):
            choose(folders)
    else:
        assert choose(folders) == result
