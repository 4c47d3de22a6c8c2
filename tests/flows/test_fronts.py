"""The seam of a front: what comes out of it as an answer and what as an exception, how answers are judged, names.

Over a real Milvus Lite, and over the reference store where the store's own behaviour is made to order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from examples.engines import MilvusLite
from proxy.dialects import Outcome
from proxy.dialects.milvus.schema import VectorIndex
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import CollectionNotFound, CrossfadeError, Unavailable, Unclear, Untranslatable
from proxy.fronts.names import NameMap
from proxy.fronts.qdrant import LocalFront, QdrantFront
from proxy.model import CollectionSpec, Counted, CreateCollection, Metric, Point, PointId, PrimaryOnlyRead, VectorSpec
from proxy.stores import WriteReport
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from proxy.wire import Request, Response
from tests.support.contract_points import floats
from tests.support.contract_stores import fresh_name

EUCLID = CollectionSpec({"": VectorSpec(2, Metric.EUCLID)})
PREFIXED = NameMap(lambda name: f"new_{name}", lambda name: name.removeprefix("new_") if name[:4] == "new_" else None)


def request(method: str, path: str, body: object = None) -> Request:
    path, _, query = path.partition("?")
    headers = (("content-type", "application/json"),)
    return Request("http", method, path, headers, b"" if body is None else orjson.dumps(body), query)


def said(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return orjson.loads(response.body)


def front_over(primary: EmulatedPrimary, names: NameMap | None = None) -> QdrantFront:
    return QdrantFront(primary, primary.metric_of, names=names or NameMap())


def point(number: int, **payload: object) -> dict[str, object]:
    return {"id": number, "vector": [float(number), 0.0], "payload": payload}


@pytest.fixture
async def milvus(milvus_lite: MilvusLite) -> AsyncIterator[EmulatedPrimary]:
    store = MilvusStore(milvus_lite.address, index=VectorIndex("FLAT"))
    yield EmulatedPrimary(store)
    await store.close()


@pytest.fixture
async def docs(milvus: EmulatedPrimary) -> AsyncIterator[str]:
    """A collection of five points with integer ids."""
    name = fresh_name()
    await milvus.define(CreateCollection(name, EUCLID))
    await milvus.upsert(name, [Point(n, {"": floats(n, 0)}, {"n": n}) for n in range(1, 6)])
    yield name
    await milvus.drop(name)


# --- what cannot be expressed ----------------------------------------------------------------------

GEO = {"must": [{"key": "at", "geo_radius": {"center": {"lon": 1, "lat": 1}, "radius": 5}}]}
INEXPRESSIBLE = {
    "a read by a filter": ("POST", "points/count", {"filter": GEO}, "filter: geo radius"),
    "a search by a filter": ("POST", "points/query", {"query": [1, 1], "filter": GEO}, "filter: geo radius"),
    "what the model cannot say": ("POST", "facet", {"key": "n"}, "facet"),
    "a write by a filter": ("POST", "points/delete?wait=true", {"filter": GEO}, "filter: geo radius"),
    "a write by a filter, not waited for": ("POST", "points/delete", {"filter": GEO}, "filter: geo radius"),
    "a batch": (
        "POST",
        "points/batch?wait=true",
        {"operations": [{"delete": {"points": [1]}}, {"delete": {"filter": GEO}}]},
        "filter: geo radius",
    ),
    "a definition": (
        "PUT",
        "../other",
        {"vectors": {"size": 4, "distance": "Manhattan"}},
        "metric manhattan",
    ),
}


@pytest.mark.parametrize("label", INEXPRESSIBLE)
async def test_what_cannot_be_expressed_comes_out_as_an_exception(
    milvus: EmulatedPrimary, docs: str, label: str
) -> None:
    method, path, body, reason = INEXPRESSIBLE[label]
    front = front_over(milvus)
    place = f"/collections/{path[3:]}" if path.startswith("../") else f"/collections/{docs}/{path}"
    asked = request(method, place, body)
    call = QdrantRest(milvus.metric_of).decode(asked)
    for attempt in (front.forward(asked), front.respond(call), front.answer(call)):
        with pytest.raises(Untranslatable) as caught:
            await attempt
        assert caught.value.reason == reason
    assert await milvus.count(docs) == 5  # nothing was changed
    told = await LocalFront(front).forward(asked)
    assert (told.status, said(told)["status"]["error"]) == (
        501,
        f"{reason}: not served by this milvus behind Crossfade's front",
    )


async def test_a_scroll_that_the_store_would_page_otherwise(milvus_lite: MilvusLite) -> None:
    """With ids as text the rows stand in the order of their text: 10 before 9. One page of all can be put in order."""
    store, name = MilvusStore(milvus_lite.address, ids="text", index=VectorIndex("FLAT")), fresh_name()
    primary = EmulatedPrimary(store)
    front = front_over(primary)
    await primary.define(CreateCollection(name, EUCLID))
    await primary.upsert(name, [Point(n, {"": floats(n, 0)}) for n in (9, 10, 100)])
    page = await front.forward(request("POST", f"/collections/{name}/points/scroll", {"limit": 3}))
    assert [each["id"] for each in said(page)["result"]["points"]] == [9, 10, 100]
    for body in ({"limit": 2}, {"limit": 5, "offset": 10}):
        with pytest.raises(Untranslatable, match="scroll order"):
            await front.forward(request("POST", f"/collections/{name}/points/scroll", body))
    await primary.drop(name)
    await store.close()


async def test_integers_are_paged_in_the_order_of_ids(milvus: EmulatedPrimary, docs: str) -> None:
    front, seen, offset = front_over(milvus), [], None
    while True:
        body = {"limit": 2} | ({} if offset is None else {"offset": offset})
        result = said(await front.forward(request("POST", f"/collections/{docs}/points/scroll", body)))["result"]
        seen += [each["id"] for each in result["points"]]
        if (offset := result["next_page_offset"]) is None:
            break
    assert seen == [1, 2, 3, 4, 5]


async def test_a_threshold_is_understood_before_the_collection_is_known(
    milvus: EmulatedPrimary, milvus_lite: MilvusLite, docs: str
) -> None:
    """A distance must be below it, a similarity above: a new process has to ask first which one the vector has."""
    store = MilvusStore(milvus_lite.address, index=VectorIndex("FLAT"))
    front = front_over(EmulatedPrimary(store))
    body = {"query": [1.0, 0.0], "score_threshold": 1.5, "limit": 10}
    found = said(await front.forward(request("POST", f"/collections/{docs}/points/query", body)))
    assert [(each["id"], each["score"]) for each in found["result"]["points"]] == [(1, 0.0), (2, 1.0)]
    await store.close()


# --- how writes are judged -------------------------------------------------------------------------


class Faulty(MemoryStore):
    """The reference store that fails in its second upsert, or refuses a point, if told so."""

    error: CrossfadeError | None = None
    upserts = 0

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        return {each.id: "too large" for each in points if each.id == 13}

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        self.upserts += 1
        if self.error is not None and self.upserts == 2:
            raise self.error
        return await super().upsert(collection, points, whole=whole)


@pytest.fixture
async def faulty() -> Faulty:
    store = Faulty()
    await store.create("docs", EUCLID)
    return store


async def judged(store: Faulty, asked: Request) -> tuple[int, Outcome, bool]:
    primary = EmulatedPrimary(store)
    dialect = QdrantRest(primary.metric_of)
    call = dialect.decode(asked)
    response = await front_over(primary).respond(call)
    judgement = dialect.judge(call, response)
    return response.status, judgement.outcome, judgement.acknowledged


async def test_answers_are_judged_as_a_server_s(faulty: Faulty) -> None:
    upsert, batch = "/collections/docs/points?wait=true", "/collections/docs/points/batch?wait=true"
    assert await judged(faulty, request("PUT", upsert, {"points": [point(1)]})) == (200, Outcome.ACCEPTED, False)
    assert await judged(faulty, request("PUT", upsert.replace("docs", "other"), {"points": [point(1)]})) == (
        404,
        Outcome.UNTOUCHED,
        False,
    )
    wrong = {"id": 2, "vector": [1.0]}
    assert await judged(faulty, request("PUT", upsert, {"points": [wrong]})) == (400, Outcome.UNTOUCHED, False)
    assert (await judged(faulty, request("PUT", upsert, {"points": [point(3), wrong]})))[:2] == (400, Outcome.FAILED)
    operations = [{"upsert": {"points": [point(4)]}}, {"set_payload": {"payload": {}, "points": [99]}}]
    assert (await judged(faulty, request("POST", batch, {"operations": operations})))[:2] == (404, Outcome.FAILED)
    assert (await faulty.scan("docs", None, 9)).points[-1].id == 4


async def test_a_part_that_was_applied_is_told_and_judged_so(faulty: Faulty) -> None:
    faulty.error = Unavailable("down")
    many = [point(number) for number in range(100, 1600)]
    asked = request("PUT", "/collections/docs/points?wait=true", {"points": many})
    assert (await judged(faulty, asked))[:2] == (400, Outcome.FAILED)
    assert await faulty.count("docs") == 1000


@pytest.mark.parametrize("error", [Unavailable("down"), Unclear("silent")])
async def test_a_store_that_fails_is_an_exception_as_of_a_forwarder(faulty: Faulty, error: CrossfadeError) -> None:
    faulty.error, faulty.upserts = error, 1
    asked = request("PUT", "/collections/docs/points?wait=true", {"points": [point(1)]})
    with pytest.raises(type(error)):
        await front_over(EmulatedPrimary(faulty)).forward(asked)


@pytest.mark.parametrize("wait", ["true", "false"])
async def test_a_point_that_the_store_cannot_hold_is_told_even_if_nobody_waits(faulty: Faulty, wait: str) -> None:
    asked = request("PUT", f"/collections/docs/points?wait={wait}", {"points": [point(1), point(13)]})
    answer = await front_over(EmulatedPrimary(faulty)).forward(asked)
    assert answer.status == 400
    assert said(answer)["status"]["error"] == (
        "Wrong input: memory cannot hold point 13: too large. Nothing was changed"
    )
    assert await faulty.count("docs") == 0


async def test_a_milvus_that_is_gone(tmp_path: Path) -> None:
    with MilvusLite(tmp_path) as engine:
        store = MilvusStore(engine.address)
        front = front_over(EmulatedPrimary(store))
        assert said(await front.forward(request("GET", "/collections")))["result"] == {"collections": []}
        engine.kill()
        with pytest.raises(Unavailable):
            await front.forward(request("PUT", "/collections/docs/points?wait=true", {"points": [point(1)]}))
        assert (await front.handle(request("GET", "/collections"))).status == 502
        await store.close()


# --- names -----------------------------------------------------------------------------------------


async def test_the_store_may_call_collections_otherwise() -> None:
    store = MemoryStore()
    await store.create("somebody's", EUCLID)
    front = front_over(EmulatedPrimary(store), PREFIXED)

    async def ask(method: str, path: str, body: object = None) -> Any:
        return said(await front.forward(request(method, path, body)))

    await ask("PUT", "/collections/docs", {"vectors": {"size": 2, "distance": "Euclid"}})
    assert await store.collections() == ("new_docs", "somebody's")
    assert (await ask("GET", "/collections"))["result"] == {"collections": [{"name": "docs"}]}

    create = {"create_alias": {"alias_name": "current", "collection_name": "docs"}}
    await ask("POST", "/collections/aliases", {"actions": [create]})
    assert await store.aliases() == {"new_current": "new_docs"}
    for place in ("/aliases", "/collections/docs/aliases"):
        assert (await ask("GET", place))["result"]["aliases"] == [{"alias_name": "current", "collection_name": "docs"}]

    operations = [{"upsert": {"points": [point(1, a=1), point(2)]}}, {"delete": {"points": [2]}}]
    await ask("POST", "/collections/current/points/batch?wait=true", {"operations": operations})
    assert (await ask("POST", "/collections/docs/points/count", {}))["result"] == {"count": 1}
    searches = {"searches": [{"query": [1.0, 0.0]}, {"query": [1.0, 0.0], "score_threshold": 1.0}]}
    found = (await ask("POST", "/collections/docs/points/query/batch", searches))["result"]
    assert [[hit["id"] for hit in each["points"]] for each in found] == [[1], [1]]
    assert (await ask("GET", "/collections/docs"))["result"]["points_count"] == 1
    assert (await ask("GET", "/collections/docs/exists"))["result"] == {"exists": True}

    assert await ask("GET", "/collections/nobody") | {"time": 0} == {
        "status": {"error": "Not found: Collection `nobody` doesn't exist!"},
        "time": 0,
    }
    exists = await ask("PUT", "/collections/docs", {"vectors": {"size": 2, "distance": "Euclid"}})
    assert exists["status"]["error"] == "Wrong input: Collection `docs` already exists!"
    rename = {"rename_alias": {"old_alias_name": "nobody", "new_alias_name": "x"}}
    missing = await ask("POST", "/collections/aliases", {"actions": [rename]})
    assert missing["status"]["error"] == "Not found: Alias nobody does not exists!"
    assert (await ask("DELETE", "/collections/docs"))["result"] is True
    assert (await ask("DELETE", "/collections/docs"))["result"] is False


@pytest.mark.parametrize("query", ["", "?consistency=majority"])
async def test_a_call_may_name_what_its_alias_stands_for(milvus: EmulatedPrimary, docs: str, query: str) -> None:
    """The alias is one that only the caller knows."""
    front, dialect = front_over(milvus), QdrantRest()
    body = {"query": [1.0, 0.0], "score_threshold": 1.5, "limit": 10}
    call = dialect.decode(request("POST", f"/collections/alias/points/query{query}", body))
    assert isinstance(call.operation, PrimaryOnlyRead)
    resolved = replace(call, operation=replace(call.operation, collection=docs))
    found = said(await front.respond(resolved))["result"]["points"]
    assert [hit["id"] for hit in found] == [1, 2]
    with pytest.raises(CollectionNotFound):
        await front.answer(call)


async def test_an_answer_is_the_model_s_own_value() -> None:
    store = MemoryStore()
    await store.create("new_docs", EUCLID)
    primary = EmulatedPrimary(store)
    front = front_over(primary, PREFIXED)
    dialect = QdrantRest(lambda collection, using: None)
    count = dialect.decode(request("POST", "/collections/docs/points/count", {}))
    assert await front.answer(count) == Counted(0)
    missing = dialect.decode(request("POST", "/collections/other/points/count", {}))
    with pytest.raises(CollectionNotFound) as caught:
        await front.answer(missing)
    assert caught.value.collection == "other"
