"""Whether two answers of Qdrants say the same: what may differ, and what must not be overlooked."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from proxy.dialects import Glance, Likeness
from proxy.dialects.proto_bytes import Field
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.likeness import likeness_of_json, likeness_of_proto, rest_outline
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.wire import Request

ALIKE, EMPTY, UNLIKE = Likeness.ALIKE, Likeness.EMPTY, Likeness.UNLIKE
QUERY, BATCH = "/qdrant.Points/Query", "/qdrant.Points/QueryBatch"


def hit(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "version": 7, "score": 0.5, "payload": {"n": 1}} | more


def answer(result: Any, time: float = 0.001, **more: Any) -> bytes:
    """In the order in which servers write it."""
    return json.dumps({"result": result, "status": "ok", **more, "time": time}, separators=(",", ":")).encode()


ONE = answer({"points": [hit()]})


class TestJson:
    def test_the_time_at_the_end_may_differ(self) -> None:
        for time in (0.001, 12.5, 1e-07, 0):
            assert likeness_of_json(ONE, answer({"points": [hit()]}, time)) is ALIKE

    @pytest.mark.parametrize("time_first", [True, False])
    def test_it_may_stand_anywhere_with_anything_around_it(self, time_first: bool) -> None:
        told = [("time", 3.5), ("status", "ok"), ("result", {"points": [hit()]}), ("usage", {"cpu": 1})]
        other = json.dumps(dict(told if time_first else told[::-1]), indent=1).encode()
        assert likeness_of_json(ONE, other) is ALIKE
        assert likeness_of_json(other, ONE) is ALIKE

    def test_versions_may_differ_and_so_may_the_order_of_keys(self) -> None:
        other = hit(version=99, payload={"b": 2, "n": 1})
        assert likeness_of_json(answer([hit(payload={"n": 1, "b": 2})]), answer([other], 0.5)) is ALIKE

    def test_a_message_that_comes_twice_counts_as_both(self) -> None:
        """As protobuf reads it; no server writes it so."""
        one, two, nothing = (proto.ScoredPoint(id=proto.PointId(**said)) for said in ({"num": 1}, {"num": 2}, {}))
        field = Field(proto.QueryResponse, "result")
        ours, theirs = (
            b"".join(field.each([each.SerializeToString() + nothing.SerializeToString()])) for each in (one, two)
        )
        assert likeness_of_proto(QUERY, ours, theirs) is UNLIKE
        assert likeness_of_proto(QUERY, ours, ours) is ALIKE

    def test_nothing_found_is_told_from_something(self) -> None:
        nothing: Any
        for nothing in ([], {"points": []}, [[], []], [{"points": []}]):
            assert likeness_of_json(answer(nothing), answer(nothing, 9.0)) is EMPTY
            assert likeness_of_json(answer(nothing), answer(nothing, 9.0, usage=None)) is EMPTY
        assert likeness_of_json(answer([]), answer([hit()])) is UNLIKE

    @pytest.mark.parametrize(
        "other",
        [
            hit(2),
            hit("1"),  # type: ignore[arg-type]
            hit(score=0.6),
            hit(payload={"n": 2}),
            hit(payload={"n": True}),
            hit(payload={"n": 1.0}),
            hit(payload=None),
            hit(payload={"n": 1, "time": 0.002}),
            hit(payload={"n": 1, "version": 8}),
            hit(vector=[0.1]),
        ],
    )
    def test_what_a_hit_says_may_not_differ(self, other: dict[str, Any]) -> None:
        for wrapped in ([other], {"points": [other]}, [{"points": [other]}], [[other]]):
            mine = json.loads(json.dumps(wrapped).replace(json.dumps(other), json.dumps(hit())))
            assert likeness_of_json(answer(mine), answer(wrapped, 0.002)) is UNLIKE

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"n": 1, "time": 1}, {"n": 1, "time": 2}),
            ({"t": ',"time":1}'}, {"t": ',"time":2}'}),
            ({"t": '\\","time":1}'}, {"t": '\\","time":2}'}),
            ({"version": 1, "score": 1, "id": 1}, {"version": 2, "score": 1, "id": 1}),
            ({"x": [{"id": 1, "version": 1, "score": 1}]}, {"x": [{"id": 1, "version": 2, "score": 1}]}),
            ({'a"version': 1}, {'a"version': 2}),
        ],
    )
    def test_a_payload_may_be_called_and_say_what_it_likes(self, one: Any, other: Any) -> None:
        assert likeness_of_json(answer([hit(payload=one)]), answer([hit(payload=other)])) is UNLIKE
        assert likeness_of_json(answer([hit(payload=one)]), answer([hit(payload=one)], 0.002)) is ALIKE

    def test_a_time_in_the_last_payload_is_not_that_of_the_answer(self) -> None:
        body = b'{"time":0.1,"result":[{"id":1,"version":1,"score":1,"payload":{"a":1,"time":%d}}]}'
        assert likeness_of_json(body % 1, body % 2) is UNLIKE
        bare = b'{"result":[{"id":1,"version":1,"score":1,"payload":{"a":1,"time":%d}'
        assert likeness_of_json(bare % 1, bare % 2) is UNLIKE  # cut off

    @pytest.mark.parametrize("end", range(1, len(ONE), 7))
    def test_what_is_cut_off_is_like_nothing(self, end: int) -> None:
        assert likeness_of_json(ONE[:-end], ONE) is UNLIKE
        assert likeness_of_json(ONE, ONE[:-end]) is UNLIKE
        assert likeness_of_json(ONE[:-end], ONE[:-end]) is UNLIKE

    @pytest.mark.parametrize(
        "no_answer", [b"", b"{}", b"[]", b"null", b'{"result":3}', b'{"result":[1]}', b"\xff", b"[" * 9999]
    )
    def test_what_is_no_answer_is_like_nothing(self, no_answer: bytes) -> None:
        assert likeness_of_json(no_answer, no_answer) is UNLIKE
        assert likeness_of_json(ONE, no_answer) is UNLIKE

    def test_what_is_compressed_is_like_nothing(self) -> None:
        assert likeness_of_json(gzip.compress(ONE), gzip.compress(ONE)) is UNLIKE


def found(*numbers: int, version: int = 7, score: float = 0.5, **payload: str) -> list[Any]:
    values = {name: proto.Value(string_value=value) for name, value in payload.items()}
    return [
        proto.ScoredPoint(id=proto.PointId(num=number), version=version, score=score, payload=values)
        for number in numbers
    ]


def reply(hits: list[Any], time: float = 0.25, **more: Any) -> bytes:
    return bytes(proto.QueryResponse(result=hits, time=time, **more).SerializeToString())


def _in_order(step: int, inner_step: int, changed: str = "") -> bytes:
    """An answer of two hits whose payloads stand in that order (1 or -1), something of the second one changed."""
    hits = [_hit(number, step, inner_step, changed if number == 2 else "") for number in (1, 2)]
    return b"".join(Field(proto.QueryResponse, "result").each(hits))


def _hit(number: int, step: int, inner_step: int, changed: str) -> bytes:
    def text(value: str) -> bytes:
        return bytes(proto.Value(string_value=value).SerializeToString())

    within = {"x": text("1"), "y": text("2" if changed == "within" else "3"), "z": text("4")}
    inner = b"".join(Field(proto.Struct, "fields").each(_entries(proto.Struct.FieldsEntry, within)[::inner_step]))
    payload = {
        "d" if changed == "key" else "a": text("2" if changed == "value" else "1"),
        "b": text("2"),
        "object": b"".join(Field(proto.Value, "struct_value").each([inner])),
        **({"more": text("")} if changed == "more" else {}),
    }
    if changed == "less":
        del payload["b"]
    rest = proto.ScoredPoint(
        id=proto.PointId(num=7 if changed == "id" else number),
        score=0.25 if changed == "score" else 0.5,
        version=step + 2,
        vectors=proto.VectorsOutput(vector=proto.VectorOutput(data=[1.0, 2.0 if changed == "vector" else 3.0])),
    )
    entries = _entries(proto.ScoredPoint.PayloadEntry, payload)[::step]
    return bytes(rest.SerializeToString()) + b"".join(Field(proto.ScoredPoint, "payload").each(entries))


def _entries(entry: Any, values: dict[str, bytes]) -> list[bytes]:
    key, value = Field(entry, "key"), Field(entry, "value")
    return [b"".join((*key.each([name.encode()]), *value.each([content]))) for name, content in values.items()]


class TestProto:
    def test_time_versions_and_usage_may_differ(self) -> None:
        one = reply(found(1, 2, a="x"))
        for other in (
            reply(found(1, 2, a="x"), 9.5),
            reply(found(1, 2, a="x"), 0.0),  # which is not sent
            reply(found(1, 2, a="x", version=300)),
            reply(found(1, 2, a="x"), usage=proto.Usage()),
        ):
            assert likeness_of_proto(QUERY, one, other) is ALIKE
            assert likeness_of_proto(QUERY, other, one) is ALIKE

    @pytest.mark.parametrize("inner_step", [1, -1])
    @pytest.mark.parametrize("changed", ["", "id", "score", "key", "value", "within", "vector", "more", "less"])
    def test_payloads_may_come_in_any_order(self, changed: str, inner_step: int) -> None:
        """As servers send them, and with vectors; and nothing else may."""
        one, other = _in_order(1, 1), _in_order(-1, inner_step, changed)
        assert one != other
        assert likeness_of_proto(QUERY, one, other) is (UNLIKE if changed else ALIKE)
        assert likeness_of_proto(QUERY, other, one) is (UNLIKE if changed else ALIKE)

    @pytest.mark.parametrize(
        "other", [found(2, a="x"), found(1, a="y"), found(1), found(1, a="x", score=0.6), found(1, 1, a="x"), []]
    )
    def test_what_was_found_may_not(self, other: list[Any]) -> None:
        assert likeness_of_proto(QUERY, reply(found(1, a="x")), reply(other)) is UNLIKE

    def test_nothing_found_is_told_from_something(self) -> None:
        assert likeness_of_proto(QUERY, reply([]), reply([], 2.0)) is EMPTY
        assert likeness_of_proto(QUERY, b"", b"") is EMPTY

    def test_what_looks_like_a_time_at_the_end_of_a_hit_is_none(self) -> None:
        """The last nine bytes of an answer without a time: a tag and eight bytes, but inside a hit."""
        ends = [reply(found(1, a="\x11" + text), 0.0) for text in ("aaaaaaaa", "aaaaaaab")]
        hits = [bytes(proto.QueryResponse.FromString(end).result[0].payload["a"].SerializeToString()) for end in ends]
        assert all(each[-9] == 0x11 for each in hits)
        moved = [_payload_last(text) for text in ("aaaaaaaa", "aaaaaaab")]
        assert all(each[-9] == 0x11 for each in moved)
        assert likeness_of_proto(QUERY, *moved) is UNLIKE

    def test_searches_in_a_batch(self) -> None:
        def batch(*results: list[Any], time: float = 0.5) -> bytes:
            answers = [proto.BatchResult(result=hits) for hits in results]
            return bytes(proto.QueryBatchResponse(result=answers, time=time).SerializeToString())

        one = batch(found(1, 2), found(3))
        assert likeness_of_proto(BATCH, one, batch(found(1, 2, version=8), found(3), time=3)) is ALIKE
        assert likeness_of_proto(BATCH, one, batch(found(1), found(2, 3))) is UNLIKE
        assert likeness_of_proto(BATCH, batch([], []), batch([], [], time=3)) is EMPTY

    def test_what_is_cut_off_or_no_message_is_like_nothing(self) -> None:
        one = reply(found(1, a="x"))
        for end in range(1, len(one)):
            assert likeness_of_proto(QUERY, one[:-end], one) is UNLIKE or one[:-end] == reply(found(1, a="x"), 0.0)
        assert likeness_of_proto(QUERY, gzip.compress(one), gzip.compress(one)[:-1]) is UNLIKE


def _payload_last(text: str) -> bytes:
    """An answer of one hit whose payload comes last, and no time."""
    value = bytes(proto.Value(string_value="\x11" + text).SerializeToString())
    entry = b"\x0a\x01a\x12" + bytes([len(value)]) + value
    hit_ = b"\x0a\x02\x10\x01" + b"\x12" + bytes([len(entry)]) + entry
    return b"\x0a" + bytes([len(hit_)]) + hit_


class TestOutline:
    def test_vectors_are_cut_out_and_nothing_else(self) -> None:
        for body, outline in (
            (b'{"query":[0.1,-2e5],"limit":3}', b'{"query":[],"limit":3}'),
            (b'{"query":[[1,2],[3]]}', b'{"query":[[],[]]}'),
            (b'{"a":{"any":["x",1]},"query":[1, 2]}', b'{"a":{"any":["x",1]},"query":[]}'),
            (b'{"f":{"must":[{"key":"k"}]},"query":[1]}', b'{"f":{"must":[{"key":"k"}]},"query":[]}'),
            (
                b'{"searches":[{"query":[1]},{"query":[2],"limit":1}]}',
                b'{"searches":[{"query":[]},{"query":[],"limit":1}]}',
            ),
            (b'{"query":3,"limit":3}', b'{"query":3,"limit":3}'),
            (b'{"query":[1', b'{"query":[1'),
            (b"", b""),
        ):
            assert rest_outline(body) == outline

    def test_over_grpc(self) -> None:
        def search(vector: list[float], limit: int) -> bytes:
            nearest = proto.VectorInput(dense=proto.DenseVector(data=vector))
            query = proto.QueryPoints(collection_name="c", query=proto.Query(nearest=nearest), limit=limit)
            return bytes(query.SerializeToString())

        dialect, asked = QdrantGrpc(), Request("grpc", "", QUERY)
        assert dialect.outline(asked, search([1, 2], 3)) == dialect.outline(asked, search([3], 3))
        assert dialect.outline(asked, search([1, 2], 3)) != dialect.outline(asked, search([1, 2], 4))
        by_id = proto.QueryPoints(query=proto.Query(nearest=proto.VectorInput(id=proto.PointId(num=1))))
        assert dialect.outline(asked, by_id.SerializeToString()) == by_id.SerializeToString()
        assert dialect.outline(asked, b"\xff") is None


class TestAlone:
    GLANCE = Glance("c", "search", "search")
    SHOWN = (("api-key", "secret"), ("authorization", "Bearer secret"), ("cookie", "secret"), ("x-any", "secret"))

    def test_nothing_of_the_client_is_left(self) -> None:
        request = Request("http", "POST", "/collections/c/points/query", self.SHOWN, b"body")
        alone = QdrantRest().alone(request, self.GLANCE, "c")
        assert alone is not None
        assert (alone.path, alone.query, alone.body) == (request.path, "", b"body")
        assert alone.headers == (("content-type", "application/json"),)
        call = Request("grpc", "", QUERY, self.SHOWN, b"body")
        there = QdrantGrpc().alone(call, self.GLANCE, "c")
        assert there is not None
        assert (there.path, there.headers, there.body) == (QUERY, (), b"body")

    def test_the_collection_goes_by_its_name_there(self) -> None:
        request = Request("http", "POST", "//collections/a%2Fb/points//query", (), b"")
        alone = QdrantRest().alone(request, self.GLANCE, "é/f")
        assert alone is not None
        assert alone.path == "/collections/%C3%A9%2Ff/points/query"
        assert QdrantGrpc().alone(Request("grpc", "", QUERY), self.GLANCE, "d") is None

    def test_a_query_may_say_anything(self) -> None:
        request = Request("http", "POST", "/collections/c/points/query", (), b"", query="api-key=secret")
        assert QdrantRest().alone(request, self.GLANCE, "c") is None
