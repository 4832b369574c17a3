"""Features of images kept on disk: made once, known by what they depend on, made again where the file is damaged."""

from __future__ import annotations

import copy
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.pictures import write
from torch import Tensor, nn

from filtersmith.lab.tasks.vqa.batches import load_images
from filtersmith.lab.tasks.vqa.features import backbone_digest, cached_features


class Backbone(nn.Module):
    """Counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.norm(self.conv(x)).mean((2, 3))  # type: ignore[no-any-return]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "images" / f"{k}.png", seed=k) for k in range(70)]


SCALING: dict[str, Any] = {"image_size": 8, "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.5]}


def features(files: list[Path], backbone: nn.Module, folder: Path, **options: Any) -> Tensor:
    return cached_features(files, backbone, backbone_digest(backbone), folder, **(SCALING | options))


def looked(backbone: Backbone, call: Callable[[], Tensor]) -> tuple[Tensor, bool]:
    """What a call gives, and whether the backbone was needed."""
    seen: list[int] = []
    hook = backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try:
        return call(), bool(seen)
    finally:
        hook.remove()


def kept(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_features_are_those_of_the_normalised_images(tmp_path: Path, files: list[Path]) -> None:
    backbone = Backbone()
    state = copy.deepcopy(backbone.state_dict())
    made = features(files, backbone, tmp_path / "cache")
    mean, std = (torch.tensor(SCALING[name])[:, None, None] for name in ("mean", "std"))
    images = (load_images(files, 8).float() / 255 - mean) / std
    expected = copy.deepcopy(backbone).eval()(images)
    torch.testing.assert_close(made, expected.detach(), rtol=1e-4, atol=1e-4)
    assert made.dtype == torch.float32
    assert not made.requires_grad
    assert backbone.training
    assert all(torch.equal(state[name], value) for name, value in backbone.state_dict().items())


def test_they_are_made_once(tmp_path: Path, files: list[Path]) -> None:
    backbone = Backbone()
    made, needed = looked(backbone, lambda: features(files, backbone, tmp_path / "cache"))
    again, needed_again = looked(backbone, lambda: features(files, backbone, tmp_path / "cache"))
    assert (needed, needed_again) == (True, False)
    assert torch.equal(made, again)
    file = kept(tmp_path / "cache")
    mode = stat.S_IMODE(file.stat().st_mode)
    (tmp_path / "plain").write_text("")
    assert mode == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_whatever_they_depend_on_makes_others(tmp_path: Path, files: list[Path]) -> None:
    backbone, folder = Backbone(), tmp_path / "cache"
    features(files, backbone, folder)
    for options in ({"image_size": 6}, {"mean": [0.5, 0.4, 0.2]}, {"std": [0.25, 0.2, 0.4]}):
        assert looked(backbone, lambda options=options: features(files, backbone, folder, **options))[1]  # type: ignore[misc]
    assert looked(backbone, lambda: features(files[::-1], backbone, folder))[1]
    assert looked(backbone, lambda: features(files[1:], backbone, folder))[1]
    with torch.no_grad():
        backbone.norm.running_mean.add_(1)  # type: ignore[union-attr]
    assert looked(backbone, lambda: features(files, backbone, folder))[1]
    write(files[0], seed=1, size=(9, 9))
    assert looked(backbone, lambda: features(files, backbone, folder))[1]
    assert len(list(folder.iterdir())) == 8


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def flipped(file: Path) -> None:
    contents = bytearray(file.read_bytes())
    contents[-3] ^= 1
    file.write_bytes(bytes(contents))


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def others(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"features": torch.zeros(70, 4)}, file)


def without(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(70, 4)}, file)


@pytest.mark.parametrize("spoil", [cut, flipped, emptied, others, without])
def test_damaged_files_are_made_again(tmp_path: Path, files: list[Path], spoil: Callable[[Path], None]) -> None:
    backbone, folder = Backbone(), tmp_path / "cache"
    made = features(files, backbone, folder)
    spoil(kept(folder))
    again, needed = looked(backbone, lambda: features(files, backbone, folder))
    assert needed
    assert torch.equal(made, again)
    assert not looked(backbone, lambda: features(files, backbone, folder))[1], "and kept"


def test_a_failure_leaves_no_file(tmp_path: Path, files: list[Path]) -> None:
    backbone = Backbone()
    files[66].write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"66\.png cannot be read as an image"):
        features(files, backbone, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(ValueError, match="must give features"):
        features(files[:3], nn.Conv2d(3, 4, 3), tmp_path / "cache")
    with torch.no_grad():
        backbone.conv.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        features(files[:3], backbone, tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file cannot be made: File exists"):
        features(files[:3], Backbone(), tmp_path / "file")


def test_digests_of_networks() -> None:
    one = Backbone()
    assert backbone_digest(one) == backbone_digest(copy.deepcopy(one))
    assert backbone_digest(one) != backbone_digest(Backbone())
    other = copy.deepcopy(one)
    other.conv.stride = (2, 2)
    assert backbone_digest(one) != backbone_digest(other)


def test_digests_know_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Backbone()
    before = backbone_digest(one)
    changed = tmp_path / "code.py"
    changed.write_text("# other code")
    monkeypatch.setattr("inspect.getfile", lambda cls: str(changed))
    assert backbone_digest(one) != before
