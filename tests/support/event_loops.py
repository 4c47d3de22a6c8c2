"""What goes wrong where nobody waits: a protocol's callback that raises, a failure that nobody has asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_fails_behind_the_test(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Event loops only log it, and every assertion may still hold."""
    yield
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    assert not [each.getMessage() for each in records if each.name == "asyncio" and each.levelno >= logging.ERROR]
