"""HTTP/1.1 messages out of bytes: a reader of requests (server) and a reader of responses (client).

Contract: `feed` takes what a socket gave and returns what it meant, in order:

    head, payload, payload, ..., End(trailers)          payload is `bytes`, never empty
    Malformed(status, reason)                           the last event there is

A server answers a Malformed with its status and closes; a client closes. Events do not depend on how the bytes were
cut, but for the cuts between payloads. Nothing is ever raised for what a peer sends.

Rules of the file:

- A reader of requests stops at the end of one and holds what came behind it: the caller says when the next one is read
  (`resume`), and pauses the socket until then. So nobody is read ahead of, and pipelined requests wait. Behind a
  response there is nothing to come unless it was asked for (`expect`).
- Payload is decoded: chunked bodies come without their chunks, at most one piece per `feed`, and who passes them on
  frames them anew (`http1_write.chunk`). Passing on the raw bytes would be no less work, and would hand the next
  server the peer's own framing, extensions and all, for a second opinion on where the message ends (RFC 9112, 7.1.1
  and 11.2). Every other body is passed through as it came: a read that is all body is the very object that was fed.
- A head is looked for once, parsed as a whole and never rescanned. What cannot become one is refused early: a first
  byte that begins no token, a bare LF, a line or a head over its limit (`Limits`).
- Heads come again, byte for byte: one that was parsed is remembered (in bounds), and a read that is nothing but such a
  head and its body is known as such at once (`whole`). What a head hangs on besides its bytes is in the key.
- One empty line before a request is ignored (RFC 9112, 2.2); a second is not.
- Only whole lines ended by CRLF count (2.2 would let a bare LF pass).
- What comes behind a head that hands the connection over (101, 2xx to CONNECT) is held, and given away by `rest`.

Deliberately elsewhere: sockets, time-outs, which answer to give, whether to close. Writing is `http1_write`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

from proxy.protocols.http1_body import ChunkedBody, Limits, check_line_ends
from proxy.protocols.http1_fields import TOKEN, Fields, Http1Error, shown
from proxy.protocols.http1_head import RequestHead, ResponseHead, line_too_long, request_head, response_head


class End(NamedTuple):
    """The end of a message, and the fields that came behind a chunked body."""

    trailers: Fields = ()


class Malformed(NamedTuple):
    """The peer's bytes are no HTTP/1.1, or too many. status: what a server answers; a client's is always 502."""

    status: int
    reason: str


Head = TypeVar("Head", RequestHead, ResponseHead)
RequestEvent = RequestHead | bytes | End | Malformed
ResponseEvent = ResponseHead | bytes | End | Malformed

_END: Final = End()
_LIMITS: Final = Limits()
_TOKEN: Final = frozenset(TOKEN)
_MEMO_HEADS: Final = 1024
_MEMO_HEAD_BYTES: Final = 2048
# By their bytes: requests that `RequestReader.whole` can take, and responses to methods that do not change what a head
# means.
_requests: Final[dict[bytes, RequestHead]] = {}
_responses: Final[dict[bytes, ResponseHead]] = {}


_MEANING: Final = frozenset({b"HEAD", b"CONNECT"})  # a response's head means something else after these


class _Stage(Enum):
    """Where a reader stands. AT_END is left by the caller only, OVER by nobody."""

    HEAD = "head"
    SIZED = "body of a known length"
    CHUNKED = "chunked body"
    UNTIL_CLOSE = "body that ends with the connection"
    AT_END = "at the end of a message"
    OVER = "over"


# By name: to look up an Enum's member costs as much as to parse a field line.
_HEAD: Final = _Stage.HEAD
_SIZED: Final = _Stage.SIZED
_CHUNKED: Final = _Stage.CHUNKED
_UNTIL_CLOSE: Final = _Stage.UNTIL_CLOSE
_AT_END: Final = _Stage.AT_END
_OVER: Final = _Stage.OVER


class _Reader(Generic[Head]):
    """What both roles share: what is held, where a head ends, how long a body is."""

    __slots__ = ("_at", "_chunks", "_first_line", "_held", "_left", "_limits", "_scanned", "_stage")

    def __init__(self, stage: _Stage, limits: Limits) -> None:
        self._limits = limits
        self._stage = stage
        self._held: bytes | bytearray = b""  # what is not read yet begins at _at
        self._at = 0
        self._scanned = 0  # how far an incomplete head was looked at
        self._first_line = False  # whether that was past its first line
        self._left = 0  # of a body of a known length
        self._chunks: ChunkedBody | None = None

    @property
    def at_end(self) -> bool:
        """Whether the reader stands between two messages and waits for the caller."""
        return self._stage is _AT_END

    @property
    def held_bytes(self) -> int:
        """How much is held: an incomplete head, or what came behind the end of a message."""
        return len(self._held) - self._at

    def rest(self) -> bytes:
        """What is held, given away: for another protocol to read on. The reader is over."""
        rest = self._cut(self._at, len(self._held))
        self._stage = _OVER
        self._let_go()
        return rest

    def _whole(self, data: bytes, known: dict[bytes, Head]) -> tuple[bytes, Head, bytes] | None:
        if self._stage is not _HEAD or self._held:
            return None
        end = data.find(b"\r\n\r\n", 0, _MEMO_HEAD_BYTES + 4)
        key = data[:end]
        head = known.get(key) if end > 0 else None
        if head is None or head.body_bytes != len(data) - end - 4:
            return None
        self._stage = _AT_END
        return key, head, data[end + 4 :]

    def feed(self, data: bytes) -> list[Head | bytes | End | Malformed]:
        """What `data` means, with what is held. Nothing after a Malformed."""
        if self._stage is _OVER:
            return []
        if self._held:
            self._hold(data)
        else:
            self._held = data
        return self._events()

    def eof(self) -> list[Head | bytes | End | Malformed]:
        """What it means that the peer sends no more."""
        stage, self._stage = self._stage, _OVER
        incomplete = stage in (_SIZED, _CHUNKED) or (stage is _HEAD and self._awaits_head())
        self._let_go()
        if stage is _UNTIL_CLOSE:
            return [_END]
        if incomplete:
            return [Malformed(self._status(400), f"the connection ended in the {stage.value}; expected all of it")]
        return []

    def _head(self, head: bytes) -> Head:
        raise NotImplementedError

    def _before_head(self) -> None:
        """Called once there are bytes, before a head is looked for. Raises Http1Error."""
        raise NotImplementedError

    def _awaits_head(self) -> bool:
        """Whether a message has begun, or must, when no head is there yet."""
        raise NotImplementedError

    def _status(self, status: int) -> int:
        """What a Malformed has for an error's status."""
        raise NotImplementedError

    # --- from bytes to events ------------------------------------------------------------------

    def _events(self) -> list[Head | bytes | End | Malformed]:
        events: list[Head | bytes | End | Malformed] = []
        try:
            self._read(events)
        except Http1Error as error:
            self._stage = _OVER
            self._let_go()
            events.append(Malformed(self._status(error.status), str(error)))
            return events
        if self._at >= len(self._held):
            self._let_go()
        return events

    def _read(self, events: list[Head | bytes | End | Malformed]) -> None:
        while self._stage is _HEAD:
            head = self._next_head()
            if head is None:
                return
            events.append(head)
            self._begin_body(head)
        available = len(self._held) - self._at
        if self._stage is _SIZED and self._left and available:
            taken = min(available, self._left)
            events.append(self._cut(self._at, self._at + taken))
            self._at += taken
            self._left -= taken
        elif self._stage is _UNTIL_CLOSE and available:
            events.append(self._cut(self._at, len(self._held)))
            self._at = len(self._held)
        elif self._chunks is not None and available:
            self._read_chunks(self._chunks, events)
        if self._stage is _SIZED and not self._left:
            self._stage = _AT_END
            events.append(_END)

    def _next_head(self) -> Head | None:
        """The head that begins at `_at`; None if it is incomplete."""
        if self._at >= len(self._held):
            return None
        self._before_head()
        held, at = self._held, self._at
        end = held.find(b"\r\n\r\n", max(at, self._scanned - 3), at + self._limits.head_bytes + 4)
        if end < 0:
            self._check_incomplete()
            return None
        head = self._cut(at, end)
        self._at = end + 4
        self._scanned = 0
        self._first_line = False
        return self._head(head)

    def _check_incomplete(self) -> None:
        """Look at what is new of a head that has no end yet, for what could never become one."""
        held, at, limits = self._held, self._at, self._limits
        size = len(held) - at
        scanned = max(self._scanned, at)
        if not self._first_line:
            end = held.find(b"\r\n", max(scanned - 1, at))
            self._first_line = end >= 0
            if (end - at if end >= 0 else size - 1) > limits.start_line_bytes:
                raise line_too_long(held[at : at + limits.start_line_bytes + 1], limits.start_line_bytes)
        if size > limits.head_bytes + 3:  # all but the last byte of CRLF CRLF may be there
            raise Http1Error(431, f"the head has over {limits.head_bytes} bytes; expected fewer or shorter fields")
        check_line_ends(held, scanned)
        self._scanned = len(held)

    def _begin_body(self, head: Head) -> None:
        if isinstance(head, ResponseHead) and head.interim:
            return
        if head.body_bytes is not None:
            self._left = head.body_bytes
            self._stage = _SIZED
        elif head.chunked:
            self._chunks = ChunkedBody(self._limits)
            self._stage = _CHUNKED
        else:
            self._stage = _UNTIL_CLOSE

    def _read_chunks(self, chunks: ChunkedBody, events: list[Head | bytes | End | Malformed]) -> None:
        payload: list[bytes | bytearray] = []
        try:
            self._at = chunks.take(self._held, self._at, payload)
        finally:
            if len(payload) == 1:
                events.append(bytes(payload[0]))
            elif payload:
                events.append(b"".join(payload))
        if chunks.done:
            self._chunks = None
            self._stage = _AT_END
            events.append(End(chunks.trailers) if chunks.trailers else _END)

    # --- what is held ---------------------------------------------------------------------------

    def _hold(self, data: bytes) -> None:
        """Add to what is held, in time that does not depend on how much that is."""
        held, at = self._held, self._at
        if isinstance(held, bytes):
            held = bytearray(held[at:])
        else:
            del held[:at]
        held += data
        self._held, self._at = held, 0
        self._scanned = max(0, self._scanned - at)

    def _cut(self, begin: int, end: int) -> bytes:
        cut = self._held[begin:end]  # of bytes from end to end: the same object
        return cut if isinstance(cut, bytes) else bytes(cut)

    def _let_go(self) -> None:
        """Keep no reference to a read that is used up: an idle connection weighs nothing."""
        self._held = b""
        self._at = self._scanned = 0


