"""What is saved comes back, strides and all; what could run code, or has changed, does not."""

from __future__ import annotations

import hashlib
import io
import os
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.running import config, digits
from torch import nn

from filtersmith.lab.training import checkpoint
from filtersmith.lab.training.digests import digest, seal, unseal
from filtersmith.lab.training.progress import Silent
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest


def session(method: str = "wau+ema(0.9)") -> Session:
    return Session(config(method, model="vanilla-2-8", batch_size=300, optimizer="adam", lr=0.01), digits())


def saved(what: Session, base: Path) -> Path:
    """The checkpoint of a session."""
    place = base / "run" / "checkpoints" / checkpoint.name_of(what.position.step)
    place.mkdir(parents=True)
    checkpoint.write(what, place, checkpoint.gather_random_states(what.accelerator), {"format": 1})
    return place


@pytest.fixture
def trained() -> Session:
    ours = session()
    assert ours.train_epoch(StopRequest(), Silent())
    ours.finish_epoch()
    return ours


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for one in inner for tensor in tensors(one)]


def test_all_states_come_back_with_their_strides(trained: Session, tmp_path: Path) -> None:
    place, other = saved(trained, tmp_path), session()
    checkpoint.load(other, place)
    for name in ("model", "optimizer", "composition"):
        mine, theirs = (tensors(getattr(one, name).state_dict()) for one in (trained, other))
        assert len(mine) == len(theirs) > 2
        for left, right in zip(mine, theirs, strict=True):
            assert torch.equal(left, right)
            assert (left.dtype, left.stride()) == (right.dtype, right.stride()), name
    assert any(t.dim() == 4 and not t.is_contiguous() for t in tensors(other.optimizer.state_dict())), "channels last"
    assert other.position.state_dict() == trained.position.state_dict()
    assert checkpoint.read_data(place) == {"format": 1}
    assert {file.name for file in place.iterdir()} == {
        "config.yaml",
        "data.json",
        "digests.json",
        "methods.pt",
        "network.pt",
        "optimizer.pt",
        "position.json",
        "random-0.pt",
    }


def test_the_gradient_scaler_goes_on(trained: Session, tmp_path: Path) -> None:
    trained.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=7)
    place, other = saved(trained, tmp_path), session()
    other.scaler = torch.amp.GradScaler("cpu")
    checkpoint.load(other, place)
    assert other.scaler.state_dict() == trained.scaler.state_dict()
    assert (place / "scaler.json").is_file()


def test_every_changed_byte_is_seen(trained: Session, tmp_path: Path) -> None:
    place = saved(trained, tmp_path)
    checkpoint.check(place)
    for file in sorted(place.iterdir()):
        content = file.read_bytes()
        for at in {0, len(content) // 3, len(content) - 1}:
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(
                ValueError, match=rf"^the checkpoint {place} is damaged \({file.name} .*\): remove that "
            ):
                checkpoint.check(place)
        file.write_bytes(content)
    (place / ".DS_Store").touch()
    checkpoint.check(place)
    (place / "more").touch()
    with pytest.raises(
        ValueError, match=r"\(more does not belong to it\): remove that folder to train from the start$"
    ):
        checkpoint.check(place)


class Touches:
    """What a pickle can do."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def reseal(place: Path) -> None:
    """As someone would who can compute digests."""
    facts = unseal((place / "digests.json").read_text())
    facts["files"] = {name: digest((place / name).read_bytes()) for name in facts["files"]}
    (place / "digests.json").write_text(seal(facts))


def test_a_pickle_with_the_right_digest_is_not_run(trained: Session, tmp_path: Path) -> None:
    place, touched = saved(trained, tmp_path), tmp_path / "touched"
    for file in sorted(place.glob("*.pt")):
        content, planted = file.read_bytes(), io.BytesIO()
        torch.save({"state": Touches(touched)}, planted)
        file.write_bytes(planted.getvalue())
        reseal(place)
        checkpoint.check(place)
        with pytest.raises(ValueError, match=rf"damaged \({file.name} does not hold plain values\): rem") as caught:
            checkpoint.load(session(), place)
        assert "\n" not in str(caught.value)
        file.write_bytes(content)
    reseal(place)
    checkpoint.load(session(), place)
    assert not touched.exists()


def test_a_state_that_does_not_fit_is_refused(trained: Session, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is damaged \(Error.*load.*state_dict.*\): remove that folder"):
        checkpoint.load(Session(config("wau+ema(0.9)", model="vanilla-1-4"), digits()), saved(trained, tmp_path))


PLAIN = {
    "numbers": [1, 2.5, True, None, -(2**70)],
    ("a", 1): (torch.arange(3), nn.Parameter(torch.ones(2)), torch.Size([2]), torch.float16, torch.device("cpu")),
    1: OrderedDict(x={}),
}


def test_what_is_plain_can_be_read_and_nothing_else_is_called_plain() -> None:
    assert checkpoint.foreign(PLAIN) is None
    stream = io.BytesIO()
    torch.save(PLAIN, stream)
    stream.seek(0)
    assert str(torch.load(stream, weights_only=True)) == str(PLAIN)
    for value, kind in (
        (np.zeros(2), "numpy.ndarray"),
        (np.float64(2), "numpy.float64"),
        (defaultdict(int), "collections.defaultdict"),
        (hashlib.sha256(), "_hashlib.HASH"),
        (torch.Generator(), "torch._C.Generator"),
    ):
        assert checkpoint.foreign({"a": [1, {"b": value}]}) == f"state['a'][1]['b'] is a {kind}"
    assert checkpoint.foreign({np.int64(3): 1}) == "a key of state is a numpy.int64"


def test_a_method_whose_state_could_not_be_read_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from filtersmith.methods.wau import WAU

    state = WAU.state_dict
    monkeypatch.setattr(WAU, "state_dict", lambda self: {**state(self), "rate": np.float64(0.5)})
    with pytest.raises(
        ValueError, match=r"^the state of the method 'wau' cannot be saved: state\['rate'\] is a numpy"
    ):
        session("ema(0.9)+wau")
