"""The relay knows where a request ends, in both versions of HTTP, however it is cut up."""

from __future__ import annotations

import pytest

from tests.support.fault_relay import Frames, HttpRequests, readings

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = b"PUT /points HTTP/1.1\r\nhost: x\r\nContent-Length: 5\r\n\r\nhello"


def frame(kind: int, flags: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) + payload


@pytest.mark.parametrize("cut", [1, 30, len(REQUEST) - 3])
def test_a_request_is_complete_with_the_last_byte_of_its_body(cut: int) -> None:
    reading = HttpRequests()
    assert [reading.take(REQUEST[:cut]), reading.take(REQUEST[cut:]), reading.take(REQUEST)] == [False, True, True]


def test_a_request_in_chunks_is_complete_with_the_empty_one() -> None:
    reading = HttpRequests()
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert [reading.take(head), reading.take(b"5\r\nhello\r\n"), reading.take(b"0\r\n\r\n")] == [False, False, True]


def test_a_handshake_is_no_request() -> None:
    requests, answers = readings(PREFACE)
    settings = frame(4, 0, b"123456")
    assert not requests.take(PREFACE + settings)
    assert not requests.take(frame(1, 4, b"headers") + frame(0, 0, b"part"))
    assert requests.take(frame(0, 1, b"the end"))
    assert not answers.take(settings + frame(6, 1, b"a ping that was answered"[:8]))
    assert answers.take(frame(1, 4, b"200"))


def test_a_frame_may_come_in_pieces() -> None:
    requests, whole = Frames(preface=True), PREFACE + frame(0, 1, b"x" * 20)
    taken = [requests.take(whole[at : at + 1]) for at in range(len(whole))]
    assert taken == [False] * (len(whole) - 1) + [True]
