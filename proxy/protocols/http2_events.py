"""What an HTTP/2 connection tells whoever has it, and what it is told at its beginning."""

from __future__ import annotations

from enum import Enum

import msgspec

from proxy.protocols.field_block import FieldBlock


class Role(Enum):
    CLIENT = "client"
    SERVER = "server"


class Limits(msgspec.Struct, frozen=True):
    """What the peer may do. `streams`: open at once; `orphans`: taken back while they are still being worked on.
    `fields_bytes`: of one block, as decoded; a request with more is answered 431, more than twice of it, or a block
    that takes as much undecoded, ends the connection."""

    streams: int = 1024
    orphans: int = 8192
    frame_bytes: int = 65_536
    stream_window_bytes: int = 2**20
    connection_window_bytes: int = 2**24
    fields_bytes: int = 65_536


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request, or the answer to one (not an interim one). `ends`: nothing follows."""

    stream_id: int
    block: FieldBlock
    ends: bool


class Data(msgspec.Struct, frozen=True, gc=False):
    """`size_bytes`: to be given back with `consume`; more than `data` if there was padding."""

    stream_id: int
    data: bytes
    size_bytes: int
    ends: bool


class Trailers(msgspec.Struct, frozen=True, gc=False):
    stream_id: int
    block: FieldBlock


class WholeRequest(msgspec.Struct, frozen=True, gc=False):
    """In place of a `Head` and the `Data` that ends it, for a connection that `gathers`."""

    stream_id: int
    block: FieldBlock
    data: bytes


class WholeAnswer(msgspec.Struct, frozen=True, gc=False):
    """In place of a `Head`, a `Data` and `Trailers`, for a connection that `gathers`."""

    stream_id: int
    head: FieldBlock
    data: bytes
    trailers: FieldBlock


class Reset(msgspec.Struct, frozen=True, gc=False):
    """The stream is gone. `refused`: the peer has done nothing of it, so it can be sent again. `why`: if the fault was
    found here."""

    stream_id: int
    code: int
    refused: bool
    why: str = ""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """Nothing of the stream waits for a window any more."""

    stream_id: int


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The peer's first settings are in force."""


class Going(msgspec.Struct, frozen=True, gc=False):
    """The peer takes no stream after `last_id`."""

    last_id: int
    code: int
    why: bytes


class Pong(msgspec.Struct, frozen=True, gc=False):
    payload: bytes


class Broken(msgspec.Struct, frozen=True, gc=False):
    """The connection is over: write what there is, and close it."""

    code: int
    why: str


Event = Head | Data | Trailers | WholeRequest | WholeAnswer | Reset | Sent | Ready | Going | Pong | Broken
