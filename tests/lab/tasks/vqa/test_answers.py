"""The official accuracy of answers, value by value, and against its rule written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtersmith.lab.tasks.vqa.answers import CONTRACTIONS, DIGITS, accuracy, by_type, normalise

TEN = ["red"] * 4 + ["dark red"] * 3 + ["pink"] * 2 + ["Rose!"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("yes", "yes"),
        ("Yes", "yes"),
        ("The dog", "dog"),
        ("a an the", ""),
        ("an apple, a pear", "apple pear"),
        ("theme", "theme"),
        ("two", "2"),
        ("None", "0"),
        ("zero to ten", "0 to 10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("isnt it", "isn't it"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("y'alld've", "y'all'd've"),
        ("let's", "let's"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),  # the table has it in capitals, and is asked in small letters
        ("red/white", "red white"),
        ("red / white", "red white"),
        ("t-shirt", "t shirt"),
        ("no - t-shirt", "no tshirt"),  # a space beside one of them, and both go
        ("half- and t-shirt", "half and tshirt"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),
        ("red,white", "red white"),
        ("red, white", "red white"),
        ("what?", "what"),
        ("it's", "it's"),
        ("5.5", "5.5"),
        ("5.", "5"),
        ("st. john", "st john"),
        ("e.g. this", "eg this"),
        ("." * 40, "." * 8),  # no more than 32 go, as in the official code
        ("10:30", "10:30"),
        (" two\twords\n", "2 words"),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_the_official_code_does(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


def test_the_tables_are_the_official_ones() -> None:
    assert len(CONTRACTIONS) == 120
    assert CONTRACTIONS["'ows'at"] == CONTRACTIONS["ow's'at"] == CONTRACTIONS["'ow'sat"] == "'ow's'at"
    assert CONTRACTIONS["oclock"] == "o'clock"
    assert CONTRACTIONS["twas"] == "'twas"
    assert [word for word, full in CONTRACTIONS.items() if word.count("'") >= full.count("'")] == [
        "let's",
        "she's",
        "somebody'd",
    ]
    assert sorted(map(int, DIGITS.values())) == [0, *range(11)]


@pytest.mark.parametrize(
    ("predicted", "answers", "expected"),
    [
        ("red", TEN, 1.0),
        ("dark red", TEN, 0.9),
        ("pink", TEN, 0.6),
        ("rose", TEN, 0.3),
        ("a Rose", TEN, 0.3),
        ("blue", TEN, 0.0),
        ("red", ["red"] * 10, 1.0),
        ("the red", ["red"] * 10, 0.0),  # all people agree: nothing is normalised
        ("T-shirt", ["T-shirt"] * 10, 1.0),
        ("t shirt", ["T-shirt"] * 9 + ["shirt"], 1.0),
        (" red\n", ["red "] * 10, 1.0),
        ("yes", ["yes"] * 3, 1.0),
        ("yes", ["yes", "yes", "no"], 2 / 3),
        ("yes", ["yes", "no", "no"], 1 / 3),
        ("yes", ["yes"], 1 / 3),
        ("yes", ["yes"] * 9, 1.0),
        ("2", ["two", "three", "Two"], 2 / 3),
    ],
)
def test_accuracy_of_one_answer(predicted: str, answers: list[str], expected: float) -> None:
    assert accuracy(predicted, answers) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.sampled_from(["a cat", "cat", "Cat.", "dog", "two", "2"]), min_size=10, max_size=10))
def test_accuracy_of_ten_answers_is_the_mean_over_those_without_one(people: list[str]) -> None:
    for predicted in ("cat", "a cat", "dog", "2", "two", "cow"):
        differ = len(set(people)) > 1
        others = [normalise(one) if differ else one for one in people]
        said = normalise(predicted) if differ else predicted
        without = [others[:place] + others[place + 1 :] for place in range(10)]
        mean = sum(min(1.0, rest.count(said) / 3) for rest in without) / 10
        assert accuracy(predicted, people) == pytest.approx(mean, abs=1e-12)


def test_accuracies_by_type_are_means_over_questions() -> None:
    people = [["yes"] * 10, ["no"] * 10, TEN, TEN, ["2"] * 3]
    kinds = ["yes/no", "yes/no", "other", "other", "number"]
    found = by_type(["yes", "yes", "dark red", "rose", "2"], people, kinds)
    assert list(found) == ["all", "number", "other", "yes/no"]
    assert found == pytest.approx({"all": 3.2 / 5, "number": 1.0, "other": 0.6, "yes/no": 0.5})


@pytest.mark.parametrize(
    ("predicted", "people", "kinds"), [([], [], []), (["a"], [["a"]], []), (["a", "b"], [["a"]], ["other"])]
)
def test_answers_and_questions_must_be_as_many(
    predicted: list[str], people: list[list[str]], kinds: list[str]
) -> None:
    with pytest.raises(ValueError, match="as many questions"):
        by_type(predicted, people, kinds)


def test_without_answers_nothing_is_right_or_wrong() -> None:
    with pytest.raises(ValueError, match="there are no answers"):
        accuracy("yes", [])
