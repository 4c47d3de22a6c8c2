"""Field lines of HTTP/1.1: one line to (name, value), and the few names that this package itself acts on.

Contract: a line that is accepted is exactly `field-name ":" OWS field-value OWS` of RFC 9112, section 5, and the pair
that comes out can be written again without a check. Whatever else is refused, never repaired: white space before the
colon, a line that continues the one before (obs-fold, 5.2), a bare CR or LF, NUL and every other control character
but HTAB. RFC 9110, 5.5 lets a recipient replace some of these; a proxy that does so and its peer may then disagree
about where a message ends.

Rules of the file:

- Lines repeat from request to request, so a line is parsed once and remembered in `LINES`. The memo is bounded in
  entries and in the length of a line, and begins anew when it is full: a peer that sends lines of its own invention
  costs others a second parsing, no more. A line that is refused is not remembered.
- Python's own notion of white space and digits is wider than HTTP's (`bytes.strip()` takes \\v and \\f, `int` takes
  signs and underscores): nothing here calls them without saying which bytes are meant.
- Errors show names, positions and bytes of framing, never the value of any other field: it may be a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from proxy.errors import CrossfadeError

Field = tuple[bytes, bytes]  # the name in lower case, the value without the white space around it
Fields = tuple[Field, ...]

TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 9110, 5.6.2
# RFC 9110, 5.5, with the white space in between.
TEXT: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
OWS: Final = b" \t"

# For one connection only (RFC 9110, 7.6.1): a proxy drops them and says its own.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What a message's length, its receiver or its handling hang on cannot come after it (RFC 9110, 6.5.1).
NOT_IN_TRAILERS: Final = HOP_BY_HOP | {b"content-length", b"host", b"expect"}
# A peer cannot have these dropped by naming them in Connection: the next hop would read another message.
_KEPT: Final = frozenset({b"content-length", b"host"})
# The names that facts about a message are taken from.
_ACTED_ON: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"})

_MEMO_LINES: Final = 2048
_MEMO_LINE_BYTES: Final = 256
LINES: Final[dict[bytes, tuple[Field, bool]]] = {}  # what `parsed_line` gave; filled by `remembered_line` only


class Http1Error(CrossfadeError):
    """Bytes that are not HTTP/1.1, or are more than this program takes. `status` is what a server answers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def shown(value: bytes) -> str:
    """A value for an error's message, shortened."""
    return repr(value if len(value) <= 40 else value[:40] + b"...")


def first_of(odd: bytes, text: bytes) -> str:
    """Which byte it was that is not allowed, and where. `odd` are those of `text`, in order."""
    return f"byte 0x{odd[0]:02x} at {text.index(odd[:1])}"


def parsed_line(line: bytes) -> tuple[Field, bool]:
    """A field line without its CRLF; and whether its name is one that this package acts on. Raises Http1Error (400)."""
    name, colon, value = line.partition(b":")
    odd = name.translate(None, TOKEN)
    if odd or not name or not colon:
        raise _not_a_line(name, colon, odd)
    name = name.lower()
    value = value.strip(OWS)
    odd = value.translate(None, TEXT)
    if odd:
        raise Http1Error(400, f"the value of field {shown(name)} has {first_of(odd, value)}; expected visible text")
    return (name, value), name in _ACTED_ON


def _not_a_line(name: bytes, colon: bytes, odd: bytes) -> Http1Error:
    if name[:1] in (b" ", b"\t"):
        return Http1Error(400, "a field line begins with white space; expected a name (lines are not continued)")
    if not colon:
        return Http1Error(400, f"a field line of {len(name)} bytes has no colon; expected `name: value`")
    if not name:
        return Http1Error(400, "a field line begins with a colon; expected a name before it")
    return Http1Error(400, f"the field name {shown(name)} has {first_of(odd, name)}; expected a token")


def remembered_line(line: bytes) -> tuple[Field, bool]:
    """`parsed_line`, and from now on in `LINES` if it is not long. Look there first."""
    parsed = parsed_line(line)
    if len(line) <= _MEMO_LINE_BYTES:
        if len(LINES) >= _MEMO_LINES:
            LINES.clear()
        LINES[line] = parsed
    return parsed


@lru_cache(64)
def _dropped(options: frozenset[bytes]) -> frozenset[bytes]:
    return HOP_BY_HOP | (options - _KEPT)


def end_to_end(fields: Iterable[Field], options: frozenset[bytes] = frozenset()) -> list[Field]:
    """The fields that a proxy passes on. `options` are the words of the message's Connection field (`head.options`)."""
    dropped = _dropped(options) if len(options) <= 8 else _dropped.__wrapped__(options)
    return [field for field in fields if field[0] not in dropped]
