"""An unchanged application gets the same answers whether its reads are answered by its own database or by the other
vendor's: the same calls of the official client to the source itself, through the proxy at weight 0, and at weight 100.

Scores within 1e-5 (the source scores in its own float32 order of operations). For each call it is said who must have
answered: the secondary, or the primary with the reason that is counted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from tests.support.both_stores import assert_equal
from tests.support.migration import Migration, Migrations
from tests.support.qdrant_clients import assert_same

DIM = 8
POINTS = 60
_random = np.random.default_rng(7)
VECTORS = _random.normal(size=(POINTS, DIM)).astype(np.float32)
QUERY = [0.3, -0.2, 0.5, 0.1, 0.9, -0.4, 0.2, 0.7]


def _payload(number: int) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "n": number,
        "price": number * 1.5 + 0.25,
        "kind": ("book", "film", "song")[number % 3],
        "tags": [f"t{number % 4}", f"t{number % 7}"],
        "author": {"name": f"a{number % 5}", "born": 1900 + number, "address": {"city": f"city {number % 2}"}},
        "text": 'quotes " and \\ and ünïcödé',
    }
    if number % 2:
        payload["draft"] = number % 4 == 1
    if number % 10 == 3:
        payload["note"] = None
    if number % 10 == 4:
        payload["note"] = []
    if number % 10 == 5:
        payload["note"] = "some"
    return payload


@dataclass(frozen=True)
class Ask:
    """A call of the client, and who answers it at weight 100: "" is the secondary."""

    title: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    primary_because: str = ""


def _match(key: str, value: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _search(title: str, because: str = "", **arguments: Any) -> Ask:
    return Ask(title, "query_points", {"query": QUERY, "limit": 10, **arguments}, because)


def _filtered(title: str, because: str = "", **parts: Any) -> list[Ask]:
    """One filter in a search, a count and a scroll."""
    chosen = models.Filter(**parts)
    return [
        _search(f"search: {title}", because, query_filter=chosen, with_payload=True),
        Ask(f"count: {title}", "count", {"count_filter": chosen}, because),
        Ask(f"scroll: {title}", "scroll", {"scroll_filter": chosen, "limit": 100}, because),
    ]


ASKS = [
    _search("search"),
    _search("search with payload and vectors", with_payload=True, with_vectors=True),
    _search("search without payload", with_payload=False),
    _search("search with some payload fields", with_payload=["kind", "author.name"]),
    _search("search without some", with_payload=models.PayloadSelectorExclude(exclude=["author", "tags"])),
    _search("search from an offset", offset=5),
    _search("search with a score threshold", score_threshold=0.2),
    _search("search that asks for exactness", search_params=models.SearchParams(exact=True)),
    Ask(
        "several searches in one request",
        "query_batch_points",
        {
            "requests": [
                models.QueryRequest(query=QUERY, limit=3, with_payload=True),
                models.QueryRequest(query=[-x for x in QUERY], limit=5, filter=models.Filter(must=[_match("n", 4)])),
            ]
        },
    ),
    Ask("points by id", "retrieve", {"ids": [1, 5, 59, 1000]}),
    Ask("points by id with vectors", "retrieve", {"ids": [5, 1], "with_vectors": True, "with_payload": ["kind"]}),
    Ask("count", "count"),
    Ask("count, not exactly", "count", {"exact": False}),
    Ask("scroll", "scroll", {"limit": 100, "with_vectors": True}),
    *_filtered("match of text", must=[_match("kind", "film")]),
    *_filtered("match of a number", must=[_match("n", 7)]),
    *_filtered("match of a truth value", must=[_match("draft", True)]),
    *_filtered("match in an array", must=[_match("tags", "t3")]),
    *_filtered("match of a nested field", must=[_match("author.name", "a2")]),
    *_filtered("match two levels down", must=[_match("author.address.city", "city 1")]),
    *_filtered("match of text with quotes", must=[_match("text", 'quotes " and \\ and ünïcödé')]),
    *_filtered("any of", must=[models.FieldCondition(key="kind", match=models.MatchAny(any=["film", "song"]))]),
    *_filtered("any of, in an array", must=[models.FieldCondition(key="tags", match=models.MatchAny(any=["t1", "x"]))]),
    *_filtered("none of", must=[models.FieldCondition(key="kind", match=models.MatchExcept(**{"except": ["film"]}))]),
    *_filtered("a range", must=[models.FieldCondition(key="price", range=models.Range(gte=10, lt=40.5))]),
    *_filtered(
        "a range of a nested field",
        must=[models.FieldCondition(key="author.born", range=models.Range(gt=1910, lte=1930))],
    ),
    *_filtered("must not", must_not=[_match("kind", "film"), _match("draft", True)]),
    *_filtered("should", should=[_match("kind", "film"), _match("n", 4)]),
    *_filtered(
        "all kinds of clauses",
        must=[models.FieldCondition(key="n", range=models.Range(gte=5))],
        should=[_match("kind", "film"), _match("kind", "song")],
        must_not=[models.HasIdCondition(has_id=[10, 11, 12])],
    ),
    *_filtered(
        "some of several",
        min_should=models.MinShould(
            conditions=[_match("kind", "film"), _match("draft", True), _match("author.name", "a1")], min_count=2
        ),
    ),
    *_filtered("ids", must=[models.HasIdCondition(has_id=[1, 2, 3, 99])]),
    *_filtered("empty", must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="note"))]),
    *_filtered("null", must=[models.IsNullCondition(is_null=models.PayloadField(key="note"))]),
    *_filtered("what no point has", must=[_match("nothing", "nowhere")]),
    *_filtered(
        "number of values",
        "source: untranslatable: filter: values count",
        must=[models.FieldCondition(key="tags", values_count=models.ValuesCount(gte=2))],
    ),
    *_filtered(
        "nested objects",
        "source: untranslatable: filter: nested",
        must=[
            models.NestedCondition(
                nested=models.Nested(key="author", filter=models.Filter(must=[_match("name", "a1")]))
            )
        ],
    ),
]


@pytest.fixture(scope="module")
def migration(shared_migrations: Migrations) -> Migration:
    """Backfilled, policy `both`; the collection is made and loaded by the application itself."""
    migration = shared_migrations(writes={"policy": "both", "secondary_wait_ms": 10_000})
    client, name = migration.client(), migration.name("things")
    vectors = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    migration.direct().create_collection(name, vectors_config=vectors)
    points = [models.PointStruct(id=i, vector=VECTORS[i].tolist(), payload=_payload(i)) for i in range(POINTS)]
    client.upsert(name, points[:40])
    migration.backfill()
    client.upsert(name, points[40:])
    assert_equal(migration, name, POINTS)
    return migration


@dataclass(frozen=True)
class Clients:
    """The official client at the proxy and at the source, over one transport."""

    proxied: QdrantClient
    direct: QdrantClient


@pytest.fixture(scope="module", params=["rest", "grpc"])
def clients(request: pytest.FixtureRequest, migration: Migration) -> Clients:
    grpc = request.param == "grpc"
    return Clients(migration.client(grpc=grpc), migration.direct(grpc=grpc))


@pytest.fixture
def on_secondary(migration: Migration) -> Iterator[Migration]:
    migration.weight(100)
    yield migration
    migration.control.clear_weight("docs")


def _ask(client: Any, migration: Migration, ask: Ask) -> Any:
    return getattr(client, ask.method)(collection_name=migration.name("things"), **ask.arguments)


@pytest.mark.parametrize("ask", [pytest.param(ask, id=ask.title) for ask in ASKS])
def test_the_secondary_answers_as_the_source_does(on_secondary: Migration, clients: Clients, ask: Ask) -> None:
    with on_secondary.reads() as reads:
        found = _ask(clients.proxied, on_secondary, ask)
    assert_same(found, _ask(clients.direct, on_secondary, ask), ask.method)
    expected = (ask.primary_because, "primary") if ask.primary_because else ("weight 100 (operator)", "secondary")
    assert reads == {expected: 1}


def test_at_weight_0_the_source_answers(migration: Migration, clients: Clients) -> None:
    with migration.reads() as reads:
        for ask in ASKS:
            found = _ask(clients.proxied, migration, ask)
            assert_same(found, _ask(clients.direct, migration, ask), ask.title)
    assert reads == {("weight 0", "primary"): len(ASKS)}


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize("weight", [0, 100])
def test_the_async_client_gets_the_same_for_everything_at_once(migration: Migration, weight: int, grpc: bool) -> None:
    """All calls are under way together."""

    async def ask_all(client: AsyncQdrantClient) -> list[Any]:
        try:
            return await asyncio.gather(*(_ask(client, migration, ask) for ask in ASKS))
        finally:
            await client.close()

    async def ask_both() -> list[list[Any]]:
        options: dict[str, Any] = {"prefer_grpc": grpc, "timeout": 30, "check_compatibility": False}
        return [
            await ask_all(AsyncQdrantClient(url=where.url, grpc_port=where.grpc_port, **options))
            for where in (migration, migration.source)
        ]

    migration.weight(weight)
    with migration.reads() as reads:
        found, expected = asyncio.run(ask_both())
    migration.control.clear_weight("docs")
    for ask, one, other in zip(ASKS, found, expected, strict=True):
        assert_same(one, other, ask.title)
    by_secondary = sum(not ask.primary_because for ask in ASKS) if weight else 0
    assert sum(number for (_, store), number in reads.items() if store == "secondary") == by_secondary


@pytest.mark.parametrize("chosen", [None, models.Filter(must=[_match("kind", "song")])], ids=["all", "filtered"])
def test_a_scroll_to_the_end_is_answered_by_one_store(on_secondary: Migration, clients: Clients, chosen: Any) -> None:
    def pages(client: QdrantClient) -> Iterator[Any]:
        offset = None
        while True:
            records, offset = client.scroll(
                on_secondary.name("things"), scroll_filter=chosen, limit=7, offset=offset, with_vectors=True
            )
            yield records, offset
            if offset is None:
                return

    with on_secondary.reads() as reads:
        found = list(pages(clients.proxied))
    expected = list(pages(clients.direct))
    assert [following for _, following in found] == [following for _, following in expected]
    for (records, _), (expected_records, _) in zip(found, expected, strict=True):
        assert_same(records, expected_records, "scroll")
    assert reads == {("weight 100 (operator)", "secondary"): len(expected)}


def test_what_only_the_source_can_do_is_left_to_it_and_counted(on_secondary: Migration, clients: Clients) -> None:
    """The emulator does not offer a facet; what it says to that comes back unchanged."""
    before = on_secondary.counts("primary_only_reads")
    answers = []
    for client in (clients.proxied, clients.direct):
        with pytest.raises(Exception, match="not served by this emulator") as raised:
            client.facet(on_secondary.name("things"), key="kind")
        answers.append(getattr(raised.value, "content", None) or str(raised.value.details()))  # type: ignore[attr-defined]
    assert answers[0] == answers[1]
    assert on_secondary.counts("primary_only_reads") - before == {("facet",): 1}


def test_the_answer_says_who_gave_it_and_why(on_secondary: Migration) -> None:
    name = on_secondary.name("things")
    with httpx.Client(base_url=on_secondary.url) as http:
        count = http.post(f"/collections/{name}/points/count", json={})
        nested = {"filter": {"must": [{"key": "tags", "values_count": {"gt": 1}}]}}
        other = http.post(f"/collections/{name}/points/count", json=nested)
        described = http.get(f"/collections/{name}")
    assert count.headers["x-crossfade-route"] == "secondary; weight 100 (operator)"
    assert other.headers["x-crossfade-route"] == "primary; source: untranslatable: filter: values count"
    assert described.headers["x-crossfade-route"].startswith("primary; ")


@pytest.mark.parametrize("distance", [models.Distance.DOT, models.Distance.EUCLID], ids=["dot", "euclid"])
def test_every_metric_scores_as_the_source_does(
    on_secondary: Migration, clients: Clients, distance: models.Distance, request: pytest.FixtureRequest
) -> None:
    """A named vector, made and filled through the proxy. For Euclid a smaller number is better."""
    name = on_secondary.name(f"{distance.value.lower()}_{request.node.callspec.params['clients']}")
    clients.proxied.create_collection(name, vectors_config={"text": models.VectorParams(size=DIM, distance=distance)})
    points = [models.PointStruct(id=i, vector={"text": (3 * VECTORS[i]).tolist()}) for i in range(POINTS)]
    clients.proxied.upsert(name, points)
    assert_equal(on_secondary, name, POINTS)
    asked: list[dict[str, Any]] = [
        {"with_vectors": ["text"]},
        {"offset": 3, "with_vectors": True},
        {"score_threshold": 6.0 if distance is models.Distance.DOT else 4.5},
    ]
    found, expected, reads = _both(on_secondary, clients, name, "text", asked)
    assert 0 < len(expected[2].points) < 20
    assert_same(found, expected, "query_points")
    assert reads == {("weight 100 (operator)", "secondary"): 3}


@pytest.mark.skipif("FLOW_TARGET" in os.environ, reason="Milvus 2.3 has one vector a collection")
def test_each_of_several_vectors_is_searched(on_secondary: Migration, clients: Clients) -> None:
    name = on_secondary.name(f"several_{id(clients)}")
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    clients.proxied.create_collection(name, vectors_config={"text": params, "image": params})
    points = [
        models.PointStruct(id=i, vector={"text": VECTORS[i].tolist(), "image": VECTORS[-1 - i].tolist()})
        for i in range(POINTS)
    ]
    clients.proxied.upsert(name, points)
    assert_equal(on_secondary, name, POINTS)
    for using in ("text", "image"):
        asked: list[dict[str, Any]] = [{}, {"with_vectors": ["image"]}, {"with_vectors": True}]
        found, expected, reads = _both(on_secondary, clients, name, using, asked)
        assert_same(found, expected, "query_points")
        assert reads == {("weight 100 (operator)", "secondary"): 3}


def _both(
    migration: Migration, clients: Clients, name: str, using: str, asked: list[dict[str, Any]]
) -> tuple[list[Any], list[Any], Any]:
    """The proxy's answers, the source's, and who gave the proxy's."""
    with migration.reads() as reads:
        found = [clients.proxied.query_points(name, QUERY, using, limit=20, **each) for each in asked]
    return found, [clients.direct.query_points(name, QUERY, using, limit=20, **each) for each in asked], reads
