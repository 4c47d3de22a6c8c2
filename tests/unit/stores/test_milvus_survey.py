"""The survey of a collection's values: what was written is known at once, what was not is asked for once."""

from __future__ import annotations

import asyncio

from proxy.errors import Unavailable
from proxy.stores.milvus_survey import MAX_MARKS, Survey


async def test_a_new_collection_has_no_marks_but_those_written() -> None:
    survey = Survey(empty=True)
    survey.learn({"c:a"})
    assert survey.known({"c:a", "c:b"}) == {"c:a": True, "c:b": False}
    assert survey.still_absent({"c:b"})
    survey.learn({"c:b"})
    assert not survey.still_absent({"c:b"})


async def test_what_is_unknown_is_asked_for_once() -> None:
    survey, asked = Survey(empty=False), list[str]()

    async def probe(mark: str) -> bool:
        asked.append(mark)
        return mark == "c:a"

    await asyncio.gather(*(survey.ask({"c:a", "c:b"}, probe, 10) for _ in range(3)))
    await survey.ask({"c:a", "c:b"}, probe, 10)
    assert sorted(asked) == ["c:a", "c:b"]
    assert survey.known({"c:a", "c:b", "c:c"}) == {"c:a": True, "c:b": False}


async def test_a_slow_answer_is_not_waited_for_but_kept() -> None:
    survey, may_answer = Survey(empty=False), asyncio.Event()

    async def probe(mark: str) -> bool:
        await may_answer.wait()
        return False

    await survey.ask({"c:a"}, probe, 0)
    assert survey.known({"c:a"}) == {}
    may_answer.set()
    await survey.ask({"c:a"}, probe, 10)
    assert survey.known({"c:a"}) == {"c:a": False}


async def test_a_write_during_the_question_counts_more_than_its_answer() -> None:
    survey = Survey(empty=False)

    async def probe(mark: str) -> bool:
        survey.learn({mark})
        return False

    await survey.ask({"c:a"}, probe, 10)
    assert survey.known({"c:a"}) == {"c:a": True}


async def test_a_store_that_does_not_answer_leaves_it_unknown() -> None:
    survey = Survey(empty=False)

    async def down(mark: str) -> bool:
        raise Unavailable("down")

    async def up(mark: str) -> bool:
        return False

    await survey.ask({"c:a"}, down, 10)
    assert survey.known({"c:a"}) == {}
    await survey.ask({"c:a"}, up, 10)
    assert survey.known({"c:a"}) == {"c:a": False}


async def test_keys_that_are_data_are_not_remembered_for_ever() -> None:
    survey = Survey(empty=True)
    survey.learn(f"c:{number}" for number in range(MAX_MARKS + 1))
    assert survey.known({"c:never seen"}) == {"c:never seen": True}
