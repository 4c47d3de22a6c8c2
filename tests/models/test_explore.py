"""The explorer itself: what it finds, and when it says that it has found out nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

import pytest

from tests.models.explore import Model, ModelError, Step, check


class Jar(NamedTuple):
    litres: int
    sealed: bool = False


class Jars(Model[Jar]):
    """Pour one or two litres at a time, up to six, and seal the jar: only a full one ("short": any)."""

    name = "jars"
    about = "a jar"
    invariants = "-"
    rules: ClassVar = {"short": "only a full jar is sealed", "spilt": "a jar is never over-full"}
    happens = frozenset({"one", "two", "seal"})

    def starts(self, full: bool) -> Iterable[Jar]:
        yield Jar(0)

    def steps(self, state: Jar) -> Iterator[Step[Jar]]:
        if state.sealed:
            return
        for litres, label in ((1, "hand: one"), (2, "hand: two")):
            if state.litres + litres <= 6 or not self.keeps("spilt"):
                yield label, Jar(min(7, state.litres + litres))
        if state.litres == 6 or not self.keeps("short"):
            yield "seal", state._replace(sealed=True)

    def rests(self, state: Jar) -> bool:
        return state.sealed

    def wrong(self, state: Jar) -> str:
        return "sealed too early" if state.sealed and state.litres < 5 else ""


def test_a_model_that_holds_is_explored_to_the_end() -> None:
    result = check(Jars())
    assert (result.states, result.rests, result.wrong) == (8, 1, None)


def test_the_trace_is_a_shortest_one() -> None:
    wrong = check(Jars("short")).wrong
    assert wrong is not None
    assert [moment.label for moment in wrong.trace] == ["start", "seal"]
    assert "WRONG: sealed too early" in str(wrong)
    assert "sealed=yes" in str(wrong)


def test_a_state_that_cannot_come_to_rest_is_wrong() -> None:
    wrong = check(Jars("spilt")).wrong
    assert wrong is not None
    assert wrong.reason == "from here it can never come to rest"
    assert wrong.trace[-1].state == Jar(7)


def test_a_check_that_was_not_finished_is_no_pass() -> None:
    with pytest.raises(ModelError, match="more than 3 states"):
        check(Jars(), cap=3)


def test_a_step_that_never_happens_is_no_pass() -> None:
    class Idle(Jars):
        happens = Jars.happens | {"shake"}

    with pytest.raises(ModelError, match="shake"):
        check(Idle())


def test_a_model_that_never_rests_is_no_pass() -> None:
    class Open(Jars):
        def rests(self, state: Jar) -> bool:
            return False

        def starts(self, full: bool) -> Iterable[Jar]:
            return ()

    with pytest.raises(ModelError, match="nothing ever comes to rest"):
        check(Open())


def test_a_rule_has_to_exist_to_be_left_out() -> None:
    with pytest.raises(ValueError, match="no rule"):
        Jars("shaken")