class RequestReader(_Reader[RequestHead]):
    """Reads the requests of one connection, one after another; begins with the first."""

    __slots__ = ("_empty_line", "key")

    def __init__(self, limits: Limits = _LIMITS) -> None:
        super().__init__(_HEAD, limits)
        self._empty_line = False  # one was there before this request
        self.key: bytes | None = None  # the bytes of the last head, if it is one that is known from then on

    def resume(self) -> list[RequestEvent]:
        """Go on to the next request, after an End; what is held of it already."""
        if self._stage is not _AT_END:
            raise ValueError(f"the reader is {self._stage.value!r}; a request must have ended")
        self._stage = _HEAD
        self._empty_line = False
        return self._events() if self._held else []

    def whole(self, data: bytes) -> tuple[bytes, RequestHead, bytes] | None:
        """The bytes of its head, its head and its body, if `data` is one request, no more and no less, whose head is
        known; it is then read like one that was fed. None: nothing was read, `feed` it."""
        return self._whole(data, _requests)

    def _head(self, head: bytes) -> RequestHead:
        known = _requests.get(head) if self._limits is _LIMITS else None
        if known is not None:
            self.key = head
            return known
        read = request_head(head, self._limits.fields, self._limits.start_line_bytes)
        self.key = None
        if len(head) <= _MEMO_HEAD_BYTES and self._limits is _LIMITS and not (read.chunked or read.expects_continue):
            _remember(_requests, head, read)
            self.key = head
        return read

    def _before_head(self) -> None:
        first = self._held[self._at]
        if first in _TOKEN:
            return
        start = bytes(self._held[self._at : self._at + 2])
        if self._empty_line or not b"\r\n".startswith(start):
            raise Http1Error(400, f"a request begins with {shown(start)}; expected a method")
        if len(start) == 2:
            self._empty_line = True
            self._at += 2
            self._scanned = self._at
            if self._at < len(self._held):
                self._before_head()

    def _awaits_head(self) -> bool:
        return self.held_bytes > 0

    def _status(self, status: int) -> int:
        return status


