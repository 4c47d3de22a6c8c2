"""What MilvusStore says of an upsert after which it found the collection made anew, in another shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from proxy.errors import AppliedInPart, CrossfadeError, Throttled, Unavailable, Unclear, Unstorable
from proxy.model import CollectionSpec, Metric, Point, PointId, VectorSpec
from proxy.stores import WriteReport
from proxy.stores.milvus import MilvusStore
from proxy.stores.write_steps import WriteSteps
from tests.support.contract_points import floats

ONE, TWO = Point(1, {"": floats(1.0)}), Point(2, {"": floats(1.0)})
SPEC = CollectionSpec({"": VectorSpec(1, Metric.DOT)})


class Writer:
    """Of a server that refuses the second point for what the adapter knows first, which itself refuses it for what it
    knows then."""

    def __init__(self, unfit_at_first: bool) -> None:
        self.unfit_at_first = unfit_at_first
        self.put: list[tuple[str, PointId]] = []

    async def upsert(self, known: str, points: Sequence[Point], whole: bool) -> WriteReport:
        refused: dict[PointId, str] = {2: "too new" if known == "renewed" else "too odd"}
        if whole and (known == "renewed" or self.unfit_at_first):
            return WriteReport(refused, put=False)
        self.put += [(known, point.id) for point in points if point.id not in refused]
        return WriteReport(refused)


class Collections:
    def __init__(self, renewed: Callable[[], str | None]) -> None:
        self._renewed = renewed

    async def get(self, _: str) -> str:
        return "known"

    async def renewed(self, _: str) -> str | None:
        return self._renewed()


@pytest.fixture
async def made() -> AsyncIterator[Callable[[Writer, Callable[[], str | None]], MilvusStore]]:
    store = MilvusStore("127.0.0.1:1")

    def make(writer: Writer, renewed: Callable[[], str | None]) -> MilvusStore:
        parts = cast(Any, store)
        parts._writer, parts._collections = writer, Collections(renewed)
        return store

    yield make
    await store.close()


async def outcome(store: MilvusStore) -> CrossfadeError:
    steps = WriteSteps(store, "docs", SPEC)
    steps._changed = {1: ONE, 2: TWO}
    steps._about = 2
    with pytest.raises(CrossfadeError) as caught:
        await steps._put()
    return caught.value


async def test_what_was_put_before_it_was_found_anew_is_told(made: Any) -> None:
    writer = Writer(unfit_at_first=False)
    told = await outcome(made(writer, lambda: "renewed"))
    assert isinstance(told, AppliedInPart)
    assert writer.put == [("known", 1), ("renewed", 1)]


async def test_nothing_is_put_if_it_is_unfit_for_both(made: Any) -> None:
    writer = Writer(unfit_at_first=True)
    told = await outcome(made(writer, lambda: "renewed"))
    assert isinstance(told, Unstorable)
    assert "too new" in str(told)
    assert not writer.put


@pytest.mark.parametrize("error", [Unavailable("away"), Throttled("later"), Unclear("silent")])
async def test_what_is_known_without_asking_is_said_while_nobody_answers(made: Any, error: CrossfadeError) -> None:
    def renewed() -> str | None:
        raise error

    told = await outcome(made(Writer(unfit_at_first=True), renewed))
    assert isinstance(told, Unstorable)
    assert "too odd" in str(told)
    told = await outcome(made(Writer(unfit_at_first=False), renewed))
    assert told is error or isinstance(told, type(error))
