"""In-band errors: which of our errors a status of the server becomes."""

from __future__ import annotations

import pytest

from proxy.dialects.milvus.messages import common
from proxy.dialects.milvus.status import (
    InvalidRowError,
    NoIndexError,
    NotLoadedError,
    ResultTooLargeError,
    raise_for_status,
)
from proxy.errors import CollectionNotFound, Refused, Throttled, Unavailable, Unclear


def test_success_raises_nothing() -> None:
    raise_for_status(common.Status(), "docs")


@pytest.mark.parametrize(
    ("status", "on_read", "on_write"),
    [
        # As Milvus 2.3.5 and Milvus Lite 3.2.2 were seen to answer:
        ({"code": 100, "error_code": 4}, CollectionNotFound, CollectionNotFound),
        ({"code": 100, "error_code": 1}, CollectionNotFound, CollectionNotFound),
        ({"code": 101, "error_code": 1}, NotLoadedError, NotLoadedError),
        ({"code": 700, "error_code": 25}, NoIndexError, NoIndexError),
        ({"code": 1100, "error_code": 5}, InvalidRowError, InvalidRowError),
        ({"code": 6, "error_code": 6}, InvalidRowError, InvalidRowError),
        ({"code": 1, "error_code": 1}, Refused, Refused),
        ({"code": 65535, "error_code": 1}, Refused, Refused),
        ({"code": 65535, "reason": "a: query results exceed the limit size : b"}, *[ResultTooLargeError] * 2),
        # By the tables of the servers' sources:
        ({"code": 1, "error_code": 56, "retriable": True}, Unavailable, Unavailable),
        ({"error_code": 28}, CollectionNotFound, CollectionNotFound),
        ({"code": 8, "error_code": 49, "retriable": True}, Throttled, Throttled),
        ({"error_code": 48}, Throttled, Throttled),
        ({"code": 9}, Throttled, Throttled),
        ({"code": 503}, Unavailable, Unclear),
        ({"code": 10001}, Unavailable, Unclear),
        ({"code": 65535, "retriable": True}, Unavailable, Unclear),
        ({"code": 1400}, Refused, Refused),
    ],
)  # fmt: skip
def test_every_status_means_something(
    status: dict[str, object], on_read: type[Exception], on_write: type[Exception]
) -> None:
    for writes, expected in ((False, on_read), (True, on_write)):
        with pytest.raises(expected) as caught:
            raise_for_status(common.Status(**status), "docs", writes=writes)
        assert type(caught.value) is expected
        assert "docs" in str(caught.value)
