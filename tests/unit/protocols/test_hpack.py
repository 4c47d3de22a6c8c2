"""Field blocks: what we decode and encode, beside the library hpack; and what no field may say."""

from __future__ import annotations

import hpack as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocols import hpack
from proxy.protocols.field_block import Field
from proxy.protocols.hpack import NO_TABLE, Decoder, HpackError, encode
from tests.support.form import written_only

LIMIT = 65_536
GRPC: list[Field] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/qdrant.Points/Search"),
    (b":authority", b"127.0.0.1:6334"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-python/1.78.2 grpc-c/51.0.0 (linux; chttp2)"),
    (b"grpc-timeout", b"4999m"),
    (b"api-key", b"s3cret"),
    (b"x-bin", bytes(range(32, 127)) * 2),
]
NAMES = st.sampled_from(
    [b":path", b":status", b"content-type", b"te", b"grpc-timeout", b"x-a", b"accept-encoding"]
) | st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=20).map(str.encode)
VALUES = st.sampled_from([b"", b"200", b"trailers", b"gzip, deflate"]) | st.binary(max_size=300)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    for memo in (hpack._blocks, hpack._literals, hpack._encoded):
        memo.clear()


def without_table() -> Decoder:
    decoder = Decoder(LIMIT)
    decoder.limit_table(0)
    return decoder


# --- beside the library ----------------------------------------------------------------------


@given(st.lists(FIELDS, max_size=5), st.booleans(), st.booleans())
def test_what_the_library_encodes_is_decoded_also_with_a_table(
    blocks: list[list[Field]], huffman: bool, has_table: bool
) -> None:
    encoder, decoder = oracle.Encoder(), Decoder(LIMIT)
    if not has_table:
        decoder.limit_table(0)
        encoder.header_table_size = 0
    for fields in blocks:
        assert decoder.decode(encoder.encode(fields, huffman=huffman)).fields == tuple(fields)


@given(st.lists(st.tuples(st.sampled_from([0, 40, 64, 100, 4096]), FIELDS), max_size=6))
def test_a_table_whose_size_changes_is_followed(blocks: list[tuple[int, list[Field]]]) -> None:
    encoder, decoder = oracle.Encoder(), Decoder(LIMIT)
    for size, fields in blocks:
        encoder.header_table_size = size
        assert decoder.decode(encoder.encode(fields)).fields == tuple(fields)


@given(st.lists(st.binary(max_size=40), max_size=4), st.booleans())
def test_bytes_of_any_kind_mean_the_same_or_are_refused(blocks: list[bytes], has_table: bool) -> None:
    """Whatever is decoded here the library decodes alike."""
    decoder, library = Decoder(LIMIT), oracle.Decoder(LIMIT)
    library.max_allowed_table_size = 4096
    if not has_table:
        decoder.limit_table(0)
        library.header_table_size = library.max_allowed_table_size = 0
    for block in blocks:
        try:
            found = decoder.decode(block)
        except HpackError:
            return
        assert found.fields == tuple(library.decode(block, raw=True))


@given(st.lists(st.tuples(st.sampled_from([b"x-a", b":status", b"te", b"api-key"]), st.text(max_size=200)), max_size=9))
def test_what_is_encoded_the_library_decodes(pairs: list[tuple[bytes, str]]) -> None:
    fields = [(name, value.encode()) for name, value in pairs if name != b"te"]
    allowed = [field for field in fields if not any(byte <= 0x20 or byte == 0x7F for byte in field[1])]
    assert oracle.Decoder().decode(NO_TABLE + encode(allowed), raw=True) == allowed


def test_a_first_block_tells_that_there_is_no_table() -> None:
    """Else a peer whose table is to shrink takes the block for a fault (RFC 7541, 4.2)."""
    library = oracle.Decoder()
    library.max_allowed_table_size = 100
    assert library.decode(NO_TABLE + encode(GRPC), raw=True) == GRPC


def test_secrets_go_into_nobodys_table() -> None:
    (field,) = oracle.Decoder().decode(encode([(b"api-key", b"s3cret")]), raw=True)
    assert not field.indexable


# --- what is remembered ------------------------------------------------------------------------


