"""Networks that a user's function makes: what it is given, and what is no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from filtersmith import zoo

FILE = """
import torch
from torch import nn

def plain(): return nn.Linear(3, 7)
def sized(num_classes, in_channels=3, image_size=224, width=1):
    return nn.Linear(in_channels * image_size, num_classes * width)
def anything(**options): return nn.Linear(options.pop("width", 1), options.pop("num_classes"), **options)
class Net(nn.Module):
    def __init__(self, classes, *, small_images=True):
        super().__init__()
        self.fc = nn.Linear(int(small_images) + 1, classes).eval()
    @classmethod
    def wide(cls, classes): return cls(2 * classes)
def lazy(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
def stem(): return nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.MaxPool2d(2))
MADE, NUMBER = nn.Linear(1, 1), 3
def again(): return nn.Sequential(nn.ReLU(), MADE)
def fails(): raise KeyError("what")
def nothing(): pass
def needs(depth, num_classes): pass
def seeds():
    torch.manual_seed(5)
    return plain()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "net.py"
    path.write_text(FILE)
    return path


def shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in network.parameters() if parameter.ndim > 1]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("plain", (7, 3)),
        ("sized", (10, 2 * 4)),
        ("sized(width=3)", (30, 2 * 4)),
        ("sized(3, image_size=1)", (3, 2)),
        ("anything(width=6,bias=False)", (10, 6)),
        ("Net", (10, 1)),
        ("Net.wide", (20, 2)),
        ("lazy", (5, 2 * 4 * 4)),
    ],
)
def test_a_function_is_given_what_it_takes(name: str, shape: tuple[int, ...], file: Path) -> None:
    network = zoo.build(f"{file}:{name}", 10, 2, image_size=4)
    assert shapes(network) == [shape]
    assert all(module.training for module in network.modules())


def test_small_images_fit_the_stem(file: Path) -> None:
    assert shapes(zoo.build(f"{file}:stem")) == [(4, 3, 7, 7)]
    assert shapes(zoo.build(f"{file}:stem", small_images=True)) == [(4, 3, 3, 3)]


def test_the_seed_draws_it(file: Path) -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(zoo.build(f"{file}:plain").parameters())

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    torch.manual_seed(1)
    zoo.build(f"{file}:seeds")
    assert torch.initial_seed() == 1, "of all that is drawn afterwards"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", r"net.py needs the function that makes its network, .*net.py:plain or .*net.py:sized$"),
        (
            ":plan",
            r"unknown function of .*net.py 'plan' \(did you mean 'plain'\?\); known: plain, sized, anything, Net,",
        ),
        (":MADE", r":MADE is a network, and every run draws its own"),
        (":NUMBER", r":NUMBER must be a function that makes a network, got a int"),
        (":nothing", r":nothing must give a network \(torch.nn.Module\), got nothing"),
        (":fails", r":fails raises KeyError: 'what' \(line 19\)"),
        (":needs", r":needs needs depth: write .*:needs\(depth=...\)"),
        (":sized(depth=3)", r"unknown option of .*:sized 'depth'"),
        (":sized(1,2,3,4,5)", r":sized takes 4 values \(.*\), got 5"),
        (":sized(1,num_classes=2)", r"num_classes is given twice"),
        (":sized(width=2", r"must be written as .*:sized\(option=value, ...\)"),
        (":sized(width=print(1))", r"must be written as .*:sized\(option=value, ...\)"),
        (":plain(3)", r":plain takes 0 values"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(name: str, said: str, file: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        zoo.build(f"{file}{name}")
    assert "\n" not in str(caught.value)


def test_layers_that_another_run_has_trained_are_refused(file: Path) -> None:
    zoo.build(f"{file}:again")
    with pytest.raises(ValueError, match="gives the layer '1' again, and every run draws its own"):
        zoo.build(f"{file}:again")
