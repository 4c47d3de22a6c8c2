"""Event loops: which one a test runs on, and what goes wrong in one where nobody waits."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

_OF_GRPC = "PollerCompletionQueue"  # of grpc.aio, in a test's client: it may wake two loops for one event


@pytest.fixture(autouse=True)
def nothing_fails_behind_the_test(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Event loops only log it, and every assertion may still hold."""
    yield
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    said = [each.getMessage() for each in records if each.name == "asyncio" and each.levelno >= logging.ERROR]
    assert not [each for each in said if _OF_GRPC not in each]


@pytest.fixture(autouse=True)
def no_exception_stays() -> Iterator[None]:
    """Compiled coroutines have no place of their own for an exception that they handle: one that is not put back stays
    the event loop's, for whatever runs there later."""
    yield
    assert sys.exception() is None


def on_each_loop() -> Any:
    """`event_loop_policy = on_each_loop()`: a module's tests run on asyncio's loop and on uvloop.

    The proxy runs on the latter, which differs in when it reads, writes and accepts.
    """

    @pytest.fixture(params=["asyncio", "uvloop"])
    def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
        return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()

    return event_loop_policy