class ResponseReader(_Reader[ResponseHead]):
    """Reads the responses of one connection, each after `expect`.

    Bytes that answer no request are malformed (RFC 9112, 9.2), be it while the connection is idle or right behind an
    End: the response before them stands, but the connection must not be used again. Behind a head that hands the
    connection over they are held for `rest`.
    """

    __slots__ = ("_handed_over", "_method")

    def __init__(self, limits: Limits = _LIMITS) -> None:
        super().__init__(_AT_END, limits)
        self._method = b""
        self._handed_over = False

    def expect(self, method: bytes) -> None:
        """A request of this method is being sent: its response comes next."""
        if self._stage is not _AT_END or self._handed_over:
            raise ValueError(f"the reader is {self._stage.value!r}; a response must have ended, and HTTP go on")
        self._method = method
        self._stage = _HEAD

    def whole(self, data: bytes) -> tuple[bytes, ResponseHead, bytes] | None:
        """As of RequestReader, of the response that comes next."""
        return self._whole(data, _responses) if self._method not in _MEANING else None

    def _events(self) -> list[ResponseEvent]:
        events = super()._events()
        if self._stage is _AT_END and self._held and not self._handed_over:
            events.append(Malformed(502, f"{self.held_bytes} bytes answer no request; expected none"))
            self._stage = _OVER
            self._let_go()
        return events

    def _head(self, head: bytes) -> ResponseHead:
        read = response_head(head, self._method, self._limits.fields, self._limits.start_line_bytes)
        self._handed_over = read.status == 101 or (self._method == b"CONNECT" and 200 <= read.status < 300)
        plain = self._method not in _MEANING and read.status >= 200 and read.body_bytes is not None
        if plain and len(head) <= _MEMO_HEAD_BYTES and self._limits is _LIMITS:
            _remember(_responses, head, read)
        return read

    def _before_head(self) -> None:
        start = bytes(self._held[self._at : self._at + 5])
        if not b"HTTP/".startswith(start):
            raise Http1Error(400, f"a response begins with {shown(start)}; expected HTTP/")

    def _awaits_head(self) -> bool:
        return True

    def _status(self, _: int) -> int:
        return 502


def _remember(known: dict[bytes, Head], key: bytes, head: Head) -> None:
    """Start anew when it is full: heads of a peer's own invention cost others a second parsing, no more."""
    if len(known) >= _MEMO_HEADS:
        known.clear()
    known[key] = head
