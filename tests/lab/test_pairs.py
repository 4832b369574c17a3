"""All pairs of some methods: those that make sense, and why the others do not."""

from __future__ import annotations

import doctest

import pytest
from lab.test_compare import comparison
from reference.running import digits

from filtersmith.lab import pairs
from filtersmith.lab.commands import rows_of
from filtersmith.lab.compare import normalised
from filtersmith.lab.pairs import all_pairs, joined, without_refused
from filtersmith.lab.recipe.config import ModelOptions, TrainOptions
from filtersmith.methods import METHODS


def test_examples() -> None:
    assert doctest.testmod(pairs).failed == 0


def test_every_pair_of_all_methods_is_there_or_refused_with_a_reason() -> None:
    alone = ["flow(rates=[1,0.5])" if name == "flow" else name for name in METHODS]
    found, refused = all_pairs(alone)
    assert len(found) - 1 - len(alone) + len(refused) == len(alone) * (len(alone) - 1) // 2
    for pair, reason in refused.items():
        assert "\n" not in reason
        assert any(name.split("(")[0] in reason for name in pair), reason


def test_the_order_is_that_of_a_composition() -> None:
    assert joined("kflo(width=2)", "wau") == joined("wau", "kflo(width=2)") == "kflo(width=2)+wau"
    with pytest.raises(ValueError, match="kflo and acnet do not go together: both re-parametrize the kernels"):
        joined("kflo", "acnet")


def test_what_the_network_refuses_is_left_out_with_its_reason() -> None:
    methods, _ = all_pairs(["kflo(width=2)", "repr", "wau"])
    options = {"methods": tuple(methods), "model": ModelOptions(name="vanilla-3-4")}
    asked = normalised(comparison("baseline", epochs=4).model_copy(update=options))
    found, refused = without_refused(asked, digits())
    assert "kflo(width=2)+repr" not in found.methods
    assert {"kflo(width=2)+wau", "repr+wau"} <= set(found.methods)
    assert list(refused) == ["kflo(width=2) and repr"]
    assert "expanded already" in refused["kflo(width=2) and repr"]


def test_a_method_that_does_not_fit_alone_is_no_question_of_pairs() -> None:
    what = comparison("baseline repr wau", 1).model_copy(update={"train": TrainOptions(epochs=1)})
    with pytest.raises(ValueError, match=r"^repr: epochs must be above the 2"):
        without_refused(what, digits())


@pytest.mark.parametrize(
    ("methods", "given", "said"),
    [
        (None, "wau", "all_pairs must be at least two methods besides the baseline, got 'wau'"),
        (None, "wau,kflo@resnet20", "all_pairs must be methods of one network, without an @, got 'kflo@resnet20'"),
        (None, "wau,kflo+ema", r"all_pairs must be single methods: they are joined here, got 'kflo\+ema'"),
        ("wau", "wau,kflo", "--all-pairs wau,kflo stands in place of --methods wau"),
        (None, "wau,nothing", "unknown method 'nothing'"),
    ],
)
def test_what_cannot_be_is_refused(methods: str | None, given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rows_of(methods, given)
    assert rows_of("baseline,wau", None) == ["baseline", "wau"]
    assert rows_of(None, None) is None
