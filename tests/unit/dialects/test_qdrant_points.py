"""Ids, payloads and vectors: nothing is lost or invented between JSON, proto and the model."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc

from proxy.dialects.qdrant.ids import id_of_json, id_of_path, id_of_proto, json_of_id, proto_of_id
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payloads import fill_exact_payload, fill_payload, payload_of_proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import (
    dense_of_json,
    fill_vectors,
    json_of_vectors,
    vector_of_proto,
    vectors_of_json,
    vectors_of_proto,
)
from proxy.errors import InvalidRequest, Untranslatable
from proxy.model import Json, MultiVector, PointId, SparseVector, Vector

HYPHENATED = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

# --- ids ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [HYPHENATED, HYPHENATED.upper(), HYPHENATED.replace("-", ""), f"urn:uuid:{HYPHENATED}", f"{{{HYPHENATED}}}"],
)
def test_spellings_of_a_uuid(text: str) -> None:
    assert id_of_json(text) == UUID(HYPHENATED)
    assert id_of_proto(proto.PointId(uuid=text)) == UUID(HYPHENATED)
    assert id_of_path(text) == UUID(HYPHENATED)
    assert json_of_id(id_of_json(text)) == HYPHENATED


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True, None, "", "7", "six", HYPHENATED[:-1], [1], {}])
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(Undecodable):
        id_of_json(value)


def test_a_path_may_hold_a_number() -> None:
    assert id_of_path("18446744073709551615") == 2**64 - 1
    with pytest.raises(Undecodable):
        id_of_path("18446744073709551616")


@given(st.one_of(st.integers(0, 2**64 - 1), st.uuids()))
def test_ids_come_back(point_id: PointId) -> None:
    assert id_of_json(orjson.loads(orjson.dumps(json_of_id(point_id)))) == point_id
    theirs = grpc.PointId.FromString(proto_of_id(point_id).SerializeToString())
    assert id_of_proto(proto.PointId.FromString(theirs.SerializeToString())) == point_id


# --- payloads ----------------------------------------------------------------------------

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4)


def typed(value: object) -> object:
    """Tells 1 from 1.0 and from True."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value).__name__, struct.pack("<d", value) if isinstance(value, float) else value)


def payload_in(message: Any) -> dict[str, Json]:
    return payload_of_proto(proto.PointStruct.FromString(message.SerializeToString()).payload)


@given(PAYLOADS)
def test_payloads_come_back_with_their_types(payload: dict[str, Json]) -> None:
    message = proto.PointStruct()
    fill_exact_payload(message.payload, payload)
    assert typed(payload_in(grpc.PointStruct.FromString(message.SerializeToString()))) == typed(payload)


@given(PAYLOADS)
def test_payloads_read_as_the_client_wrote_them(payload: dict[str, Json]) -> None:
    assert typed(payload_in(grpc.PointStruct(payload=payload_to_grpc(payload)))) == typed(payload)


def test_a_value_without_a_kind_is_null() -> None:
    assert payload_in(grpc.PointStruct(payload={"a": grpc.Value()})) == {"a": None}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_payload_number_that_json_has_not(number: float) -> None:
    with pytest.raises(InvalidRequest, match="only finite numbers"):
        payload_in(grpc.PointStruct(payload={"a": grpc.Value(double_value=number)}))
    with pytest.raises(Untranslatable):
        fill_exact_payload(proto.PointStruct().payload, {"a": number})


def test_an_integer_beyond_int64_is_a_double_in_answers_and_refused_on_the_way_out() -> None:
    message = proto.PointStruct()
    fill_payload(message.payload, {"a": [2**63]})
    assert payload_in(message) == {"a": [float(2**63)]}
    with pytest.raises(Untranslatable):
        fill_exact_payload(proto.PointStruct().payload, {"a": {"b": [2**63]}})


# --- vectors -----------------------------------------------------------------------------

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def buffer(numbers: list[float]) -> bytes:
    return np.array(numbers, "<f4").tobytes()


BUFFERS = st.lists(FINITE, min_size=1, max_size=5).map(buffer)
VECTORS: st.SearchStrategy[Vector] = st.one_of(
    BUFFERS,
    st.dictionaries(st.integers(0, 2**32 - 1), FINITE, max_size=4).map(
        lambda entries: SparseVector(tuple(entries), buffer(list(entries.values())))
    ),
    st.lists(BUFFERS, min_size=1, max_size=3).map(lambda rows: MultiVector(tuple(rows))),
)
NAMED = st.dictionaries(st.text(min_size=1, max_size=4).filter(lambda name: name != "model"), VECTORS, max_size=3)
UNNAMED = st.one_of(BUFFERS, st.lists(BUFFERS, min_size=1, max_size=3).map(lambda rows: MultiVector(tuple(rows))))


