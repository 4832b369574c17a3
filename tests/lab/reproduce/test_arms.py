"""What is trained for a row, at any scale."""

from __future__ import annotations

import pytest

from filtersmith.lab.papers.published import paper, table, tables
from filtersmith.lab.reproduce.arms import arm_of, check_scale, scaled, train_options
from filtersmith.lab.training.learning_rate import lr_factor


def test_full_length_is_what_the_paper_says() -> None:
    of = table("repr/table1")
    arm = arm_of(of.row(3), of)
    assert (arm.network, arm.data, arm.method) == ("vanilla", "cifar10", "repr(s1=20,s2=10,cycles=3)")
    assert (arm.train.epochs, arm.train.lr, arm.train.momentum, arm.train.schedule) == (100, 0.01, 0, "constant")
    assert arm.data_options == {"augment": False, "limit": None, "holdout": 0}


@pytest.mark.parametrize(
    ("name", "drops"), [("wau-164", [81, 122]), ("wau-wrn", [60, 120, 160]), ("dacnn-cifar100", [45])]
)
def test_the_rate_drops_at_the_printed_epochs(name: str, drops: list[int]) -> None:
    options = train_options(paper(name.split("-")[0]).recipe(name), 1.0, {})
    rates = [lr_factor(epoch, options, options.epochs, 1) for epoch in range(options.epochs)]
    assert [epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]] == drops


def test_a_flow_drops_in_each_phase() -> None:
    options = train_options(paper("wau").recipe("wau-asa"), 1.0, {})
    rates = [lr_factor(epoch, options, 164, 1) for epoch in range(164)]
    assert options.epochs == 492
    assert [epoch for epoch in range(1, 164) if rates[epoch] < rates[epoch - 1]] == [61, 122]


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.02, 0.001])
def test_every_row_has_an_arm_at_every_scale(scale: float) -> None:
    for of in tables():
        for row in of.trained():
            arm, full = arm_of(row, of, scale), arm_of(row, of)
            assert arm.train.epochs == max(1, round(full.train.epochs * scale))
            assert arm.network == full.network
            if scale == 0.5:
                assert arm.key != full.key


def test_phases_shrink_in_proportion_and_are_left_open_below_an_epoch() -> None:
    text = "repr(s1=20,s2=10,cycles=3,rank=l2)"
    assert scaled(text, 1, 100) == text
    assert scaled(text, 0.5, 50) == "repr(s1=10,s2=5,cycles=3,rank=l2)"
    assert scaled(text, 0.05, 5) == "repr(rank=l2)"
    assert scaled("prune(after=45,share=0.3)", 0.1, 9) == "prune(after=4,share=0.3)"
    assert scaled("kflo(width=4)", 0.1, 9) == "kflo(width=4)"


def test_rows_that_are_the_same_share_their_runs() -> None:
    def key(name: str, number: int) -> str:
        return arm_of(table(name).row(number), table(name)).key

    assert key("repr/table1", 3) == key("repr/table2", 3) == key("repr/table4", 4) == key("repr/controls", 2)
    assert key("repr/table3", 2) == key("repr/table4", 45)
    assert key("repr/table1", 3) != key("repr/table1", 7), "other data"
    assert key("repr/table1", 3) != key("repr/fig5-left", 4), "another optimizer"


def test_what_is_trained_before() -> None:
    of = table("repr/table2")
    distilled = arm_of(of.row(2), of)
    assert distilled.teacher is not None
    assert (distilled.teacher.network, distilled.teacher.train.epochs) == ("resnet110", 150)
    of = table("kflo/table5")
    stacked = arm_of(of.row(22), of)
    assert stacked.begins_with is not None
    assert (stacked.begins_count, stacked.begins_with.data, stacked.data) == (4, "cifar10", "cifar100")
    assert (stacked.train.lr, stacked.data_options["limit"]) == (0.01, 20_000)
    of = table("repr/table3")
    assert arm_of(of.row(4), of).generations == 3


def test_images_are_a_share_of_other_data() -> None:
    of = table("kflo/table5")
    arm = arm_of(of.row(1), of)
    assert arm.config(0, "cifar100", 50_000).data.limit == 20_000
    assert arm.config(0, "digits", 1_437).data.limit == 575
    of = table("repr/fig3-right")
    assert arm_of(of.row(3), of).config(0, "digits", 1_437).data.holdout == 144


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "half", "nan", ""])
def test_a_scale_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"scale must be a number in \(0, 1\], got "):
        check_scale(text)


def test_the_set_of_a_row_says_its_task_and_its_recipe_the_size_of_images() -> None:
    found = {name: arm_of(table(name).row(1), table(name)) for name in ("repr/table1", "repr/table5", "repr/table6")}
    assert {name: (arm.task, arm.image_size) for name, arm in found.items()} == {
        "repr/table1": ("classification", 32),
        "repr/table5": ("classification", 224),
        "repr/table6": ("vqa", 224),
    }
    of = table("wau/table3")
    plain, decayed = (arm_of(of.row(number), of) for number in (1, 3))
    assert (plain.train.weight_decay, decayed.train.weight_decay) == (0.0, 0.0005)
    config = plain.config(0, "voc:cells", 292, image_size=128)
    assert (config.task, config.data.image_size, plain.image_size) == ("detection", 128, 600)


def test_the_large_networks_of_imagenet_have_half_the_rate_and_a_network_without_norms_a_tenth() -> None:
    of = table("repr/table5")
    rates = {row.model: arm_of(row, of).train.lr for row in of.trained()}
    assert rates == {
        "ResNet-18": 0.1,
        "ResNet-34": 0.1,
        "ResNet-50": 0.1,
        "ResNet-101": 0.05,
        "ResNet-152": 0.05,
        "VGG-16": 0.01,
        "Inception v1": 0.1,
    }


def test_a_warm_up_shrinks_with_the_schedule() -> None:
    of = table("repr/table7")
    assert [arm_of(of.row(1), of, scale).train.warmup_epochs for scale in (1.0, 0.1)] == [0.07, 0.007]
