"""Payloads read from a message's bytes: they say what protobuf's own reading says, or leave it to that."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.proto_bytes import varint_of
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payload_wire import payload_in
from proxy.dialects.qdrant.payloads import fill_payload, payload_of_proto
from proxy.errors import InvalidRequest

IDS = [b"\x0a\x02\x08\x07", b"\x0a\x0b\x08" + varint_of(2**64 - 1), b"\x0a\x26\x12\x24" + b"0" * 36, b""]
PLAIN: list[dict[str, Any]] = [
    {},
    {"text": "a", "empty": "", "": "no name", "ü": "ü" * 200, "long " * 40: "x" * 20_000},
    {"zero": 0, "one": 1, "large": 2**63 - 1, "x": 0.5, "minus": -0.0, "tiny": 5e-324},
]
OTHER: list[dict[str, Any]] = [
    {"minus": -1, "least": -(2**63)},
    {"yes": True, "no": False, "nothing": None},
    {"list": [1, "two", [], {"three": [3.5, None]}], "object": {"a": {"b": {}}}, "none": [], "empty": {}},
]

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
payloads = st.dictionaries(st.text(), values, max_size=6)


def entries(payload: dict[str, Any]) -> bytes:
    point = proto.PointStruct()
    fill_payload(point.payload, payload)
    return bytes(point.SerializeToString())


def said(payload: Any) -> list[str]:
    """With the types of what is in it."""
    return sorted(f"{name!r}: {value!r}" for name, value in payload.items())


def oracle(point: bytes) -> list[str] | str:
    try:
        upsert = proto.UpsertPoints.FromString(b"\x1a" + varint_of(len(point)) + point)
        return said(payload_of_proto(upsert.points[0].payload))
    except DecodeError:
        return "no message"
    except InvalidRequest:
        return "refused"


def disagreement(point: bytes) -> str:
    """What is said otherwise than protobuf says it, if it is said at all."""
    found, expected = payload_in(point), oracle(point)
    return "" if found is None or said(found) == expected else f"{found!r}, and protobuf: {expected!r} of {point!r}"


@pytest.mark.parametrize("point_id", IDS)
@pytest.mark.parametrize("payload", [*PLAIN, *OTHER])
def test_what_libraries_write_is_read(payload: dict[str, Any], point_id: bytes) -> None:
    point = point_id + entries(payload)
    found = payload_in(point)
    assert found is not None or not point
    assert said(found or {}) == said(payload)
    assert not disagreement(point)


@given(payload=payloads)
def test_it_says_what_protobuf_says(payload: dict[str, Any]) -> None:
    assert not disagreement(IDS[0] + entries(payload))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_left_to_protobuf(number: float) -> None:
    """Which refuses it, unless another value of that name comes later."""
    alone = proto.Value(double_value=number)
    for value in (alone, proto.Value(list_value=proto.ListValue(values=[alone]))):
        wire = value.SerializeToString()
        first = entry(b"\x0a\x01a", b"\x12" + varint_of(len(wire)) + wire)
        assert payload_in(first) is None
        assert oracle(first) == "refused"
        assert payload_in(first + entry(b"\x0a\x01a", b"\x12\x02\x18\x01")) is None


def test_what_is_nested_too_deep_is_left_to_protobuf() -> None:
    """Which says no from some depth on, that counts from the outside."""
    told = []
    for levels in range(40, 60):
        value = b""
        for _ in range(levels):
            value = (
                b"\x3a"
                + varint_of(len(value) + 1 + len(varint_of(len(value))))
                + b"\x0a"
                + varint_of(len(value))
                + value
            )
        point = entry(b"\x0a\x01a", b"\x12" + varint_of(len(value)) + value)
        told.append((payload_in(point) is not None, oracle(point) != "no message"))
    assert told[0] == (True, True)
    assert told[-1] == (False, False)
    assert all(here == there for here, there in told)


def entry(*fields: bytes) -> bytes:
    content = b"".join(fields)
    return b"\x1a" + varint_of(len(content)) + content


@pytest.mark.parametrize(
    "point",
    [
        entry(b"\x12\x02\x18\x01", b"\x0a\x01a"),  # the value first
        entry(b"\x0a\x01a"),  # no value
        entry(b"\x12\x02\x18\x01"),  # no key
        entry(b"\x0a\x01a", b"\x12\x02\x18\x01", b"\x12\x02\x18\x02"),  # two values
        entry(b"\x0a\x01a", b"\x12\x04\x18\x01\x18\x02"),  # one that is said twice
        entry(b"\x0a\x01a", b"\x12\x05\x22\x01b\x18\x01"),  # first one kind, then another
        entry(b"\x0a\x01a", b"\x12\x02\x18\x01", b"\x18\x01"),  # a field that nobody knows
        entry(b"\x0a\x01\xff", b"\x12\x02\x18\x01"),  # not text
        entry(b"\x0a\x01a", b"\x12\x03\x22\x01\xff"),
        entry(b"\x0a\x01a", b"\x12\x03\x22\x05b"),  # longer than its message
        entry(b"\x0a\x01a", b"\x12\x02\x18\x80"),  # a number that does not end
        entry(b"\x0a\x01a", b"\x12\x02\x28\x80"),
        b"\x1a\x07\x0a\x01a\x12\x02\x18",  # cut short
        b"\x1a\x7f" + entry(b"\x0a\x01a", b"\x12\x02\x18\x01")[2:],
        b"\x20\x01" + entry(b"\x0a\x01a", b"\x12\x02\x18\x01"),  # another field
        b"\x1a",
        b"\x0a",
        b"\x0a\x05\x08",
        b"\x0a\x80\x01" + b"\0" * 127 + entry(b"\x0a\x01a", b"\x12\x02\x18\x01"),  # a long id
    ],
)
def test_whatever_else_is_left_to_protobuf(point: bytes) -> None:
    assert payload_in(point) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x08\x00",
        b"\x28\x01",
        b"\x28\x00",
        b"\x28\x02",
        b"\x28\x80\x00",
        b"\x28\x81\x00",
        b"\x28\x00\x28\x01",
        b"\x18\x81\x00",
        b"\x18" + b"\xff" * 9 + b"\x01",
        b"\x22\x00",
        b"\x30\x01",
    ],
)
def test_odd_forms_of_values(value: bytes) -> None:
    point = entry(b"\x0a\x01a", b"\x12" + varint_of(len(value)) + value)
    assert payload_in(point) is not None
    assert not disagreement(point)


def test_of_two_with_one_name_the_last_one_stays() -> None:
    point = entry(b"\x0a\x01a", b"\x12\x02\x18\x01") + entry(b"\x0a\x01a", b"\x12\x02\x18\x02")
    assert payload_in(point) == {"a": 2}
    assert not disagreement(point)


def test_it_never_says_more_of_damaged_ones() -> None:
    chance = random.Random(17)
    whole = [entries({**PLAIN[2], "t": "some text", "list": [1, {"a": "b"}]}), entries({"a": "x" * 130, "b": 300})]
    for _ in range(4000):
        damaged = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(damaged))
            match chance.randrange(3):
                case 0:
                    damaged[at] = chance.choice([0, 1, 0x0A, 0x12, 0x1A, 0x22, 0x18, 0x7F, 0x80, 0xFF, damaged[at] ^ 1])
                case 1:
                    del damaged[at]
                case _:
                    damaged.insert(at, chance.randrange(256))
        assert not disagreement(IDS[0] + bytes(damaged))
