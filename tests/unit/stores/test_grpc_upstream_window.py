"""What a server's answers take of the connection's window is given back, whoever the answer is for."""

from __future__ import annotations

import asyncio

import pytest

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import encode
from proxy.stores.grpc_upstream import GrpcUpstream
from tests.unit.protocols.http2_dialogue import ACK, ANSWER, REQUEST, TRAILERS, data, headers


class Nowhere(asyncio.Transport):
    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None: ...

    def abort(self) -> None: ...


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("in_one_piece", [False, True])
async def test_it_is_given_back(streams: bool, in_one_piece: bool) -> None:
    upstream = GrpcUpstream()
    upstream.connection_made(Nowhere())
    upstream.data_received(f.settings({}) + ACK)
    if streams:
        stream_id, exchange = upstream.open(encode(REQUEST), lambda: None)
        await upstream.send(stream_id, b"", ends=True)
    else:
        stream_id = upstream.begin(encode(REQUEST), b"", lambda *_: None)
    parts = [headers(stream_id, ANSWER), data(stream_id, b"x" * 1000), headers(stream_id, TRAILERS, ends=True)]
    for part in [b"".join(parts)] if in_one_piece else parts:
        upstream.data_received(part)
    assert upstream._http2._owed_bytes == 1000
    assert not upstream._http2.open_streams
    if streams:
        assert exchange.answer is not None
        assert [part async for part in exchange.answer] == [b"x" * 1000]
    upstream.close()
