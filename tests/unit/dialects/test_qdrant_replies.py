"""Refusals in the vendor's own form, and a server's answers read back into the model."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import orjson
import pytest
from qdrant_client import models

from proxy import errors
from proxy.dialects import Call
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.model import (
    Count,
    Counted,
    DataRead,
    Fetch,
    Hit,
    Hits,
    HitsBatch,
    Metric,
    Page,
    Point,
    Points,
    Result,
    Scroll,
    Search,
    SearchBatch,
    Selection,
    SparseVector,
)
from proxy.wire import Request, Response

REST_REQUEST, GRPC_REQUEST = (
    Request("http", "PUT", "/collections/docs/points"),
    Request("grpc", "", "/qdrant.Points/Upsert"),
)

REFUSED: list[tuple[errors.CrossfadeError, int, int, str]] = [
    (errors.CollectionNotFound("docs"), 404, 5, "Not found: Collection `docs` doesn't exist!"),
    (errors.CollectionExists("docs"), 409, 6, "Wrong input: Collection `docs` already exists!"),
    (errors.PointNotFound("Point with id 5 does not exists!"), 404, 5, "Not found: Point with id 5 does not exists!"),
    (errors.InvalidRequest("no such thing"), 400, 3, "Wrong input: no such thing"),
    (errors.InvalidRequest("Bad request: too many"), 400, 3, "Bad request: too many"),
    (errors.BodyTooLarge(1000), 400, 11, "JSON payload has exceeded limit (1000 bytes)."),
    (errors.NotServed("facets are not served here"), 501, 12, "facets are not served here"),
    (errors.Refused("Wrong input: no"), 400, 3, "Wrong input: no"),
    (errors.Untranslatable("geo radius"), 501, 12, "geo radius"),
    (errors.Unavailable("the store is down"), 502, 14, "the store is down"),
    (errors.Unclear("no answer in 30 s"), 504, 4, "Timeout: no answer in 30 s"),
    (errors.JournalError("the journal is full"), 503, 14, "the journal is full"),
    (errors.AppliedOnPrimaryOnly("late"), 500, 13, "Service internal error: late"),
    (errors.GateClosed("no"), 500, 13, "Service internal error: no"),
]


@pytest.mark.parametrize(("error", "status", "code", "text"), REFUSED)
def test_refusals(error: errors.CrossfadeError, status: int, code: int, text: str) -> None:
    response = QdrantRest().refuse(REST_REQUEST, error)
    assert response.status == status
    assert isinstance(response.body, bytes)
    assert orjson.loads(response.body) == {"status": {"error": text}, "time": 0.0}
    assert models.ErrorResponse.model_validate_json(response.body).status.error == text  # type: ignore[union-attr]
    response = QdrantGrpc().refuse(GRPC_REQUEST, error)
    assert (response.status, response.message, response.body) == (code, text, b"")


def test_a_key_that_is_not_accepted_is_refused_in_plain_text() -> None:
    response = QdrantRest().refuse(REST_REQUEST, errors.Unauthorized(""))
    assert response == Response(401, (("content-type", "text/plain; charset=utf-8"),), b"Invalid API key or JWT")
    response = QdrantGrpc().refuse(GRPC_REQUEST, errors.Unauthorized("Must provide an API key"))
    assert (response.status, response.message) == (16, "Must provide an API key")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(errors.Throttled("slow", 0.2), 429, 8), (errors.TryAgain("a flip is under way", 0.2), 503, 14)],
)
def test_when_to_come_back_is_told_in_whole_seconds(error: errors.CrossfadeError, status: int, code: int) -> None:
    response = QdrantRest().refuse(REST_REQUEST, error)
    assert (response.status, ("retry-after", "1") in response.headers) == (status, True)
    response = QdrantGrpc().refuse(GRPC_REQUEST, error)
    assert (response.status, ("retry-after", "1") in response.trailers) == (code, True)


def test_what_the_proxy_refuses_it_judges_itself_as_the_server_would() -> None:
    """The two tables of texts do not drift apart."""
    dialect = QdrantRest()
    call = dialect.decode(Request("http", "PUT", "/collections/docs/points", body=b'{"points": []}'))
    refused = dialect.refuse(call.request, errors.CollectionNotFound("docs"))
    assert dialect.judge(call, refused).outcome.value == "untouched"


# --- answers back into the model ----------------------------------------------------------

UUID_ID = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
ALL = Selection(payload=True, vectors=True)
VECTOR = np.array([0.1, -2], "<f4").tobytes()
FULL = Point(UUID_ID, {"a": VECTOR, "s": SparseVector((4,), VECTOR[:4])}, {"n": 1, "x": [1.5, None]})
SCORE = float(np.float32(0.3))
SEARCH = Search("docs", VECTOR, 5, selection=ALL)
FAR = Search("docs", VECTOR, 5, "far", selection=ALL)

READS: dict[str, tuple[DataRead, str, str, Result]] = {
    "query": (SEARCH, "points/query", "Points/Query", Hits(Metric.COSINE, (Hit(FULL, SCORE), Hit(Point(1), 0.25)))),
    "search": (SEARCH, "points/search", "Points/Search", Hits(Metric.DOT, (Hit(FULL, -SCORE),))),
    "distances": (FAR, "points/query", "Points/Query", Hits(Metric.EUCLID, (Hit(FULL, -SCORE), Hit(Point(1), -2.0)))),
    "batch": (
        SearchBatch("docs", (SEARCH, FAR)),
        "points/query/batch",
        "Points/QueryBatch",
        HitsBatch((Hits(Metric.MANHATTAN, (Hit(FULL, -SCORE),)), Hits(Metric.MANHATTAN, ()))),
    ),
    "fetch": (Fetch("docs", (1, UUID_ID), ALL), "points", "Points/Get", Points((Point(1), FULL))),
    "scroll": (Scroll("docs", 2, None, None, ALL), "points/scroll", "Points/Scroll", Page((Point(1), FULL), UUID_ID)),
    "last page": (Scroll("docs", 2, None, None, ALL), "points/scroll", "Points/Scroll", Page((FULL,), None)),
    "count": (Count("docs"), "points/count", "Points/Count", Counted(7)),
}


def metric_in(result: Result) -> Metric | None:
    match result:
        case Hits(metric=metric):
            return metric
        case HitsBatch(batches=batches):
            return batches[0].metric
        case _:
            return None


@pytest.mark.parametrize("name", list(READS))
def test_an_answer_read_back_is_the_result_encoded(name: str) -> None:
    read, path, method, result = READS[name]
    metric = metric_in(result)
    form = path.removeprefix("points/").split("/")[0]
    rest = Call(Request("http", "POST", f"/collections/docs/{path}"), read, form if form in ("query", "search") else "")
    assert QdrantRest().read_reply(rest, QdrantRest().encode(rest, result, 0.1), metric=metric) == result
    grpc = Call(Request("grpc", "", f"/qdrant.{method}"), read)
    assert QdrantGrpc().read_reply(grpc, QdrantGrpc().encode(grpc, result, 0.1), metric=metric) == result


def test_the_metric_is_asked_for_where_it_is_not_given() -> None:
    _, path, _, result = READS["distances"]
    call = Call(Request("http", "POST", f"/collections/docs/{path}"), FAR, "query")
    dialect = QdrantRest(lambda collection, using: Metric.EUCLID if using == "far" else None)
    assert dialect.read_reply(call, dialect.encode(call, result, 0.1)) == result


@pytest.mark.parametrize("body", [b"", b"{}", b'{"result": {"points": [{"id": "x"}]}}', b'{"result": 5}'])
def test_answers_that_make_no_sense(body: bytes) -> None:
    call = Call(Request("http", "POST", "/collections/docs/points/query"), SEARCH, "query")
    with pytest.raises(errors.InvalidRequest, match="malformed"):
        QdrantRest().read_reply(call, Response(200, body=body))


def test_answers_that_are_errors() -> None:
    call = Call(Request("http", "POST", "/collections/docs/points/query"), SEARCH, "query")
    with pytest.raises(errors.InvalidRequest, match="Not found: Collection"):
        QdrantRest().read_reply(call, QdrantRest().refuse(call.request, errors.CollectionNotFound("docs")))
    call = Call(Request("grpc", "", "/qdrant.Points/Query"), SEARCH)
    with pytest.raises(errors.InvalidRequest, match="Not found: Collection"):
        QdrantGrpc().read_reply(call, QdrantGrpc().refuse(call.request, errors.CollectionNotFound("docs")))
    with pytest.raises(errors.InvalidRequest, match="malformed"):
        QdrantGrpc().read_reply(call, Response(0, body=b"\xff\xff"))


def test_only_what_was_selected_is_shown() -> None:
    """Left out, and not null: as the server serializes it."""
    call = Call(Request("http", "POST", "/collections/docs/points"), Fetch("docs", (1,), Selection(payload=False)))
    assert QdrantRest().encode(call, Points((FULL,)), 0.5).body == (
        b'{"result":[{"id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}],"status":"ok","time":0.5}'
    )
    call = Call(call.request, Fetch("docs", (1,), ALL))
    assert QdrantRest().encode(call, Points((Point(1),)), 0.5).body == (
        b'{"result":[{"id":1,"payload":{},"vector":{}}],"status":"ok","time":0.5}'
    )


def test_numbers_are_shown_as_the_shortest_float32() -> None:
    hits = Hits(Metric.COSINE, (Hit(Point(1, {"": VECTOR}), 0.1),))
    call = Call(Request("http", "POST", "/collections/docs/points/search"), SEARCH, "search")
    assert QdrantRest().encode(call, hits, 0.5).body == (
        b'{"result":[{"id":1,"version":0,"score":0.1,"payload":{},"vector":[0.1,-2.0]}],"status":"ok","time":0.5}'
    )
