"""What every method owes its users: the checks of `filtersmith.testing`, for every registered method."""

from __future__ import annotations

import inspect

import pytest

import filtersmith as fs
from filtersmith import METHODS, testing
from filtersmith.methods.spelling import option_names


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, check: object) -> None:
    check(METHODS[name])  # type: ignore[operator]


@pytest.mark.parametrize("name", METHODS)
def test_our_own_records_are_public_and_tried(name: str) -> None:
    record = METHODS[name]
    assert getattr(fs, record.cls.__name__) is record.cls, "a public name"
    assert record.cls.__name__ in fs.__all__
    assert f"fs.{record.cls.__name__}" in record.card, "how it is called"
    takes_options = bool(option_names(name))
    assert bool(record.refused) == takes_options, "options that it refuses"
    assert bool(record.tried) == takes_options, "options with which it does something"
    assert bool(record.off) == (record.same_network and not hasattr(record.cls, "prepare"))
    with pytest.raises(AttributeError):
        record.name = "other"  # type: ignore[misc]


def test_the_checks_can_fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that does nothing, says nothing and refuses nothing."""

    class Nothing:
        """Does nothing."""

        def __init__(self, model: object, rate: float = 0.5) -> None: ...

    Nothing.__module__ = __name__
    record = fs.Method("nothing", "", "", Nothing, off={"rate": 1.0}, refused=({"rate": 2},))
    monkeypatch.setitem(METHODS._read(), "nothing", record)
    assert testing.main(["nothing"]) == 1
    said = capsys.readouterr().out
    for word in (
        "summary: it says nothing",
        "rate=2 was taken without an error",
        "it deploys what plain training does",
    ):
        assert word in said
    assert "nothing: switched off it is plain training: well" in said
    assert testing.main(["nothin"]) == 2
    assert "did you mean 'nothing'" in capsys.readouterr().err
    assert testing.main([]) == 2


def test_every_check_says_what_it_checks() -> None:
    assert all(inspect.getdoc(check) for check in testing.CHECKS)
