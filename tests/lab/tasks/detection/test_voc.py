"""VOC's layout: which lists are used, what boxes mean, and what is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.tasks.detection.small_sets import HEIGHT, WIDTH, annotation, bccd, voc
from reference.pictures import write

from filtersmith.lab.tasks.detection.faults import Faults
from filtersmith.lab.tasks.detection.records import Layout, Sample
from filtersmith.lab.tasks.detection.voc import parse, read_voc


def read(path: Path) -> tuple[Layout, list[str]]:
    faults = Faults()
    return read_voc(f"voc:{path}", path, faults), faults.notes()


def names(samples: list[Sample]) -> list[str]:
    return [one.file.stem for one in samples]


def message(path: Path) -> str:
    """The error that reading gives; always one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"voc:{path}: ")
    return text


def test_boxes_count_pixels_from_one_and_difficult_ones_are_ignored(tmp_path: Path) -> None:
    things = {"a": [("dog", (1, 1, WIDTH, HEIGHT)), ("cat*", ("11", "21.5", "30", "40"))], "b": []}
    layout, faults = read(voc(tmp_path, {"train": ["b", "a"], "val": ["c"]}, things))
    assert layout.classes == ("cat", "dog")
    assert names(layout.train) == ["b", "a"]
    assert [one.size for one in layout.train] == [(HEIGHT, WIDTH)] * 2
    nothing, something = (one.target for one in layout.train)
    assert len(nothing) == 0, "an image without boxes stays"
    assert something.boxes.tolist() == [[0, 0, WIDTH, HEIGHT], [10, 20.5, 30, 40]]
    assert something.labels.tolist() == [2, 1]
    assert something.ignored.tolist() == [False, True]
    assert faults == []


@pytest.mark.parametrize(
    ("lists", "train", "test"),
    [
        ({"train": "ab", "val": "c"}, "train", "val"),
        ({"train": "ab", "val": "c", "trainval": "abc"}, "train", "val"),
        ({"train": "ab", "val": "c", "trainval": "abc", "test": "d"}, "trainval", "test"),
        ({"train": "ab", "test": "d"}, "train", "test"),
        ({"trainval": "abc", "val": "c"}, "trainval", "val"),
    ],
)
def test_which_lists_are_used_is_said(tmp_path: Path, lists: dict[str, str], train: str, test: str) -> None:
    layout, _ = read(voc(tmp_path, lists))
    assert (names(layout.train), names(layout.test)) == (list(lists[train]), list(lists[test]))
    assert layout.notes == (f"trained on the images of {train}.txt, tested on those of {test}.txt",)


def test_a_test_list_without_annotations_is_none(tmp_path: Path) -> None:
    """As in VOC 2012, whose test annotations only the server has."""
    root = voc(tmp_path, {"train": "ab", "val": "c"})
    (root / "ImageSets/Main/test.txt").write_text("x\ny\n")
    layout, faults = read(root)
    assert (names(layout.train), names(layout.test), faults) == (["a", "b"], ["c"], [])


@pytest.mark.parametrize("above", ["", "VOCdevkit", "TrainVal/VOCdevkit"])
def test_the_folders_of_torchvision_and_several_years(tmp_path: Path, above: str) -> None:
    voc(tmp_path / above / "VOC2007", {"trainval": "ab", "test": "c"})
    voc(tmp_path / above / "VOC2012", {"train": "d", "val": "e", "trainval": "de"})
    layout, _ = read(tmp_path)
    assert (names(layout.train), names(layout.test)) == (list("abde"), ["c"])
    assert layout.notes == (
        "trained on the images of trainval.txt of VOC2007 and trainval.txt of VOC2012, "
        "tested on those of test.txt of VOC2007",
    )
    alone, _ = read(tmp_path / above / "VOC2012")
    assert (names(alone.train), names(alone.test)) == (["d"], ["e"])


def test_lines_of_lists_may_have_marks_suffixes_and_spaces(tmp_path: Path) -> None:
    root = voc(tmp_path, {"train": ["a", "b", "cell 7"], "val": ["c"]})
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xef\xbb\xbfa  1\r\n\r\nb.jpg\r\ncell 7 -1\r\na\r\n")
    layout, faults = read(root)
    assert names(layout.train) == ["a", "b", "cell 7"]
    assert faults == ["1 image is listed twice and counted once: a in train.txt"]


