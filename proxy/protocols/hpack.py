"""Field blocks of HTTP/2: decoding what a peer sends, encoding what we send (RFC 7541; and RFC 9113, 8.2).

Rules of the file:

- A peer is asked for a dynamic table of size 0. Until it has said yes (`limit_table`) its blocks may use the table;
  from then on a block means the same whenever and by whomever it is sent, and is remembered as a whole.
- Each literal is remembered by its bytes as well, name and value decoded and judged once: of a real client's ten fields
  one, `grpc-timeout`, changes from call to call.
- What is remembered is bounded, and forgotten all at once when it is full: whoever fills it only costs time.
- A block that cannot be decoded ends the connection, since the two tables may differ by now (`HpackError`). One that
  can be, and says what no field may say, is given with its `problem`: that is the stream's affair.
- We encode without a table and without Huffman coding, a field at a time, remembered too.

One thing is let through that RFC 9113 (8.2.1) forbids: white space at the ends of a value. gRPC's libraries send it,
and in HTTP/2 nothing is delimited by it.

Huffman coding and the static table are the library's (hpack).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, TypeVar

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from proxy.protocols.field_block import Field, FieldBlock, Judged

_T = TypeVar("_T")

_STATIC: Final[tuple[Field, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)  # counted from 1
_STATIC_FIELDS: Final = {field: index for index, field in reversed(list(enumerate(_STATIC)))}
_STATIC_NAMES: Final = {field[0]: index for index, field in reversed(list(enumerate(_STATIC)))}
_ENTRY_OVERHEAD_BYTES: Final = 32  # RFC 7541, 4.1
_DEFAULT_TABLE_BYTES: Final = 4096
_LONGEST_INTEGER: Final = 2**31
_LONGEST_LENGTH_DIGITS: Final = 18
_REMEMBERED: Final = 2048
_REMEMBERED_BLOCK_BYTES: Final = 1024
_REMEMBERED_FIELD_BYTES: Final = 512

# A field name without upper case (RFC 9110, 5.6.2; RFC 9113, 8.2.1).
_NAME_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_NEVER_IN_A_VALUE: Final[tuple[bytes, ...]] = (b"\r", b"\n", b"\0")
_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
# For no one's table on the way.
_SECRET: Final = frozenset({b"authorization", b"api-key", b"cookie", b"proxy-authorization"})


class HpackError(Exception):
    """A field block that cannot be decoded: the connection is lost."""


_literals: Final[dict[bytes, Judged]] = {}
_blocks: Final[dict[bytes, FieldBlock]] = {}
_encoded: Final[dict[Field, bytes]] = {}


# --- decoding ---------------------------------------------------------------------------------


class Decoder:
    """One direction of one connection. `max_block_bytes` bounds the decoded fields of a block, which a table can blow
    up far beyond its bytes."""

    def __init__(self, max_block_bytes: int) -> None:
        self._max_block_bytes = max_block_bytes
        self._table: deque[Judged] = deque()  # the newest first
        self._table_bytes = 0
        self._limit_bytes = _DEFAULT_TABLE_BYTES  # what we have allowed
        self._size_bytes = _DEFAULT_TABLE_BYTES  # what the peer uses of it

    def limit_table(self, size_bytes: int) -> None:
        """The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE."""
        self._limit_bytes = size_bytes
        if self._size_bytes > size_bytes:
            self._size_bytes = size_bytes
            self._evict(0)

    def decode(self, block: bytes) -> FieldBlock:
        """Raises HpackError."""
        if self._limit_bytes:
            return self._decode(block)
        known = _blocks.get(block)
        if known is None:
            known = self._decode(block)
            _remember(_blocks, block, known, _REMEMBERED_BLOCK_BYTES)
        elif known.size_bytes > self._max_block_bytes:
            raise HpackError(f"a block of more than {self._max_block_bytes} bytes of fields")
        return known

    def _decode(self, block: bytes) -> FieldBlock:
        fields: list[Field] = []
        size_bytes, problem = 0, ""
        at, end = 0, len(block)
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 0x7F)
                judged = self._entry(index)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise HpackError("a change of the table's size in the middle of a block")
                size, at = _integer(block, at, 0x1F)
                self._resize(size)
                continue
            else:
                keeps = bool(first & 0x40)
                judged, at = self._literal(block, at, 0x3F if keeps else 0x0F)
                if keeps:
                    self._keep(judged)
            fields.append(judged.field)
            size_bytes += judged.size_bytes
            if size_bytes > self._max_block_bytes:
                raise HpackError(f"a block of more than {self._max_block_bytes} bytes of fields")
            problem = problem or judged.problem
        return _block(tuple(fields), size_bytes, problem)

    def _literal(self, block: bytes, start: int, mask: int) -> tuple[Judged, int]:
        """The literal at `start`, whose index of a name (0 if it is spelled out) lies under `mask`."""
        index, at = _integer(block, start, mask)
        name_end = _string_end(block, at) if not index else at
        end = _string_end(block, name_end)
        if index >= len(_STATIC):  # its bytes mean something in this table only
            return _judged(self._entry(index).field[0], _string(block, at, end)), end
        key = block[start:end]
        judged = _literals.get(key)
        if judged is None:
            name = _STATIC[index][0] if index else _string(block, at, name_end)
            judged = _judged(name, _string(block, name_end, end))
            _remember(_literals, key, judged, _REMEMBERED_FIELD_BYTES)
        return judged, end

    def _entry(self, index: int) -> Judged:
        if 0 < index < len(_STATIC):
            return _STATIC_JUDGED[index]
        place = index - len(_STATIC)
        if index == 0 or place >= len(self._table):
            raise HpackError(f"index {index} of a table with {len(_STATIC) - 1 + len(self._table)} entries")
        return self._table[place]

    def _keep(self, judged: Judged) -> None:
        self._evict(judged.size_bytes)
        if judged.size_bytes <= self._size_bytes:  # a larger one only empties the table (RFC 7541, 4.4)
            self._table.appendleft(judged)
            self._table_bytes += judged.size_bytes

    def _resize(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise HpackError(f"a table of {size_bytes} bytes, where {self._limit_bytes} are allowed")
        self._size_bytes = size_bytes
        self._evict(0)

    def _evict(self, room_bytes: int) -> None:
        while self._table and self._table_bytes + room_bytes > self._size_bytes:
            self._table_bytes -= self._table.pop().size_bytes


def _block(fields: tuple[Field, ...], size_bytes: int, problem: str) -> FieldBlock:
    """What the fields say together (RFC 9113, 8.1.1 and 8.3)."""
    pseudo: dict[bytes, bytes] = {}
    hosts: list[bytes] = []
    lengths: set[bytes] = set()
    for place, (name, value) in enumerate(fields):
        if name[:1] == b":":
            if place != len(pseudo) or name in pseudo:
                problem = problem or f"{_shown(name)} comes twice, or after other fields"
            pseudo[name] = value
        elif name == b"content-length":
            lengths.add(value)
        elif name == b"host":
            hosts.append(value)
    authority = pseudo.get(b":authority", hosts[0] if hosts else None)
    if hosts and hosts != [authority]:
        problem = problem or f"the host {_shown(b', '.join(hosts))} (expected one, the same as :authority)"
    length: int | None = None
    if lengths:
        (text, *others) = lengths
        if others or not text.isdigit() or len(text) > _LONGEST_LENGTH_DIGITS:
            problem = problem or f"content-length {b', '.join(sorted(lengths))[:40]!r} (expected one number)"
        else:
            length = int(text)
    return FieldBlock(fields, size_bytes, problem, pseudo, authority, length)


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """The integer whose prefix lies under `mask` at `at`, and where it ends (RFC 7541, 5.1)."""
    try:
        value = block[at] & mask
        at += 1
        if value < mask:
            return value, at
        shift = 0
        while True:
            byte = block[at]
            at += 1
            value += (byte & 0x7F) << shift
            if value > _LONGEST_INTEGER or shift > 28:
                raise HpackError("an integer too large to mean anything")
            if not byte & 0x80:
                return value, at
            shift += 7
    except IndexError:
        raise HpackError("the block ends in the middle of an integer") from None


def _string_end(block: bytes, at: int) -> int:
    size, at = _integer(block, at, 0x7F)
    if at + size > len(block):
        raise HpackError(f"a string of {size} bytes, of which {len(block) - at} are there")
    return at + size


def _string(block: bytes, at: int, end: int) -> bytes:
    _, start = _integer(block, at, 0x7F)
    text = block[start:end]
    if not block[at] & 0x80:
        return text
    try:
        return decode_huffman(text)
    except HPACKDecodingError as error:
        raise HpackError(str(error)) from None


def _judged(name: bytes, value: bytes) -> Judged:
    return Judged((name, value), len(name) + len(value) + _ENTRY_OVERHEAD_BYTES, _problem(name, value))


def _problem(name: bytes, value: bytes) -> str:
    """Why no field of HTTP/2 may be so; "" if it may. (Which pseudo-fields there may be is the message's affair.)"""
    rest = name[1:] if name.startswith(b":") else name
    if not rest or rest.translate(None, _NAME_BYTES):
        return f"the field name {_shown(name)} (expected lower-case letters, digits and -)"
    for byte in _NEVER_IN_A_VALUE:
        if byte in value:
            return f"the value of {_shown(name)} holds {byte!r}"
    if name[:1] == b":" and not _may_be_said(name, value):
        return f"{_shown(name)} is {_shown(value)}"
    if name in _OF_THE_CONNECTION or (name == b"te" and value != b"trailers"):
        return f"the field {_shown(name)}: {_shown(value)} belongs to HTTP/1.1"
    return ""


def _may_be_said(pseudo: bytes, value: bytes) -> bool:
    """RFC 9113, 8.3; HTTP/1.1 takes these apart at spaces, so they hold none."""
    if pseudo == b":method":
        return bool(value) and not value.lower().translate(None, _NAME_BYTES)
    if pseudo == b":path" and value[:1] != b"/" and value != b"*":
        return False
    return not any(byte <= 0x20 or byte == 0x7F for byte in value)


def _shown(text: bytes) -> str:
    return repr(text[:40])[1:] + ("..." if len(text) > 40 else "")


def _remember(memo: dict[bytes, _T], key: bytes, value: _T, limit_bytes: int) -> None:
    if len(key) <= limit_bytes:
        if len(memo) >= _REMEMBERED:
            memo.clear()
        memo[key] = value


_STATIC_JUDGED: Final = tuple(_judged(*field) for field in _STATIC)


# --- encoding ---------------------------------------------------------------------------------

# The first block of a connection begins with it: our encoder's table has size 0, whatever the peer says and when.
NO_TABLE: Final = b"\x20"


def encode(fields: Iterable[Field]) -> bytes:
    """The field block of `fields`; one behind another is the block of both. Raises ValueError for a name or value that
    no field may have."""
    return b"".join([_encoded.get(field) or _encode_anew(field) for field in fields])


def _encode_anew(field: Field) -> bytes:
    encoded = _encode(*field)
    if len(encoded) <= _REMEMBERED_FIELD_BYTES:
        if len(_encoded) >= _REMEMBERED:
            _encoded.clear()
        _encoded[field] = encoded
    return encoded


def _encode(name: bytes, value: bytes) -> bytes:
    if problem := _problem(name, value):
        raise ValueError(f"not sent: {problem}")
    if index := _STATIC_FIELDS.get((name, value)):
        return _written_integer(index, 0x7F, 0x80)
    form = 0x10 if name in _SECRET else 0x00  # RFC 7541, 6.2.2 and 6.2.3
    if index := _STATIC_NAMES.get(name):
        return _written_integer(index, 0x0F, form) + _written_string(value)
    return bytes([form]) + _written_string(name) + _written_string(value)


def _written_string(text: bytes) -> bytes:
    return _written_integer(len(text), 0x7F, 0x00) + text


def _written_integer(value: int, mask: int, form: int) -> bytes:
    if value < mask:
        return bytes([form | value])
    written = bytearray([form | mask])
    value -= mask
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
