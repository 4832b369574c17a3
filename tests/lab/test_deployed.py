"""The network of a configuration, and its weights from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference.running import assert_same, config, digits
from safetensors.torch import save_file, save_model
from torch import nn

from filtersmith.lab.deployed import build_network, convolutions, load_network, one_line
from filtersmith.lab.tasks.classification import CLASSIFICATION

SHARED = config("dacnn+regulators+wau", model="vanilla-5-16")


def test_the_network_is_the_deployed_one_and_no_random_number_is_taken() -> None:
    before = torch.get_rng_state()
    network = build_network(SHARED, CLASSIFICATION.facts(digits()))
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    kernels = {id(layer.weight) for layer in convolutions(network, torch.zeros(1, 1, 8, 8))}
    assert len(kernels) == 3, "two of the network, one of the regulator"


def test_weights_come_back_also_tied_ones(tmp_path: Path) -> None:
    facts, file = CLASSIFICATION.facts(digits()), tmp_path / "net.safetensors"
    network = build_network(SHARED, facts)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    save_model(network, str(file))
    assert_same(load_network(SHARED, facts, file).state_dict(), network.state_dict())
    save_file({"other": torch.zeros(1)}, str(file))
    with pytest.raises(ValueError, match=r"net.safetensors does not hold the weights of vanilla-5-16: .*Missing key"):
        load_network(SHARED, facts, file)


def test_a_layer_that_is_called_twice_counts_twice() -> None:
    layer = nn.Conv2d(2, 2, 1)
    assert convolutions(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 2, 3, 3)) == [layer, layer]


def test_an_error_in_one_line() -> None:
    assert one_line(ValueError("\x1b[31mone\n  two")) == "one two"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("word " * 100))) <= 250
