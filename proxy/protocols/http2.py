"""One HTTP/2 connection, from either end: bytes in, events out; calls in, bytes out (RFC 9113). For gRPC.

    connection = Connection(Role.SERVER)
    for event in connection.receive(data, now_seconds):
        ...                                # Head, Data, Trailers, Reset, Sent, Ready, Going, Pong, Broken
    connection.send_head(stream_id, fields)
    connection.send_data(stream_id, data, ends=True)
    transport.write(connection.take())     # after every receive and every call

Rules of the file:

- What arrives is bounded by what was granted: whoever gets a `Data` gives its `size_bytes` back with `consume` once it
  has got rid of it, also after the stream is gone (of a `WholeRequest` or `WholeAnswer` as many as its data has). What
  is sent waits for the peer's windows (http2_sending.py); `waiting_bytes` and `Sent` tell the caller when to go on.
- A fault of a stream ends that stream (RST_STREAM, `Reset`); a fault of the connection ends it (GOAWAY, `Broken`),
  after the events that came before. Nothing raises on account of what a peer sends.
- Calls about a stream that is gone do nothing: the peer may have reset it a moment ago.
- Frames for a stream that we have ended are skipped, since they may have been under way; for one that the peer has
  ended they are a fault.
- The settings that we send cannot race: until the peer has read them it keeps to the defaults, which allow less; but
  for two: the table of field blocks (hpack.py), and the number of streams, of which the first too many are refused.

Not here: server push, priorities (checked and not heeded), upgrade from HTTP/1.1, CONNECT; time-outs of any kind, which
need a clock: the caller has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from proxy.protocols import http2_allowance as cost
from proxy.protocols import http2_frames as f
from proxy.protocols.field_block import Field, FieldBlock
from proxy.protocols.hpack import Decoder, HpackError, encode
from proxy.protocols.http2_allowance import Allowance
from proxy.protocols.http2_checks import (
    check_of_connection,
    check_size,
    problem_of_answer,
    problem_of_request,
    wrong_length,
)
from proxy.protocols.http2_events import (
    Broken,
    Data,
    Event,
    Going,
    Head,
    Limits,
    Pong,
    Ready,
    Reset,
    Role,
    Sent,
    Trailers,
    WholeAnswer,
    WholeRequest,
)
from proxy.protocols.http2_frames import Code, Http2Error, Setting
from proxy.protocols.http2_reading import FrameReader, check_priority, unpadded
from proxy.protocols.http2_sending import FrameSender, Stream

Fields = Sequence[Field] | bytes  # or what hpack.encode has made of them

_ABANDONED: Final = 4096  # streams that we have ended and the peer may still write to
# That a client opens before it has read how many it may: any number, unless they are told.
_STREAMS_AT_FIRST: Final = 100
_DRAINING: Final = b"draining"  # payload of a ping
_SUCCESS: Final = {b":status": b"200"}
_TOO_LARGE: Final[tuple[Field, ...]] = (
    (b":status", b"431"),
    (b"content-type", b"application/grpc"),
    (b"grpc-status", b"8"),
    (b"grpc-message", b"the metadata is too large"),
)


class Connection:
    """See the file's head. `take` gives the preface and the settings at once. `gathers`: what comes whole and
    in one piece is told as one `WholeRequest` or `WholeAnswer`."""

    def __init__(self, role: Role, limits: Limits = Limits(), *, gathers: bool = False) -> None:  # noqa: B008  frozen
        assert f.LEAST_FRAME_BYTES <= limits.frame_bytes <= f.LARGEST_FRAME_BYTES
        assert f.DEFAULT_WINDOW_BYTES <= limits.stream_window_bytes <= f.LARGEST_WINDOW
        assert f.DEFAULT_WINDOW_BYTES <= limits.connection_window_bytes <= f.LARGEST_WINDOW
        self.role = role
        self.is_broken = False
        self.is_going = False  # the peer takes no more streams on this connection
        self._limits = limits
        self._allowance = Allowance()
        most = 2 * limits.fields_bytes
        self._reader = FrameReader(self._allowance, role is Role.SERVER, limits.frame_bytes, most)
        self._gathers = gathers
        self._decoder = Decoder(most)
        self._sender = FrameSender(self._allowance, self._end_local, self._emptied)
        self.take_parts = self._sender.take  # as `take`, not joined: a large message need not be copied
        self._streams: dict[int, Stream] = {}
        self._abandoned: dict[int, None] = {}
        self._held: set[int] = set()
        self._orphans = 0  # held, and gone
        self._events: list[Event] = []
        self._receive_window = limits.connection_window_bytes
        self._owed_bytes = 0
        self._next_id = 1  # of a client
        self._last_peer_id = 0
        self._last_taken = f.LARGEST_ID  # no stream of the peer after it is taken
        self._drains = False
        # What the peer has said:
        self._has_settings = False
        self._peer_window = f.DEFAULT_WINDOW_BYTES
        self._peer_streams = _STREAMS_AT_FIRST
        self._peer_goes = False
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            f.REQUEST: self._on_whole_request,
            f.ANSWER: self._on_whole_answer,
            f.DATA: self._on_data,
            f.HEADERS: self._on_headers,
            f.PRIORITY: self._on_priority,
            f.RST_STREAM: self._on_reset,
            f.SETTINGS: self._on_settings,
            f.PUSH_PROMISE: self._on_push,
            f.PING: self._on_ping,
            f.GOAWAY: self._on_goaway,
            f.WINDOW_UPDATE: self._on_window,
        }
        self._greet()

    def _greet(self) -> None:
        limits = self._limits
        values = {Setting.HEADER_TABLE_SIZE: 0}
        if self.role is Role.CLIENT:
            self._sender.put(f.PREFACE)
            values[Setting.ENABLE_PUSH] = 0
        else:
            values[Setting.MAX_CONCURRENT_STREAMS] = limits.streams
        values[Setting.INITIAL_WINDOW_SIZE] = limits.stream_window_bytes
        values[Setting.MAX_FRAME_SIZE] = limits.frame_bytes
        values[Setting.MAX_HEADER_LIST_SIZE] = limits.fields_bytes
        self._sender.put(f.settings(values))
        if limits.connection_window_bytes > f.DEFAULT_WINDOW_BYTES:
            self._sender.put(f.window_update(0, limits.connection_window_bytes - f.DEFAULT_WINDOW_BYTES))

    # --- what the caller asks -------------------------------------------------------------------

    def take(self) -> bytes:
        """What is to be written now."""
        return b"".join(self._sender.take())

    @property
    def can_open(self) -> bool:
        """Whether a client may open one more stream now."""
        return not self.is_going and len(self._streams) < self._peer_streams and self._next_id <= f.LARGEST_ID

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def is_drained(self) -> bool:
        """Whether no more streams can come, and none is under way any more."""
        return (self._last_taken < f.LARGEST_ID or self._peer_goes) and not self._streams

    def waiting_bytes(self, stream_id: int) -> int:
        """How much of what was sent waits for the peer's windows."""
        stream = self._streams.get(stream_id)
        return stream.waiting_bytes if stream is not None else 0

    # --- what the caller does -------------------------------------------------------------------

    def open(self, fields: Fields, ends: bool = False) -> int:
        """Begin a request; its stream. Only if `can_open`. Raises ValueError for fields that may not be sent."""
        block = _block_of(fields)
        stream = self._opened()
        self._sender.block(stream, block, ends)
        return stream.id

    def ask(self, fields: Fields, data: bytes) -> int:
        """A whole request, as `open` and `send_data` would send it."""
        block = fields if isinstance(fields, bytes) else encode(fields)
        stream = self._opened()
        self._sender.whole(stream, block, data)
        return stream.id

    def _opened(self) -> Stream:
        assert self.role is Role.CLIENT
        assert self.can_open
        stream_id = self._next_id
        stream = self._streams[stream_id] = Stream(stream_id, self._peer_window, self._limits.stream_window_bytes)
        self._next_id += 2
        return stream

    def answer(self, stream_id: int, head: bytes, data: bytes, trailers: bytes) -> None:
        """A whole answer, as `send_head`, `send_data` and `send_trailers` would send it."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.local_open:
            self._sender.whole(stream, head, data, trailers)

    def send_head(self, stream_id: int, fields: Fields, ends: bool = False) -> None:
        """Raises ValueError for fields that may not be sent."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.local_open:
            self._sender.block(stream, _block_of(fields), ends)

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        """The end of what we send, after the data that waits. Raises ValueError for fields that may not be sent."""
        self.send_head(stream_id, fields, ends=True)

    def send_data(self, stream_id: int, data: bytes, ends: bool = False) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.local_open:
            self._sender.data(stream, data, ends)

    def reset(self, stream_id: int, code: Code) -> None:
        """End a stream without another word. Nothing more is heard of it."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._sender.put(f.rst_stream(stream_id, code))
            self._abandon(stream)

    def consume(self, stream_id: int, size_bytes: int) -> None:
        """The caller has got rid of so much of what it was given: the peer may send more."""
        self.received(size_bytes)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.remote_open:  # where the peer has ended it, as it mostly has, nothing is owed
            self.taken(stream_id, size_bytes)

    def received(self, size_bytes: int) -> None:
        """The part of `consume` that concerns the connection: its other streams need not wait for this one."""
        self._owed_bytes += size_bytes
        if self._owed_bytes * 2 >= self._limits.connection_window_bytes:
            self._sender.put(f.window_update(0, self._owed_bytes))
            self._receive_window += self._owed_bytes
            self._owed_bytes = 0

    def taken(self, stream_id: int, size_bytes: int) -> None:
        """The part of `consume` that concerns the stream."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.remote_open:
            stream.owed_bytes += size_bytes
            if stream.owed_bytes * 2 >= self._limits.stream_window_bytes:
                self._sender.put(f.window_update(stream_id, stream.owed_bytes))
                stream.receive_window += stream.owed_bytes
                stream.owed_bytes = 0

    def hold(self, stream_id: int) -> None:
        """The request of a stream is being worked on, until `release`: also if its client takes it back, and so no
        longer counts it among the streams that it has open."""
        if stream_id in self._streams:
            self._held.add(stream_id)

    def release(self, stream_id: int) -> None:
        if stream_id in self._held:
            self._held.discard(stream_id)
            if stream_id not in self._streams:
                self._orphans -= 1

    def ping(self, payload: bytes) -> None:
        """Eight bytes, which come back in a `Pong`."""
        assert len(payload) == f.PING_BYTES
        assert payload != _DRAINING
        self._sender.put(f.frame(f.PING, 0, 0, payload))

    def drain(self) -> None:
        """Tell a client to open no more streams here. Those that are on their way are still taken, until it has read
        that (or `finish_draining`)."""
        if not self._drains:
            self._drains = True
            self._sender.put(f.goaway(f.LARGEST_ID, Code.NO_ERROR) + f.frame(f.PING, 0, 0, _DRAINING))

    def finish_draining(self) -> None:
        """Take no stream from here on: the client knows, or had time enough."""
        self.drain()
        if self._last_taken == f.LARGEST_ID:
            self._last_taken = self._last_peer_id
            self._sender.put(f.goaway(self._last_taken, Code.NO_ERROR))

    def close(self, code: Code, why: str = "") -> None:
        """The connection is over at once: write what there is, and close it."""
        if not self.is_broken:
            self.is_broken = self.is_going = True
            for stream in list(self._streams.values()):
                self._forget(stream)
            self._sender.put(f.goaway(self._last_peer_id, code, why.encode()[:200]))

    # --- the ends of streams ------------------------------------------------------------------------

    def _end_local(self, stream: Stream) -> None:
        """Our last frame of it has been put out."""
        if not stream.remote_open:
            self._forget(stream)
            self._allowance.ended()
        elif self.role is Role.SERVER:  # an early answer: the rest of the request is of no use (RFC 9113, 8.1)
            self._sender.put(f.rst_stream(stream.id, Code.NO_ERROR))
            self._abandon(stream)

    def _end_remote(self, stream: Stream) -> None:
        """The peer has said its last."""
        stream.remote_open = False
        if not stream.local_open and not stream.queue:
            self._forget(stream)
            self._allowance.ended()
        elif self.role is Role.CLIENT:  # an early answer: the server does not want the rest
            self._sender.put(f.rst_stream(stream.id, Code.NO_ERROR))
            self._forget(stream)

    def _fail(self, stream: Stream, code: Code, why: str) -> None:
        """A fault of the peer that concerns one stream."""
        self._allowance.spend(cost.FRAME)
        self._sender.put(f.rst_stream(stream.id, code))
        self._abandon(stream)
        self._events.append(Reset(stream.id, code, refused=False, why=why))

    def _abandon(self, stream: Stream) -> None:
        self._forget(stream)
        if stream.remote_open:
            self._abandoned[stream.id] = None
            if len(self._abandoned) > _ABANDONED:
                del self._abandoned[next(iter(self._abandoned))]

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.id]
        if stream.queue:
            self._sender.forget(stream)
        if stream.id in self._held:
            self._orphans += 1

    def _emptied(self, stream: Stream) -> None:
        if stream.id in self._streams:
            self._events.append(Sent(stream.id))

    # --- receiving --------------------------------------------------------------------------------

    def receive(self, data: bytes, now_seconds: float) -> list[Event]:
        """What `data` brings about. `now_seconds`: on any clock that does not go back."""
        if self.is_broken:
            return []
        self._allowance.at(now_seconds)
        try:
            for kind, flags, stream_id, payload in self._reader.frames(data):
                if not self._has_settings and kind != f.SETTINGS:
                    raise Http2Error(Code.PROTOCOL_ERROR, f"a frame of kind {kind} before any settings")
                handler = self._handlers.get(kind)
                if handler is not None:
                    handler(flags, stream_id, payload)
                else:
                    self._allowance.spend(cost.FRAME)
        except Http2Error as fault:
            self.close(fault.code, fault.why)
            self._events.append(Broken(fault.code, fault.why))
        events, self._events = self._events, []
        return events

    def _on_whole_request(self, _flags: int, stream_id: int, head: bytes) -> None:
        data, window = self._reader.rest()
        if not self._takes_request(stream_id, head, window, data):
            self._on_headers(f.END_HEADERS, stream_id, head)
            if window:
                self._on_window(0, stream_id, window)
            self._on_data(f.END_STREAM, stream_id, data)

    def _takes_request(self, stream_id: int, head: bytes, window: bytes, data: bytes) -> bool:
        """Whether all is as it mostly is; then it has been taken as its frames would be, one by one."""
        limits, size = self._limits, len(data)
        if self.role is Role.CLIENT or not stream_id & 1 or not self._last_peer_id < stream_id <= self._last_taken:
            return False
        if not 0 < size <= min(self._receive_window, limits.stream_window_bytes):
            return False
        if len(self._streams) >= limits.streams or self._orphans >= limits.orphans:
            return False
        send_window = self._peer_window
        if window:
            more = f.number_in(window) & f.LARGEST_WINDOW
            send_window += more
            if not more or send_window > f.LARGEST_WINDOW:
                return False
        block = self._decoded(head)
        if block is None or block.size_bytes > limits.fields_bytes or problem_of_request(block):
            return False
        if window:
            self._allowance.spend(cost.SMALL)  # raises before anybody has heard of the request
        self._last_peer_id = stream_id
        stream = self._streams[stream_id] = Stream(stream_id, send_window, limits.stream_window_bytes)
        stream.headed, stream.remote_open = True, False
        self._receive_window -= size
        self._allowance.received(size)
        self._events.append(WholeRequest(stream_id, block, data))
        return True

    def _on_whole_answer(self, _flags: int, stream_id: int, head: bytes) -> None:
        data, trailers = self._reader.rest()
        if not self._takes_answer(stream_id, head, data, trailers):
            self._on_headers(f.END_HEADERS, stream_id, head)
            self._on_data(0, stream_id, data)
            self._on_headers(f.END_HEADERS | f.END_STREAM, stream_id, trailers)

    def _takes_answer(self, stream_id: int, head: bytes, data: bytes, trailers: bytes) -> bool:
        """As `_takes_request`."""
        stream, size = self._streams.get(stream_id), len(data)
        if self.role is Role.SERVER or stream is None or stream.headed or stream.local_open or stream.queue:
            return False
        if not 0 < size <= min(self._receive_window, stream.receive_window):
            return False
        block, end = self._decoded(head), self._decoded(trailers)
        if block is None or block.pseudo != _SUCCESS:
            return False
        if end is None or end.pseudo or end.size_bytes > self._limits.fields_bytes:
            return False
        self._receive_window -= size
        self._forget(stream)
        self._allowance.answered(size)
        self._events.append(WholeAnswer(stream_id, block, data, end))
        return True

    def _decoded(self, encoded: bytes) -> FieldBlock | None:
        """None for one that it takes a closer look at."""
        try:
            block = self._decoder.decode(encoded)
        except HpackError:
            return None
        return None if block.problem or block.content_length is not None else block

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        if size > self._receive_window:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, f"{size} bytes, where the window has {self._receive_window}")
        self._receive_window -= size
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            self._on_stray(stream_id, "data")
            self.consume(0, size)
            return
        data, ends = unpadded(flags, payload) if flags & f.PADDED else payload, bool(flags & f.END_STREAM)
        if not data and not ends:
            self._allowance.spend(cost.FRAME)
        self._allowance.received(size)
        if size > stream.receive_window:
            code, why = Code.FLOW_CONTROL_ERROR, f"{size} bytes, where its window has {stream.receive_window}"
        elif not stream.headed:
            code, why = Code.PROTOCOL_ERROR, "data before any fields"
        else:
            code = Code.PROTOCOL_ERROR
            why = "" if stream.expected_bytes is None else wrong_length(stream, len(data), ends)
        if why:
            self.consume(0, size)
            self._fail(stream, code, why)
            return
        stream.receive_window -= size
        self._events.append(Data(stream_id, data, size, ends))
        if ends:
            self._end_remote(stream)

    def _on_headers(self, flags: int, stream_id: int, encoded: bytes) -> None:
        ends = bool(flags & f.END_STREAM)
        try:
            block = self._decoder.decode(encoded)
        except HpackError as error:
            raise Http2Error(Code.COMPRESSION_ERROR, f"the fields of stream {stream_id}: {error}") from None
        stream = self._streams.get(stream_id)
        if stream is None and self.role is Role.SERVER and stream_id > self._last_peer_id:
            self._on_request(stream_id, block, ends)
        elif stream is None or not stream.remote_open:
            self._on_stray(stream_id, "fields")
        elif stream.headed:
            self._on_trailers(stream, block, ends)
        else:
            self._on_answer(stream, block, ends)

    def _on_request(self, stream_id: int, block: FieldBlock, ends: bool) -> None:
        if not stream_id & 1:
            raise Http2Error(Code.PROTOCOL_ERROR, f"a client's stream {stream_id}, which is even")
        if stream_id > self._last_taken:  # the client was told, and will send it elsewhere
            self._allowance.spend(cost.SMALL)  # more, and a busy one would lose the answers that it waits for
            return
        limits = self._limits
        is_full = len(self._streams) >= limits.streams or self._orphans >= limits.orphans
        self._last_peer_id = stream_id
        stream = Stream(stream_id, self._peer_window, limits.stream_window_bytes)
        stream.headed = True
        stream.remote_open = not ends
        stream.expected_bytes = block.content_length
        self._streams[stream_id] = stream
        if is_full:
            self._allowance.spend(cost.SMALL)
            self.reset(stream_id, Code.REFUSED_STREAM)
        elif why := block.problem or problem_of_request(block) or (wrong_length(stream, 0, ends) if ends else ""):
            self._fail(stream, Code.PROTOCOL_ERROR, why)
        elif block.size_bytes > limits.fields_bytes:
            self._allowance.spend(cost.FRAME)
            self.send_head(stream_id, _TOO_LARGE, ends=True)
        else:
            self._events.append(Head(stream_id, block, ends))

    def _on_answer(self, stream: Stream, block: FieldBlock, ends: bool) -> None:
        status = block.pseudo.get(b":status", b"")
        is_interim = status[:1] == b"1"
        if why := block.problem or problem_of_answer(block, status, is_interim and ends):
            self._fail(stream, Code.PROTOCOL_ERROR, why)
        elif is_interim:
            self._allowance.spend(cost.FRAME)
        else:
            stream.headed = True
            if not ends:  # an answer to HEAD, or a 304, tells the length of what is not there
                stream.expected_bytes = block.content_length
            self._events.append(Head(stream.id, block, ends))
            if ends:
                self._end_remote(stream)

    def _on_trailers(self, stream: Stream, block: FieldBlock, ends: bool) -> None:
        why = block.problem
        if not ends:
            why = why or "fields in the middle of a message"
        if block.pseudo:
            why = why or f"pseudo-fields {sorted(block.pseudo)} at the end of a message"
        if block.size_bytes > self._limits.fields_bytes:
            why = why or f"fields of {block.size_bytes} bytes, where {self._limits.fields_bytes} are allowed"
        if not why and stream.expected_bytes is not None:
            why = wrong_length(stream, 0, ends)
        if why:
            self._fail(stream, Code.PROTOCOL_ERROR, why)
        else:
            self._events.append(Trailers(stream.id, block))
            self._end_remote(stream)

    def _on_stray(self, stream_id: int, what: str) -> None:
        """Data or fields of a stream that the peer may not write to."""
        if stream_id in self._abandoned:
            self._allowance.spend(cost.SMALL)
        elif self._is_idle(stream_id):
            raise Http2Error(Code.PROTOCOL_ERROR, f"{what} of stream {stream_id}, which nobody has opened")
        elif stream_id <= self._last_taken:
            raise Http2Error(Code.STREAM_CLOSED, f"{what} of stream {stream_id}, which has ended")

    def _is_idle(self, stream_id: int) -> bool:
        """Whether nobody has opened it yet."""
        if stream_id % 2 == 0:
            return True
        if self.role is Role.CLIENT:
            return stream_id >= self._next_id
        return self._last_peer_id < stream_id <= self._last_taken

    def _on_reset(self, _: int, stream_id: int, payload: bytes) -> None:
        check_size("RST_STREAM", payload, f.NUMBER_BYTES)
        if self._is_idle(stream_id):
            raise Http2Error(Code.PROTOCOL_ERROR, f"RST_STREAM of stream {stream_id}, which nobody has opened")
        self._allowance.spend(cost.SMALL)
        self._abandoned.pop(stream_id, None)
        stream = self._streams.get(stream_id)
        if stream is not None:
            code = f.number_in(payload)
            self._forget(stream)
            self._events.append(Reset(stream_id, code, refused=code == Code.REFUSED_STREAM))

    def _on_window(self, _: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != f.NUMBER_BYTES:
            check_size("WINDOW_UPDATE", payload, f.NUMBER_BYTES)
        self._allowance.spend(cost.SMALL)
        more = f.number_in(payload) & f.LARGEST_WINDOW
        stream = self._streams.get(stream_id)
        if not stream_id:
            if not more:
                raise Http2Error(Code.PROTOCOL_ERROR, "a window that grows by 0 bytes")
            self._sender.widen(more)
        elif self._is_idle(stream_id):
            raise Http2Error(Code.PROTOCOL_ERROR, f"WINDOW_UPDATE of stream {stream_id}, which nobody has opened")
        elif stream is not None:
            if not more:
                self._fail(stream, Code.PROTOCOL_ERROR, "a window that grows by 0 bytes")
            elif stream.send_window + more > f.LARGEST_WINDOW:
                self._fail(stream, Code.FLOW_CONTROL_ERROR, "a window of more than 2 GiB")
            else:
                self._widen(stream, more)

    def _widen(self, stream: Stream, more: int) -> None:
        stream.send_window += more
        if stream.queue:
            self._sender.pump(stream)
            if not stream.queue:
                self._emptied(stream)

    def _on_priority(self, _: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise Http2Error(Code.PROTOCOL_ERROR, "the priority of stream 0")
        check_size("PRIORITY", payload, f.PRIORITY_BYTES)
        check_priority(stream_id, payload)
        self._allowance.spend(cost.FRAME)

    def _on_push(self, _flags: int, stream_id: int, _payload: bytes) -> None:
        raise Http2Error(Code.PROTOCOL_ERROR, f"PUSH_PROMISE on stream {stream_id}: push is not allowed")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        check_of_connection("SETTINGS", stream_id)
        self._allowance.spend(cost.FRAME)
        if flags & f.ACK:
            check_size("SETTINGS that acknowledge", payload, 0)
            if not self._has_settings:
                raise Http2Error(Code.PROTOCOL_ERROR, "settings are acknowledged before any are sent")
            self._decoder.limit_table(0)
            self._reader.gathers = self._gathers  # no block leans on another from here on
            return
        if len(payload) % f.SETTING_BYTES:
            raise Http2Error(Code.FRAME_SIZE_ERROR, f"settings of {len(payload)} bytes")
        self._allowance.spend(cost.FRAME * (len(payload) // f.SETTING_BYTES))  # one may walk all streams
        # First, so that whoever reads it knows of the windows by which the data behind it is sent.
        self._sender.put(f.frame(f.SETTINGS, f.ACK, 0, b""))
        if not self._has_settings:
            self._peer_streams = f.LARGEST_ID  # unless it says otherwise (RFC 9113, 6.5.2)
        for key, value in f.settings_in(payload):
            self._set(key, value)
        if not self._has_settings:
            self._has_settings = True
            self._events.append(Ready())

    def _set(self, key: int, value: int) -> None:
        match key:
            case Setting.ENABLE_PUSH:
                if value > (1 if self.role is Role.SERVER else 0):
                    raise Http2Error(Code.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
            case Setting.MAX_CONCURRENT_STREAMS:
                self._peer_streams = value
            case Setting.INITIAL_WINDOW_SIZE:
                if value > f.LARGEST_WINDOW:
                    raise Http2Error(Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE is {value}")
                more, self._peer_window = value - self._peer_window, value
                for stream in list(self._streams.values()):
                    if stream.send_window + more > f.LARGEST_WINDOW:
                        raise Http2Error(Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE is {value}: over 2 GiB")
                    self._widen(stream, more)
            case Setting.MAX_FRAME_SIZE:
                if not f.LEAST_FRAME_BYTES <= value <= f.LARGEST_FRAME_BYTES:
                    raise Http2Error(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE is {value}")
                self._sender.frame_bytes = value

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        check_of_connection("PING", stream_id)
        check_size("PING", payload, f.PING_BYTES)
        self._allowance.spend(cost.FRAME)
        if not flags & f.ACK:
            self._sender.put(f.frame(f.PING, f.ACK, 0, payload))
        elif payload != _DRAINING:
            self._events.append(Pong(payload))
        elif self._drains:
            self.finish_draining()

    def _on_goaway(self, _: int, stream_id: int, payload: bytes) -> None:
        check_of_connection("GOAWAY", stream_id)
        if len(payload) < f.GOAWAY_BYTES:
            raise Http2Error(Code.FRAME_SIZE_ERROR, f"a GOAWAY of {len(payload)} bytes")
        self._allowance.spend(cost.FRAME)
        last_id, code, why = f.goaway_in(payload)
        self._peer_goes = self.is_going = True
        self._events.append(Going(last_id, code, why[:200]))
        if self.role is Role.CLIENT:
            for stream in [stream for stream in self._streams.values() if stream.id > last_id]:
                self._abandon(stream)
                self._events.append(Reset(stream.id, Code.REFUSED_STREAM, refused=True))


def _block_of(fields: Fields) -> bytes:
    return fields if isinstance(fields, bytes) else encode(fields)
