"""Image files below a folder: each one once, and account of what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.pictures import lay_out

from filtersmith.lab.data.files import SUFFIXES, Skipped, folders_in, images_below, loose_images, shortened


def found(folder: Path, skipped: Skipped) -> list[str]:
    return [str(Path(path).relative_to(folder)) for path in images_below(folder, skipped)]


def test_images_in_torchvisions_order_with_any_suffix(tmp_path: Path) -> None:
    names = ["b/2.PNG", "b/10.jpg", "a.JPEG", "b-c/0.webp", "b/d/0.TIFF", "z.bmp"]
    lay_out(tmp_path, *names)
    datasets = pytest.importorskip("torchvision.datasets.folder")
    assert set(SUFFIXES) == set(datasets.IMG_EXTENSIONS)
    made = datasets.make_dataset(str(tmp_path.parent), {tmp_path.name: 0}, extensions=SUFFIXES)
    assert list(images_below(tmp_path, Skipped(tmp_path))) == [path for path, _ in made]
    assert len(made) == len(names)


def test_what_systems_and_editors_leave_is_hidden_and_counted(tmp_path: Path) -> None:
    left = (".DS_Store.png", "._0.png", ".ipynb_checkpoints/0.png", "__MACOSX/._0.png", "@eaDir/0.png", "Thumbs.db")
    lay_out(tmp_path, "0.png", *left, "notes.txt", "a/b.gif")
    skipped = Skipped(tmp_path)
    assert found(tmp_path, skipped) == ["0.png"]
    assert skipped.notes() == [
        "6 hidden files or folders are skipped: .DS_Store.png, ._0.png, .ipynb_checkpoints and 3 more",
        "2 files are skipped, as the name ends in none of .jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp: "
        "a/b.gif, notes.txt",
    ]
    assert folders_in(tmp_path, Skipped(tmp_path)) == ["a"]
    assert loose_images(tmp_path) == ["0.png"]


def test_links_are_followed_but_never_to_a_folder_above(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        "cat/0.png",
        "elsewhere/*2",
        "cat/more -> ../elsewhere",
        "cat/up -> ..",
        "cat/self -> .",
        "elsewhere/back -> ../cat",
        "cat/sub/again -> ../../cat/sub",
    )
    skipped = Skipped(tmp_path)
    assert found(tmp_path / "cat", skipped) == ["0.png", "more/0.png", "more/1.png"]
    assert skipped.loops == ["cat/more/back", "cat/self", "cat/sub/again", "cat/up"]
    assert skipped.notes() == [
        "4 links to folders above are not followed: cat/more/back, cat/self, cat/sub/again and 1 more"
    ]
    lay_out(tmp_path, "loop -> ../" + tmp_path.name, "dog -> elsewhere")
    skipped = Skipped(tmp_path)
    assert folders_in(tmp_path, skipped) == ["cat", "dog", "elsewhere"]
    assert skipped.loops == ["loop"]


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    lay_out(tmp_path, "a/*2", "b.png -> a/0.png", "c -> a")
    skipped = Skipped(tmp_path)
    assert found(tmp_path, skipped) == ["b.png", "a/1.png"]
    assert skipped.notes() == ["3 second names of images are links and not counted: a/0.png, c/0.png, c/1.png"]


def test_links_to_nowhere_and_what_cannot_be_read(tmp_path: Path) -> None:
    lay_out(tmp_path / "loop", "a.png -> a.png", "b -> b")
    assert found(tmp_path / "loop", Skipped(tmp_path)) == ["a.png"]  # which will fail by name when it is read
    with pytest.raises(ValueError, match="loop/b is a link to b, which is not there"):
        folders_in(tmp_path / "loop", Skipped(tmp_path))
    lay_out(tmp_path, "cat -> gone")
    with pytest.raises(ValueError, match=f"^{tmp_path}/cat is a link to gone, which is not there$"):
        folders_in(tmp_path, Skipped(tmp_path))
    with pytest.raises(ValueError, match=f"^{tmp_path}/nowhere cannot be read: No such file or directory$"):
        images_below(tmp_path / "nowhere", Skipped(tmp_path))
    assert shortened(["a", "b"], 2) == "a, b"


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    lay_out(tmp_path, "caf\udce9/0.png", "caf\udce9/\udce8.txt")
    with pytest.raises(ValueError, match=r"has a folder whose name can't be printed, 'caf\\udce9': rename it"):
        folders_in(tmp_path, Skipped(tmp_path))
    skipped = Skipped(tmp_path)
    images_below(tmp_path / "caf\udce9", skipped)
    assert skipped.no_image == ["caf\N{REPLACEMENT CHARACTER}/\N{REPLACEMENT CHARACTER}.txt"]


def test_what_could_be_read_for_ever_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, "zero.png -> /dev/zero")
    with pytest.raises(ValueError, match=f"^{tmp_path}/zero.png is no file$"):
        images_below(tmp_path, Skipped(tmp_path))
