"""What an answer to a write says about the state it left, for both transports."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from qdrant_client import grpc

from proxy.dialects import Call, Judgement, Outcome
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.model import (
    Batch,
    CollectionSpec,
    CreateAlias,
    CreateCollection,
    Delete,
    Ids,
    Match,
    OpaqueWrite,
    Operation,
    Point,
    UpdateAliases,
    Upsert,
    Where,
)
from proxy.wire import Request, Response

ONE = Upsert("docs", (Point(1),))
TWO = Upsert("docs", (Point(1), Point(2)))
BY_FILTER = Delete("docs", Where(Match("a", 1)))
UNKNOWABLE = OpaqueWrite("docs", None, "undecodable")
BATCH_OF_ONE = Batch("docs", (ONE,))
BATCH = Batch("docs", (ONE, Delete("docs", Ids((2,)))))
CREATE = CreateCollection("docs", CollectionSpec({}))
ALIASES = UpdateAliases((CreateAlias("a", "docs"),))

NO_COLLECTION = "Not found: Collection `docs` doesn't exist!"
NO_POINT = "Not found: No point with id 7 found"
DIMENSION = "Wrong input: Vector dimension error: expected dim: 4, got 3"
NO_NAME = "Wrong input: Not existing vector name error: title"
EXISTS = "Wrong input: Collection `docs` already exists!"
LIMITED = "Rate limiting exceeded: write operations"
NO_KEY = "Must provide an API key or an Authorization bearer token"
WRONG_KEY = "Invalid API key or JWT"
FORBIDDEN = "Forbidden: Write access to collection docs is required"
INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, DENIED, EXHAUSTED, INTERNAL, UNAUTHENTICATED = 3, 5, 6, 7, 8, 13, 16
UNTOUCHED, FAILED, UNKNOWN = Outcome.UNTOUCHED, Outcome.FAILED, Outcome.UNKNOWN

REFUSALS: list[tuple[Operation, int, int, str, Outcome]] = [
    (TWO, 404, NOT_FOUND, NO_COLLECTION, UNTOUCHED),
    (BATCH, 404, NOT_FOUND, NO_COLLECTION, UNTOUCHED),
    (ALIASES, 404, NOT_FOUND, NO_COLLECTION, FAILED),  # earlier actions of the request may have been carried out
    (TWO, 404, NOT_FOUND, NO_POINT, FAILED),
    (ONE, 404, NOT_FOUND, NO_POINT, FAILED),
    (TWO, 404, NOT_FOUND, "", FAILED),
    (ONE, 400, INVALID_ARGUMENT, DIMENSION, UNTOUCHED),
    (BATCH_OF_ONE, 400, INVALID_ARGUMENT, DIMENSION, UNTOUCHED),
    (TWO, 400, INVALID_ARGUMENT, DIMENSION, FAILED),
    (BATCH, 400, INVALID_ARGUMENT, DIMENSION, FAILED),
    (BY_FILTER, 400, INVALID_ARGUMENT, DIMENSION, FAILED),
    (UNKNOWABLE, 400, INVALID_ARGUMENT, DIMENSION, FAILED),
    (ONE, 400, INVALID_ARGUMENT, NO_NAME, UNTOUCHED),
    (TWO, 400, INVALID_ARGUMENT, NO_NAME, FAILED),
    (ONE, 429, EXHAUSTED, LIMITED, UNTOUCHED),
    (TWO, 429, EXHAUSTED, LIMITED, FAILED),
    (ONE, 429, EXHAUSTED, "slow down, says a gateway", FAILED),
    (ONE, 400, INVALID_ARGUMENT, "Wrong input: something new", FAILED),
    (ONE, 400, INVALID_ARGUMENT, f"1 out of 2 shards failed. First error captured: {DIMENSION}", FAILED),
    (TWO, 401, UNAUTHENTICATED, NO_KEY, UNTOUCHED),
    (BATCH, 401, UNAUTHENTICATED, WRONG_KEY, UNTOUCHED),
    (TWO, 401, UNAUTHENTICATED, "who are you, says a gateway", FAILED),
    (TWO, 403, DENIED, FORBIDDEN, UNTOUCHED),
    (BATCH, 403, DENIED, FORBIDDEN, FAILED),  # each part of a batch is checked when its turn comes
    (CREATE, 409, ALREADY_EXISTS, EXISTS, UNTOUCHED),
    (TWO, 409, ALREADY_EXISTS, EXISTS, FAILED),
    (TWO, 500, INTERNAL, "Service internal error: disk full", FAILED),
    (TWO, 500, INTERNAL, "Service internal error: 1 of 3 replicas: Timeout error: 60 s", UNKNOWN),
    (TWO, 500, INTERNAL, "Service internal error: operation timed out", UNKNOWN),
]


def http(operation: Operation, status: int, body: bytes) -> Judgement:
    return QdrantRest().judge(
        Call(Request("http", "PUT", "/collections/docs/points"), operation), Response(status, body=body)
    )


def called(operation: Operation, code: int, text: str, body: bytes = b"", method: str = "Points/Upsert") -> Judgement:
    call = Call(Request("grpc", "", f"/qdrant.{method}"), operation)
    return QdrantGrpc().judge(call, Response(code, body=body, message=text))


def error(text: str) -> bytes:
    return orjson.dumps({"status": {"error": text}, "time": 0.0})


@pytest.mark.parametrize(("operation", "status", "code", "text", "outcome"), REFUSALS)
def test_refusals(operation: Operation, status: int, code: int, text: str, outcome: Outcome) -> None:
    assert http(operation, status, error(text)) == Judgement(outcome)
    assert called(operation, code, text) == Judgement(outcome)


def test_authentication_answers_in_plain_text() -> None:
    assert http(TWO, 401, WRONG_KEY.encode()) == Judgement(UNTOUCHED)
    assert http(TWO, 401, b"<html>401</html>") == Judgement(FAILED)


@pytest.mark.parametrize(
    "text",
    [
        "Format error in JSON body: expected value at line 1 column 1",
        "Deserialize error in JSON body: missing field `id`",
        "Validation error in JSON body: [limit: value 0 invalid, must be 1 or larger]",
        "Validation error in path parameters: [collection_name: must be from 1 to 255 characters]",
    ],
)
def test_a_body_that_the_server_could_not_read(text: str) -> None:
    for operation in (UNKNOWABLE, TWO, BATCH):
        assert http(operation, 400, error(text)) == Judgement(UNTOUCHED)
    assert called(TWO, INVALID_ARGUMENT, "Validation error in body: [points: empty]") == Judgement(UNTOUCHED)


@pytest.mark.parametrize("status", [408, 499, 502, 503, 504, 520, 524])
def test_http_answers_after_which_a_write_may_still_land(status: int) -> None:
    for text in ("", NO_COLLECTION, DIMENSION):
        assert http(ONE, status, error(text)) == Judgement(UNKNOWN)


@pytest.mark.parametrize("code", [1, 2, 4, 14])
def test_grpc_answers_after_which_a_write_may_still_land(code: int) -> None:
    for text in ("", NO_COLLECTION, DIMENSION):
        assert called(ONE, code, text) == Judgement(UNKNOWN)


def test_a_message_that_the_server_could_not_read() -> None:
    undecoded = "failed to decode Protobuf message: UpsertPoints.timeout: invalid wire type"
    for operation, method in (
        (UNKNOWABLE, "Points/Upsert"),
        (UNKNOWABLE, "Points/UpdateBatch"),
        (TWO, "Points/Upsert"),
    ):
        assert called(operation, INTERNAL, undecoded, method=method) == Judgement(UNTOUCHED)
    of_a_peer = "Service internal error: failed to decode Protobuf message: points: invalid wire type"
    assert called(TWO, INTERNAL, of_a_peer) == Judgement(FAILED)


@pytest.mark.parametrize("text", ["Unable to parse UUID: one", "No ID options provided"])
def test_ids_that_the_server_could_not_read(text: str) -> None:
    """A batch is converted part by part, as it is carried out; one that is not decoded here is a batch as well."""
    assert called(UNKNOWABLE, INVALID_ARGUMENT, text) == Judgement(UNTOUCHED)
    assert called(UNKNOWABLE, INVALID_ARGUMENT, text, method="Points/UpdateBatch") == Judgement(FAILED)
    assert called(BATCH, INVALID_ARGUMENT, text) == Judgement(FAILED)
    assert called(UNKNOWABLE, DENIED, FORBIDDEN, method="Points/UpdateBatch") == Judgement(FAILED)


def test_a_request_of_an_unknown_kind_may_be_a_batch() -> None:
    unheard = OpaqueWrite("docs", None, "unknown endpoint")
    assert called(unheard, INVALID_ARGUMENT, "Unable to parse UUID: one", method="Points/Newer") == Judgement(FAILED)
    assert called(unheard, DENIED, FORBIDDEN, method="Points/Newer") == Judgement(FAILED)
    assert http(unheard, 403, error(FORBIDDEN)) == Judgement(FAILED)


def test_a_broken_stream_is_no_answer_of_the_server() -> None:
    assert called(ONE, INTERNAL, "Received RST_STREAM with error code 2") == Judgement(UNKNOWN)


def update(status: str) -> dict[str, Any]:
    return {"operation_id": 1, "status": status}


@pytest.mark.parametrize(
    ("result", "judgement"),
    [
        (update("completed"), Judgement(Outcome.ACCEPTED)),
        (update("acknowledged"), Judgement(Outcome.ACCEPTED, acknowledged=True)),
        (update("wait_timeout"), Judgement(Outcome.ACCEPTED, acknowledged=True)),
        (update("clock_rejected"), Judgement(FAILED)),
        ([update("completed"), update("completed")], Judgement(Outcome.ACCEPTED)),
        ([update("completed"), update("acknowledged")], Judgement(Outcome.ACCEPTED, acknowledged=True)),
        (True, Judgement(Outcome.ACCEPTED)),
        (False, Judgement(Outcome.ACCEPTED)),
    ],
)
def test_accepted_over_http(result: object, judgement: Judgement) -> None:
    assert http(TWO, 200, orjson.dumps({"result": result, "status": "ok", "time": 0.1})) == judgement


def test_success_without_a_word_is_not_yet_applied() -> None:
    assert http(TWO, 200, b"fine") == Judgement(Outcome.ACCEPTED, acknowledged=True)
    assert http(TWO, 202, error("")) == Judgement(Outcome.ACCEPTED, acknowledged=True)
    assert called(TWO, 0, "", b"\xff\xff") == Judgement(Outcome.ACCEPTED, acknowledged=True)


def test_accepted_over_grpc() -> None:
    def one(status: Any) -> bytes:
        return bytes(grpc.PointsOperationResponse(result=grpc.UpdateResult(status=status)).SerializeToString())

    assert called(TWO, 0, "", one(grpc.UpdateStatus.Completed)) == Judgement(Outcome.ACCEPTED)
    unknown = grpc.UpdateStatus.UnknownUpdateStatus
    for status in (grpc.UpdateStatus.Acknowledged, grpc.UpdateStatus.WaitTimeout, unknown):
        assert called(TWO, 0, "", one(status)) == Judgement(Outcome.ACCEPTED, acknowledged=True)
    assert called(TWO, 0, "", one(grpc.UpdateStatus.ClockRejected)) == Judgement(FAILED)
    parts = [
        grpc.UpdateResult(status=grpc.UpdateStatus.Completed),
        grpc.UpdateResult(status=grpc.UpdateStatus.Acknowledged),
    ]
    body = grpc.UpdateBatchResponse(result=parts).SerializeToString()
    judged = called(BATCH, 0, "", body, "Points/UpdateBatch")
    assert judged == Judgement(Outcome.ACCEPTED, acknowledged=True)
    made = grpc.CollectionOperationResponse(result=True).SerializeToString()
    assert called(CREATE, 0, "", made, "Collections/Create") == Judgement(Outcome.ACCEPTED)
