"""gRPC's own forms: metadata, statuses, deadlines, messages."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BodyTooLarge
from proxy.protocols.grpc import (
    INTERNAL,
    UNIMPLEMENTED,
    MessageError,
    Metadata,
    Pieces,
    fields_of,
    framed,
    is_grpc,
    message_in,
    metadata_in,
    status_fields,
    timeout_in,
)

NAMES = st.sampled_from(["api-key", "x-a", "user-agent"])
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


def test_the_protocols_own_fields_are_no_metadata() -> None:
    fields = (
        (b":path", b"/a/B"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"1S"),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-accept-encoding", b"gzip"),
        (b"host", b"a"),
        (b"user-agent", b"grpc-go/1.60"),
        (b"api-key", b"caf\xc3\xa9"),
        (b"x-latin", b"caf\xe9"),
        (b"x-bin", b"AP8"),
        (b"x-bin", b"AA==,AQ"),
        (b"bad-bin", b"!"),
    )
    assert metadata_in(fields) == (
        ("user-agent", "grpc-go/1.60"),
        ("api-key", "café"),
        ("x-latin", "café"),
        ("x-bin", b"\x00\xff"),
        ("x-bin", b"\x00"),
        ("x-bin", b"\x01"),
        ("bad-bin", b"!"),
    )


@given(st.lists(st.tuples(NAMES, TEXTS) | st.tuples(st.sampled_from(["a-bin", "trace-bin"]), st.binary(max_size=9))))
def test_metadata_comes_through_as_it_went_in(pairs: list[tuple[str, str | bytes]]) -> None:
    metadata: Metadata = tuple(pairs)
    assert metadata_in(fields_of(metadata)) == metadata


@pytest.mark.parametrize(
    ("status", "message", "fields"),
    [
        (0, "", [(b"grpc-status", b"0")]),
        (5, "no such point", [(b"grpc-status", b"5"), (b"grpc-message", b"no such point")]),
        (3, "100 % ü\n", [(b"grpc-status", b"3"), (b"grpc-message", b"100 %25 %C3%BC%0A")]),
        (3, "~!/[]", [(b"grpc-status", b"3"), (b"grpc-message", b"~!/[]")]),
    ],
)
def test_a_status_is_told_with_its_message(status: int, message: str, fields: list[tuple[bytes, bytes]]) -> None:
    assert status_fields(status, message) == fields


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1S", 1.0),
        (b"2M", 120.0),
        (b"1H", 3600.0),
        (b"99999999m", 99999.999),
        (b"500u", 0.0005),
        (b"1n", 1e-9),
        (b"0S", 0.0),
        (b"", None),
        (b"S", None),
        (b"1", None),
        (b"1x", None),
        (b"+1S", None),
        (b"1_0S", None),
        (b"999999999S", None),
        ("1²S".encode("latin-1"), None),
    ],
)
def test_deadlines(text: bytes, seconds: float | None) -> None:
    assert timeout_in([(b"grpc-timeout", text)]) == (pytest.approx(seconds) if seconds is not None else None)
    assert timeout_in([]) is None


def test_many_values_in_one_are_left_as_they_are() -> None:
    """A few bytes on the way must not become thousands of entries."""
    assert len(metadata_in([(b"a-bin", b"AA," * 30 + b"AA")])) == 31
    assert metadata_in([(b"a-bin", b"," * 3900)]) == (("a-bin", b"," * 3900),)


def test_what_only_begins_like_a_field_of_the_protocol_is_metadata() -> None:
    assert metadata_in([(b"grpc-timeout-x", b"1"), (b"grpc-trace-bin", b"AA")]) == (
        ("grpc-timeout-x", "1"),
        ("grpc-trace-bin", b"\0"),
    )


@pytest.mark.parametrize(
    ("content_type", "is_so"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_content_types(content_type: bytes, is_so: bool) -> None:
    assert is_grpc(content_type) is is_so


def test_a_message_over_the_limit_is_refused_before_it_is_whole() -> None:
    bomb = gzip.compress(bytes(10_000_000), mtime=0)
    packed = b"\x01" + len(bomb).to_bytes(4) + bomb
    tracemalloc.start()
    with pytest.raises(BodyTooLarge):
        message_in(Pieces(packed), b"gzip", 1000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert message_in(Pieces(packed), b"gzip", 10_000_000) == bytes(10_000_000)
    with pytest.raises(BodyTooLarge):
        message_in(Pieces(packed), b"gzip", 9_999_999)
    with pytest.raises(BodyTooLarge):
        message_in(Pieces(framed(b"abc")), b"identity", 2)
    assert message_in(Pieces(framed(b"abc")), b"identity", 3) == b"abc"


@pytest.mark.parametrize("message", [b"", b"x", bytes(100_000)])
def test_a_message_is_framed_and_taken_out(message: bytes) -> None:
    assert message_in(Pieces(framed(message)), b"identity") == message
    for coding, packed in ((b"gzip", gzip.compress(message, mtime=0)), (b"deflate", zlib.compress(message))):
        assert message_in(Pieces(b"\x01" + len(packed).to_bytes(4) + packed), coding) == message
    assert message_in(Pieces(b"\x01" + framed(message)[1:]), b"identity") == message


@pytest.mark.parametrize(
    ("body", "coding", "status", "why"),
    [
        (b"", b"identity", INTERNAL, "this one has 0 bytes of one"),
        (b"\0\0\0\0", b"identity", INTERNAL, "this one has 4 bytes of one"),
        (b"\0\0\0\0\x02a", b"identity", INTERNAL, "the first has 2 bytes of 1"),
        (framed(b"a") + framed(b"b"), b"identity", INTERNAL, "the first has 1 bytes of 7"),
        (b"\x02\0\0\0\x01a", b"identity", INTERNAL, "a message begins with 2"),
        (b"\x01\0\0\0\x01a", b"br", UNIMPLEMENTED, "compressed with 'br' .accepted: identity, deflate, gzip"),
        (b"\x01\0\0\0\x01a", b"gzip", INTERNAL, "cannot be uncompressed"),
        (b"\x01\0\0\0\x14" + gzip.compress(b"abc" * 100, mtime=0)[:20], b"gzip", INTERNAL, "it ends too early"),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, coding: bytes, status: int, why: str) -> None:
    with pytest.raises(MessageError, match=why) as caught:
        message_in(Pieces(body), coding)
    assert caught.value.status == status


@given(st.lists(st.binary(max_size=2500), max_size=8), st.integers(0, 5))
def test_pieces_are_what_came(pieces: list[bytes], start: int) -> None:
    body = Pieces()
    for piece in pieces:
        body.add(piece)
    whole = b"".join(pieces)
    assert (body.size_bytes, body.joined(), body.joined(start)) == (len(whole), whole, whole[start:])


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3005), max_size=5))
def test_a_message_is_the_same_however_it_is_cut(message: bytes, cuts: list[int]) -> None:
    body = framed(message)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = Pieces()
    for start, end in pairwise(places):
        pieces.add(body[start:end])
    assert message_in(pieces, b"identity") == message


def test_small_pieces_take_as_many_bytes_as_they_have() -> None:
    body = Pieces()
    for number in range(100_000):
        body.add(bytes([number % 256]))
    assert len(body._all) == 2
    assert body.joined() == bytes(number % 256 for number in range(100_000))
