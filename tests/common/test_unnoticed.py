"""What somebody's code does to the process is not seen afterwards."""

from __future__ import annotations

import random
import sys
import warnings

import pytest
import torch

from filtersmith.common.unnoticed import unnoticed


def test_numbers_gradients_words_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    numpy = pytest.importorskip("numpy")
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt), unnoticed([torch.device("cpu"), torch.device("meta")]):
            assert torch.is_grad_enabled()
            torch.rand(1), random.random(), numpy.random.rand()
            print("here")
            print("there", file=sys.stderr)
            warnings.warn("careful", stacklevel=1)
            torch.set_grad_enabled(True)
            raise KeyboardInterrupt
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == before[1:]
    assert capsys.readouterr() == ("", "")
