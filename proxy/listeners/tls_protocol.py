"""TLS between a socket and the protocol of a connection, with little memory for one that says nothing.

The event loops' own way keeps buffers for every connection, 90 KiB of them with uvloop; here what OpenSSL itself needs
stays, and the buffers on the way to it and from it are the same for all connections: few, and warm.

Rule of the file: `_INCOMING` and `_OUTGOING` are empty whenever somebody else is called, who might want them for
another connection. What OpenSSL has taken of an incomplete record it keeps itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

HANDSHAKE_SECONDS = 10.0
GOODBYE_SECONDS = 2.0  # for the other side to say that it has heard that there is no more
_log = logging.getLogger("crossfade.listeners")
_PLAIN: Final = memoryview(bytearray(256 * 1024))  # of whichever connection is being read, on the loop
_RECORD_BYTES: Final = 16 * 1024  # of plain text, at most
# Encrypted.
_INCOMING: Final = ssl.MemoryBIO()
_OUTGOING: Final = ssl.MemoryBIO()


class TlsProtocol(asyncio.Protocol):
    """`make`: of the protocol that hears what is decrypted; it gets a `TlsTransport`. `ready` ends when it has, and
    raises ConnectionError if it never will."""

    def __init__(self, make: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self.tls = context.wrap_bio(_INCOMING, _OUTGOING, server_side=True)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.inner: asyncio.Protocol | None = None
        self.is_closing = False
        self.raw: asyncio.Transport | None = None  # of the socket; None before it is there, and once it is lost
        self._is_paused = False
        self._kept = b""  # encrypted, while nobody reads
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio's -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.raw = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        if self.is_closing:
            return  # read past
        if self.inner is None:
            self._shake_hands(data)
        else:
            self._read(data)

    def eof_received(self) -> bool:
        """The other side says no more. TLS knows no connection that is open in one direction."""
        self._read(b"")  # what was kept, if it is wanted again by now
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.raw = None
        self._stop_timer()
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionResetError("it left before it could be told who we are"))
            self.ready.exception()  # nobody may be waiting
        if self.inner is not None:
            self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        if self.inner is not None:
            self.inner.resume_writing()

    # --- for the transport -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.is_closing or self.raw is None or not data:
            return
        try:
            done = self.tls.write(data)  # all of it, or a record, as the mode of the context is
            while done < len(data):
                done += self.tls.write(memoryview(data)[done:])
        except ssl.SSLError:
            self.abort()
        self._flush()

    def pause(self) -> None:
        self._is_paused = True
        if self.raw is not None and not self.raw.is_closing():
            self.raw.pause_reading()

    def resume(self) -> None:
        if not self._is_paused:
            return
        self._is_paused = False
        if self.raw is not None and not self.raw.is_closing():
            self.raw.resume_reading()
            self._loop.call_soon(self._read_on)  # what was decrypted before may be all that comes

    def close(self) -> None:
        """Say that no more comes; what has been written still goes out."""
        if self.is_closing or self.raw is None:
            return
        self.is_closing = True
        self._stop_timer()
        self._kept = b""
        with contextlib.suppress(ssl.SSLError):  # the other side has not said so yet
            self.tls.unwrap()
        self._flush()
        if self.raw is None or self.raw.is_closing():
            return
        if self._is_paused:
            self.raw.resume_reading()
        if self.raw.can_write_eof():
            self.raw.write_eof()  # and what still comes is read past: to close at once might cut the last answer off
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self._leave)

    def _leave(self) -> None:
        """Once what was written is out. A client that is not there any more the system finds out."""
        if self.raw is not None and self.raw.get_write_buffer_size():
            self._timer = self._loop.call_later(GOODBYE_SECONDS, self._leave)
        else:
            self.abort()

    def abort(self) -> None:
        self.is_closing = True
        if self.raw is not None:
            self.raw.abort()

    # --- what OpenSSL does -------------------------------------------------------------------------------

    def _shake_hands(self, data: bytes) -> None:
        _INCOMING.write(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            _INCOMING.read()
            self._flush()  # what is wrong, for the other side
            if not self.ready.done():
                self.ready.set_exception(ConnectionResetError(str(error)))
                self.ready.exception()
            if self.raw is not None:
                self.raw.close()
            return
        self._stop_timer()
        behind = _INCOMING.read()
        self._flush()
        self.inner = cast(asyncio.Protocol, self._make())
        self.inner.connection_made(TlsTransport(self))
        if not self.ready.done():
            self.ready.set_result(None)
        self._read(behind)

    def _read_on(self) -> None:
        try:
            self._read(b"")
        except Exception:  # noqa: BLE001  a defect: the loop would close the connection if the transport had called
            _log.exception("a connection was broken off")
            self.abort()

    def _read(self, data: bytes) -> None:
        """Give on what can be decrypted of that and of what was kept, as long as it is wanted."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        while not (self._is_paused or self.is_closing or self.inner is None):
            _INCOMING.write(data)
            size, ended = self._decrypt()
            data = _INCOMING.read() if _INCOMING.pending else b""
            if _OUTGOING.pending:  # of TLS itself
                self._flush()
            if size:
                self.inner.data_received(bytes(_PLAIN[:size]))
            if ended:
                self._end()
            if ended or not data:
                return
        self._kept = data

    def _decrypt(self) -> tuple[int, bool]:
        """How many bytes are in `_PLAIN` now, and whether nothing more will come. Ends with nothing to read, or too
        little room for a record."""
        read = cast(Callable[[int, memoryview], int], self.tls.read)  # typeshed knows it without a buffer
        size, room = 0, _PLAIN
        try:
            while len(room) >= _RECORD_BYTES:
                more = read(len(room), room)
                if not more:
                    return size, True
                size += more
                if not _INCOMING.pending:
                    return size, False  # to try again would only say so, and at a price
                room = _PLAIN[size:]
        except ssl.SSLWantReadError:
            return size, False
        except ssl.SSLError:  # the end of the other side, orderly (ZeroReturn) or not
            return size, True
        return size, False

    def _end(self) -> None:
        if self.inner is not None and not self.is_closing:
            self.inner.eof_received()
            self.close()

    def _flush(self) -> None:
        encrypted = _OUTGOING.read()
        if encrypted and self.raw is not None and not self.raw.is_closing():
            self.raw.write(encrypted)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TlsTransport(asyncio.Transport):
    """What a connection writes to; everything is encrypted."""

    def __init__(self, protocol: TlsProtocol) -> None:
        super().__init__()
        self._tls = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls.tls
        return self._tls.raw.get_extra_info(name, default) if self._tls.raw is not None else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._tls.inner = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._tls.inner is not None
        return self._tls.inner

    def is_closing(self) -> bool:
        return self._tls.is_closing or self._tls.raw is None or self._tls.raw.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._tls.write(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._tls.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._tls.raw.get_write_buffer_size() if self._tls.raw is not None else 0

    def pause_reading(self) -> None:
        self._tls.pause()

    def resume_reading(self) -> None:
        self._tls.resume()

    def close(self) -> None:
        self._tls.close()

    def abort(self) -> None:
        self._tls.abort()