@written_only
def test_a_block_is_decoded_once_where_there_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    block = oracle.Encoder().encode([], huffman=False) + encode(GRPC)
    first = without_table().decode(block)
    monkeypatch.setattr(Decoder, "_decode", None)
    assert without_table().decode(block) is first


@written_only
def test_a_literal_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = oracle.Encoder()
    encoder.header_table_size = 0
    encoder.encode([])
    one, two = (encoder.encode([*GRPC, (b"grpc-timeout", timeout)]) for timeout in (b"1S", b"1S"))
    assert without_table().decode(one).fields == (*GRPC, (b"grpc-timeout", b"1S"))
    monkeypatch.setattr(hpack, "_judged", None)
    assert without_table()._decode(two).fields == (*GRPC, (b"grpc-timeout", b"1S"))


def test_blocks_that_refer_to_a_table_are_not_remembered() -> None:
    """The same bytes mean another thing on another connection."""
    one, two = Decoder(LIMIT), Decoder(LIMIT)
    keep = b"\x40\x01a\x01"
    one.decode(keep + b"1")
    two.decode(keep + b"2")
    assert one.decode(b"\xbe").fields == ((b"a", b"1"),)
    assert two.decode(b"\xbe").fields == ((b"a", b"2"),)
    named = b"\x0f\x2f\x01v"  # a literal whose name is entry 62
    assert one.decode(named).fields == ((b"a", b"v"),)
    one.decode(b"\x40\x01b\x011")
    assert one.decode(named).fields == ((b"b", b"v"),)


def test_what_is_remembered_is_bounded() -> None:
    decoder = without_table()
    for number in range(3 * hpack._REMEMBERED):
        decoder.decode(encode([(b"x-request-id", b"%d" % number)]))
    decoder.decode(encode([(b"x-large", b"x" * 2000)]))
    for memo in (hpack._blocks, hpack._literals, hpack._encoded):
        assert 0 < len(memo) <= hpack._REMEMBERED
        assert max(len(key) if isinstance(key, bytes) else len(key[1]) for key in memo) < 1100


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x80", "index 0"),
        (b"\xbe", "index 62 of a table with 61 entries"),
        (b"\xff\xff\xff\xff\xff\x0f", "too large"),
        (b"\xff\x80\x80\x80\x80\x80\x80\x00", "too large"),
        (b"\xff", "in the middle of an integer"),
        (b"\x40\x05abc", "a string of 5 bytes, of which 3 are there"),
        (b"\x40\x01a\x7f", "in the middle of an integer"),
        (b"\x40", "in the middle of an integer"),
        (b"\x88\x20", "in the middle of a block"),
        (b"\x3f\xe2\x1f", "a table of 4097 bytes, where 4096 are allowed"),
        (b"\x00\x01a\x81\xff", "Huffman"),  # padding of eight bits
        (b"\x00\x01a\x84\xff\xff\xff\xff", "Huffman"),  # the end of the string, spelled out
    ],
)
def test_what_cannot_be_decoded_is_refused(block: bytes, why: str) -> None:
    with pytest.raises(HpackError, match=why):
        Decoder(LIMIT).decode(block)


def test_no_table_is_used_once_the_peer_has_said_so() -> None:
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x40\x01a\x011")
    decoder.limit_table(0)
    with pytest.raises(HpackError, match="index 62"):
        decoder.decode(b"\xbe")
    with pytest.raises(HpackError, match="a table of 64 bytes, where 0 are allowed"):
        decoder.decode(b"\x3f\x21")
    assert decoder.decode(b"\x20\x40\x01a\x011").fields == ((b"a", b"1"),)  # kept by nobody
    with pytest.raises(HpackError, match="index 62"):
        decoder.decode(b"\xbe")


