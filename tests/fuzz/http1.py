"""The HTTP/1.1 readers under atheris, with h11 beside them. Run by hand:

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris==3.0.0 h11
    mkdir /tmp/http1
    cd tests/fuzz && /tmp/fuzz/bin/python http1.py -dict=http1.dict -runs=1000000 /tmp/http1 corpus/http1

What has to hold for any bytes: no exception; what is accepted is what h11 sees (`http1_oracle`); and how the bytes are
cut changes nothing. The corpus holds heads as clients sent them to a socket (curl, httpx, qdrant-client, aiohttp,
requests, urllib); those called `typed_` were written by hand after their kind (browsers, k6, servers).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).parents[2]))

METHODS = (b"GET", b"HEAD", b"CONNECT")


def checker() -> Callable[[bytes], None]:
    """The check of one input; its imports wait until they can be instrumented."""
    from tests.unit.protocols.http1_dialogues import answer, hear, told
    from tests.unit.protocols.http1_oracle import disagreement, h11_request, h11_response, our_request, our_response

    def check(data: bytes) -> None:
        cut = data[-1] % len(data) if data else 0
        for closed in (False, True):
            why = disagreement(our_request(data, closed=closed), h11_request(data, closed=closed))
            assert not why, why
        for pieces in ([data[:cut], data[cut:]], [data[at : at + 1] for at in range(len(data))]):
            assert_same(told(hear([data])), told(hear(pieces)))
        if not data.startswith(b"HTTP/"):
            return
        for method in METHODS:
            why = disagreement(our_response(method, data, closed=True), h11_response(method, data, closed=True))
            assert not why, why
            for pieces in ([data[:cut], data[cut:]], [data[at : at + 1] for at in range(len(data))]):
                assert_same(told(answer(method, [data], closed=True)), told(answer(method, pieces, closed=True)))

    return check


def assert_same(whole: list[object], cut: list[object]) -> None:
    """The same events. Two faults in one message may be found in another order if it comes in pieces."""
    if whole and cut and isinstance(whole[-1], int) and isinstance(cut[-1], int):
        whole, cut = whole[:-1], cut[:-1]
    assert whole == cut, (whole, cut)


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["proxy.protocols"]):
        import proxy.protocols.http1
        import proxy.protocols.http1_write  # noqa: F401
    check = checker()

    def run(data: bytes) -> None:
        check(data)

    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
