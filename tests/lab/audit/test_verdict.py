"""What is said of planted faults, with the numbers behind it."""

from __future__ import annotations

from dataclasses import replace

import torch
from reference import audits

from filtersmith.lab.audit.audit import audit
from filtersmith.lab.audit.oracle import CHEAP
from filtersmith.lab.audit.responses import HIGH
from filtersmith.lab.audit.target import open_target
from filtersmith.lab.audit.verdict import verdict


def test_planted_faults_are_named_with_their_numbers() -> None:
    said = verdict(audits.weights_alone())
    assert said.headline.startswith("Signs of waste: 1% more than with random weights are dead, ")
    assert "more than by chance are twins" in said.headline
    assert "times as much as random ones" in said.headline
    assert said.grounds[0] == "3 of 240 filters are dead by the weights (1.2%); of the random network 0."
    assert any(ground.startswith("They overlap ") for ground in said.grounds)
    assert any("--data shows it" in limit for limit in said.limits)
    assert any("--oracle" in limit for limit in said.limits)


def test_on_images_the_oracle_speaks_too() -> None:
    said = verdict(audits.whole())
    (oracle,) = [ground for ground in said.grounds if f"cost less than {100 * CHEAP:g} points" in ground]
    assert "Oracle on 20 images, one of which is 5.00 points" in oracle
    (maps,) = [ground for ground in said.grounds if "On 60 images their maps correlate" in ground]
    assert maps.endswith(f"of the pairs lie above {HIGH[0]}.")
    assert "1% dead, 1% twins, overlap 1.5 times, correlation 1.5 times, rank 0.8 times" in said.limits[-1]
    assert not any("--oracle" in limit for limit in said.limits)


def test_the_oracle_of_a_network_that_hardly_knows_more_than_a_guess_is_no_ground() -> None:
    found = audits.whole()
    assert found.worth is not None
    free = {name: torch.zeros_like(drops) for name, drops in found.worth.drops.items()}
    worth = replace(found.worth, images=400, guess=0.2, drops=free)
    for accuracy, said in ((0.29, False), (0.31, True)):
        headline = verdict(replace(found, worth=replace(worth, accuracy=accuracy))).headline
        assert ("100% cost less than" in headline) == said


def test_random_weights_are_no_verdict_and_a_network_like_a_random_one_wastes_nothing() -> None:
    target = open_target("resnet8", data=audits.FACTS)
    assert verdict(audit(target, None)).headline.startswith("Random weights:")
    trained = replace(target, random=False)
    assert verdict(audit(trained, None)).headline.startswith("No sign of waste")


def test_what_is_broken_comes_first() -> None:
    assert verdict(audits.broken()).headline == (
        "Broken: filter 3 of layer conv1, and 1 more layer, have weights that are not finite."
    )
