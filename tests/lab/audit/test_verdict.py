"""What is said of planted faults, with the numbers behind it."""

from __future__ import annotations

from dataclasses import replace

from reference import audits

from filtersmith.lab.audit.audit import audit
from filtersmith.lab.audit.target import open_target
from filtersmith.lab.audit.verdict import verdict


def test_planted_faults_are_named_with_their_numbers() -> None:
    said = verdict(audits.weights_alone())
    assert said.headline.startswith("Filters are wasted: 1% are dead, ")
    assert "more than by chance are twins" in said.headline
    assert "times as much as random ones" in said.headline
    assert said.grounds[0] == "3 of 240 filters are dead by the weights (1.2%)."
    assert any(ground.startswith("They overlap ") for ground in said.grounds)
    assert any("--data shows it" in limit for limit in said.limits)
    assert any("--oracle" in limit for limit in said.limits)


def test_on_images_the_oracle_speaks_too() -> None:
    said = verdict(audits.whole())
    (oracle,) = [ground for ground in said.grounds if "cost less than 0.5 points" in ground]
    assert "Oracle on 20 images, one of which is 5.00 points" in oracle
    assert any("On 60 images their maps correlate" in ground for ground in said.grounds)
    assert not any("--oracle" in limit for limit in said.limits)


def test_random_weights_are_no_verdict_and_a_network_like_a_random_one_wastes_nothing() -> None:
    target = open_target("resnet8", data=audits.FACTS)
    assert verdict(audit(target, None)).headline.startswith("Random weights:")
    trained = replace(target, random=False)
    assert verdict(audit(trained, None)).headline.startswith("No waste was found")


def test_what_is_broken_comes_first() -> None:
    assert verdict(audits.broken()).headline == (
        "Broken: filter 3 of layer conv1, and 1 more layer, have weights that are not finite."
    )