def test_what_can_be_skipped_is_counted_and_named(tmp_path: Path) -> None:
    root = voc(
        tmp_path, {"train": [*"abcdefg", "other"], "val": ["h"]}, {"g": [("", (1, 1, 9, 9)), ("cat", (3, 3, 3, 9))]}
    )
    xml = root / "Annotations"
    (xml / "a.xml").unlink()
    (root / "JPEGImages/b.jpg").unlink()
    (root / "JPEGImages/c.jpg").write_text("no image")
    (xml / "d.xml").write_text("<annotation><object>")
    (xml / "e.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>')
    (xml / "f.xml").write_text(annotation("x", [("cat", ("?", 1, 9, 9))], size=(WIDTH, HEIGHT)))
    write(root / "JPEGImages/g.png", 7)
    (xml / "other.xml").write_text(annotation("other", [], more=r"<path>C:\cells\another.jpg</path>"))
    layout, faults = read(root)
    assert names(layout.train) == ["f", "g", "other"]
    assert layout.train[1].file.name == "g.jpg"
    assert [len(one.target) for one in layout.train] == [0, 0, 0]
    assert faults == [
        "1 image is not there and is left out: b.jpg",
        "1 image cannot be read and is left out: c.jpg",
        "1 image has no annotation and is left out: a",
        "2 annotations cannot be read, and their images are left out: d.xml, e.xml",
        "1 image has a second file of its name, which is not read: g.png",
        "2 annotations name another image inside; the names of their own files are what counts: f.xml, other.xml",
        "1 annotation says another size than its image has, and is not believed: f.xml",
        "1 box has no class, or one that is not listed, and is left out: g.xml",
        "1 box is left out, as its coordinates are not four finite numbers: f.jpg",
        "1 box has no area and is left out: g.jpg",
    ]


def test_a_name_inside_may_come_without_suffix_or_with_folders(tmp_path: Path) -> None:
    root = voc(tmp_path, {"train": "ab", "val": "c"})
    text = annotation("a", [], more="<path>/home/pi/a.jpg</path>").replace("a.jpg</filename>", "a</filename>")
    (root / "Annotations/a.xml").write_text(text)
    (root / "Annotations/b.xml").write_text(
        r"<annotation><filename/><path>C:\cells\b.jpg</path><object><name>cat</name></object></annotation>"
    )
    _, faults = read(root)
    assert faults == ["1 box is left out, as its coordinates are not four finite numbers: b.jpg"]


def test_parts_of_an_object_are_no_objects(tmp_path: Path) -> None:
    root = voc(tmp_path, {"train": "a", "val": "c"})
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    text = (root / "Annotations/a.xml").read_text().replace("<bndbox>", part + "<bndbox>", 1)
    (root / "Annotations/a.xml").write_text(text)
    layout, faults = read(root)
    assert layout.classes == ("cat", "dog")
    assert layout.train[0].target.boxes.tolist() == [[0, 0, 20, 30], [30, 10, 60, 40]]
    assert faults == []


def test_folders_and_lists_that_are_missing(tmp_path: Path) -> None:
    assert f"{tmp_path} holds no Annotations (expected Annotations, JPEGImages, ImageSets/Main" in message(tmp_path)
    (tmp_path / "Annotations").mkdir()
    assert f"there is no folder {tmp_path}/JPEGImages" in message(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    assert "no annotated images to train on: no list trainval.txt or train.txt in " in message(tmp_path)
    voc(tmp_path, {"train": "ab"})
    assert "no annotated images to test on: no list test.txt or val.txt in " in message(tmp_path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no element found"),
        (b"<a><b></a>", "mismatched tag"),
        (b"\xff\xfe\x00", "not well-formed|invalid|no element|unclosed"),
        (b'<?xml version="1.0" encoding="nobodys"?><a/>', "encoding"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "DTD"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"), "DTD"),
    ],
)
def test_no_xml(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        parse(data)
    assert "\n" not in str(caught.value)


def test_xml_of_another_encoding() -> None:
    root = parse('<?xml version="1.0" encoding="latin-1"?><a b="1">é<c>d &amp; e</c></a>'.encode("latin-1"))
    assert (root.text, root.findtext("c"), root.get("b")) == ("é", "d & e", "1")


def test_blood_cells() -> None:
    layout, faults = read(bccd())
    assert layout.classes == ("Platelets", "RBC", "WBC")
    assert (len(layout.train), len(layout.test)) == (292, 72)
    assert sum(len(one.target) for one in layout.train + layout.test) == 4886
    assert {one.size for one in layout.train + layout.test} == {(480, 640)}
    assert faults == ["2 boxes have no area and are left out: BloodImage_00338.jpg, BloodImage_00343.jpg"]
    first = next(one for one in layout.train if one.file.stem == "BloodImage_00000")
    assert first.target.boxes[0].tolist() == [259, 176, 491, 376]
