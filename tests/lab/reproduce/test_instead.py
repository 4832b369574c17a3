"""What ``--data`` of ``filtersmith reproduce`` says."""

from __future__ import annotations

import doctest

import pytest

from filtersmith.lab.reproduce import instead
from filtersmith.lab.reproduce.instead import DOWNLOADED, Instead, read_instead, resized


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(instead).failed == 0


def test_a_name_alone_stands_for_the_sets_of_a_table() -> None:
    found = read_instead("digits", DOWNLOADED)
    assert [found.of(name) for name in ("cifar10", "svhn", "imagenet")] == ["digits", "digits", None]
    assert found.all_sets() == DOWNLOADED
    nothing = read_instead(None, DOWNLOADED)
    assert (nothing.all_sets(), nothing.of("cifar10"), nothing.image_size) == ((), None, None)


def test_sets_are_named_and_paths_keep_their_signs() -> None:
    text = "coco=coco:a,b/2017, imagenet=imagefolder:x=y,image_size=64"
    found = read_instead(text, ["coco"], ["coco", "imagenet"])
    assert found == Instead(None, ("coco",), {"coco": "coco:a,b/2017", "imagenet": "imagefolder:x=y"}, 64)


def test_a_name_alone_goes_with_those_of_other_sets() -> None:
    found = read_instead("voc:cells,imagenet=digits", ["voc2007"], ["voc2007", "imagenet"])
    assert (found.of("voc2007"), found.of("imagenet")) == ("voc:cells", "digits")
    assert sorted(found.all_sets()) == ["imagenet", "voc2007"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imagnet=digits", r"unknown set of --data 'imagnet' \(did you mean 'imagenet'\?\); known: coco, imagenet"),
        ("vqa=vqa:x", "unknown set of --data 'vqa'"),
        ("coco=", "data must be coco=NAME, once, got 'coco='"),
        ("coco=a,coco=b", "data must be coco=NAME, once"),
        ("image_size=0", "image_size of --data must be a whole number of at least 1, got 0"),
        ("image_size=big", "image_size of --data must be a whole number of pixels >= 1, got 'big'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        read_instead(text, ["coco"], ["coco", "imagenet"])
    assert "\n" not in str(error.value)


def test_the_size_of_images_stands_in_the_title() -> None:
    assert (resized("cells", None), resized("cells", 128)) == ("cells", "cells at 128 pixels")