@given(st.one_of(NAMED, UNNAMED.map(lambda vector: {"": vector})))
def test_vectors_come_back_bit_for_bit(vectors: dict[str, Vector]) -> None:
    text = orjson.dumps(json_of_vectors(vectors), option=orjson.OPT_SERIALIZE_NUMPY)
    assert vectors_of_json(orjson.loads(text)) == vectors
    message = proto.PointStruct()
    fill_vectors(message.vectors, vectors)
    theirs = grpc.PointStruct.FromString(message.SerializeToString())
    assert vectors_of_proto(proto.PointStruct.FromString(theirs.SerializeToString()).vectors) == vectors


def test_the_form_of_older_clients() -> None:
    flat = grpc.Vector(data=[1.0, 2.0])
    assert vector_of_proto(proto.Vector.FromString(flat.SerializeToString())) == buffer([1, 2])
    sparse = grpc.Vector(data=[0.5], indices=grpc.SparseIndices(data=[9]))
    assert vector_of_proto(proto.Vector.FromString(sparse.SerializeToString())) == SparseVector((9,), buffer([0.5]))
    multi = grpc.Vector(data=[1.0, 2.0, 3.0, 4.0], vectors_count=2)
    rows = MultiVector((buffer([1, 2]), buffer([3, 4])))
    assert vector_of_proto(proto.Vector.FromString(multi.SerializeToString())) == rows
    for uneven in (grpc.Vector(data=[1.0, 2.0], vectors_count=3), grpc.Vector(data=[1.0], vectors_count=0)):
        with pytest.raises(Undecodable):
            vector_of_proto(proto.Vector.FromString(uneven.SerializeToString()))


def test_numbers_that_travel_unpacked_are_read_too() -> None:
    """An encoder may send a repeated float one by one, or in several packed pieces."""
    one_by_one = b"".join(b"\x0d" + struct.pack("<f", number) for number in (1.0, 2.0))
    pieces = b"\x0a\x04" + struct.pack("<f", 1.0) + b"\x0a\x04" + struct.pack("<f", 2.0)
    for wire in (one_by_one, pieces):
        vector = proto.Vector(dense=proto.DenseVector.FromString(wire))
        assert vector_of_proto(vector) == buffer([1, 2])


def test_what_stands_around_the_numbers_is_no_number() -> None:
    number, unknown = b"\x0a\x04" + struct.pack("<f", 1.0), b"\x12\x04" + struct.pack("<f", 5.0)
    for wire, expected in ((number + unknown, [1.0]), (unknown + number, [1.0]), (unknown, []), (b"", [])):
        assert vector_of_proto(proto.Vector(dense=proto.DenseVector.FromString(wire))) == buffer(expected)


@pytest.mark.parametrize("numbers", [[1e39], [-1e39, 1.0]])
def test_a_number_too_large_for_32_bits_is_refused(numbers: list[float]) -> None:
    with pytest.raises(InvalidRequest, match="finite"):
        dense_of_json(numbers)


@pytest.mark.parametrize(
    "value", ["0.5", 5, None, ["1"], [True], [None], [[1.0], "x"], {"indices": [1], "values": []}, {"indices": [1]}]
)
def test_what_is_no_vector(value: object) -> None:
    with pytest.raises(Undecodable):
        vectors_of_json({"a": value})


@pytest.mark.parametrize(
    "inferred", [{"text": "t", "model": "m"}, {"image": "u", "model": "m"}, {"object": {}, "model": "m"}]
)
def test_what_the_server_would_infer(inferred: dict[str, Any]) -> None:
    for value in (inferred, {"name": inferred}):
        with pytest.raises(Undecodable, match="inference object"):
            vectors_of_json(value)


def test_the_clients_own_conversion_of_a_point_is_read() -> None:
    point = models.PointStruct(id=5, vector={"a": [0.25], "s": models.SparseVector(indices=[1], values=[3.0])})
    theirs = RestToGrpc.convert_point_struct(point)
    read = vectors_of_proto(proto.PointStruct.FromString(theirs.SerializeToString()).vectors)
    assert read == {"a": buffer([0.25]), "s": SparseVector((1,), buffer([3]))}
