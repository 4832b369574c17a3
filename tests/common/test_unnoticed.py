"""What somebody's code does to the process is not seen afterwards."""

from __future__ import annotations

import random
import sys
import warnings

import pytest
import torch

from filtersmith.common.unnoticed import unnoticed


def make_itself_noticed() -> None:
    with unnoticed([torch.device("cpu"), torch.device("meta")]):
        assert torch.is_grad_enabled()
        sys.modules["numpy"].random.rand()
        print(torch.rand(1), random.random())
        print("there", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
        torch.set_grad_enabled(True)
        raise KeyboardInterrupt


def test_numbers_gradients_words_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    numpy = pytest.importorskip("numpy")
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt):
            make_itself_noticed()
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == before[1:]
    assert capsys.readouterr() == ("", "")