def test_a_table_does_not_blow_a_block_up_beyond_its_limit() -> None:
    """4 KiB that are named a thousand times."""
    decoder = Decoder(LIMIT)
    decoder.decode(b"\x40\x01a" + b"\x7f\x81\x1e" + b"x" * 3968)
    with pytest.raises(HpackError, match=f"more than {LIMIT} bytes"):
        decoder.decode(b"\xbe" * 1000)
    small = Decoder(100)
    small.limit_table(0)
    block = encode([(b"x-a", b"1" * 200)])
    without_table().decode(block)
    with pytest.raises(HpackError, match="more than 100 bytes"):
        small.decode(block)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([(b"Host", b"a")], "the field name 'Host'"),
        ([(b"", b"a")], "the field name ''"),
        ([(b":", b"a")], "the field name ':'"),
        ([(b"a b", b"a")], "the field name 'a b'"),
        ([(b"a:b", b"a")], "the field name 'a:b'"),
        ([(b"a\xe4", b"a")], "the field name"),
        ([(b"a", b"1\r\nb: 2")], "the value of 'a' holds"),
        ([(b"a", b"1\n")], "the value of 'a' holds"),
        ([(b"a", b"\0")], "the value of 'a' holds"),
        ([(b"connection", b"close")], "belongs to HTTP/1.1"),
        ([(b"transfer-encoding", b"chunked")], "belongs to HTTP/1.1"),
        ([(b"keep-alive", b"1")], "belongs to HTTP/1.1"),
        ([(b"upgrade", b"h2c")], "belongs to HTTP/1.1"),
        ([(b"proxy-connection", b"close")], "belongs to HTTP/1.1"),
        ([(b"te", b"gzip")], "belongs to HTTP/1.1"),
        ([(b"a", b"1"), (b":path", b"/")], "':path' comes twice, or after other fields"),
        ([(b":path", b"/"), (b":path", b"/")], "':path' comes twice, or after other fields"),
        ([(b":path", b"")], "':path' is ''"),
        ([(b":path", b"a")], "':path' is 'a'"),
        ([(b":path", b"/a b")], "':path' is '/a b'"),
        ([(b":path", b"\t/")], "':path' is"),
        ([(b":method", b"")], "':method' is ''"),
        ([(b":method", b"GET /")], "':method' is 'GET /'"),
        ([(b":authority", b"a b")], "':authority' is 'a b'"),
        ([(b":scheme", b"http\x7f")], "':scheme' is"),
        ([(b":authority", b"a"), (b"host", b"b")], "the host 'b' (expected one, the same as :authority)"),
        ([(b"host", b"a"), (b"host", b"a")], "the host 'a, a' (expected one, the same as :authority)"),
        ([(b"content-length", b"1"), (b"content-length", b"2")], "content-length"),
        ([(b"content-length", b"+1")], "content-length"),
        ([(b"content-length", b"1_0")], "content-length"),
        ([(b"content-length", b"")], "content-length"),
        ([(b"content-length", b"9" * 19)], "content-length"),
    ],
)
def test_what_no_field_may_say_is_told(fields: list[Field], problem: str) -> None:
    assert problem in Decoder(LIMIT).decode(oracle.Encoder().encode(fields)).problem
    assert problem in without_table().decode(_plain(fields)).problem


@pytest.mark.parametrize(
    "fields",
    [GRPC, [(b"te", b"trailers")], [(b"a", b" 1 ")], [(b"a", b"\xe4\x80")], [(b"content-length", b"3")] * 2],
)
def test_what_a_field_may_say_is_let_through(fields: list[Field]) -> None:
    block = without_table().decode(_plain(fields))
    assert (block.problem, block.fields) == ("", tuple(fields))


def test_what_the_fields_say_together_is_given() -> None:
    block = without_table().decode(_plain([*GRPC, (b"content-length", b"12")]))
    assert block.pseudo == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/qdrant.Points/Search",
        b":authority": b"127.0.0.1:6334",
    }
    assert (block.content_length, block.authority) == (12, b"127.0.0.1:6334")
    assert without_table().decode(_plain([(b"host", b"a")])).authority == b"a"
    assert block.size_bytes == sum(len(name) + len(value) + 32 for name, value in block.fields)


@pytest.mark.parametrize("field", [(b"A", b"1"), (b"a", b"1\r\n"), (b"connection", b"close"), (b"", b"")])
def test_what_no_field_may_say_is_not_sent(field: Field) -> None:
    with pytest.raises(ValueError, match="not sent"):
        encode([field])


def _plain(fields: list[Field]) -> bytes:
    """Spelled out: no index, no Huffman coding."""
    return b"".join(b"\x00" + hpack._written_string(name) + hpack._written_string(value) for name, value in fields)
