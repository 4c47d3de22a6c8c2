"""What a Qdrant client asks in the conformance tests and another store cannot answer: one table, each entry asserted.

A key is a test, with a colon and a part of it where only that part is meant. REFUSED says with which reason the front
over Milvus refuses it: Untranslatable, which a proxy takes as "ask the other store", or a point that Milvus cannot
hold. FORGOTTEN says, by engine, which descriptions do not show what was asked for, as the store has no place for it. An
entry that no longer holds fails its test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from qdrant_client.http.exceptions import UnexpectedResponse

REFUSED = {
    "test_filters: nested path": "filter: element of an array ([])",
    "test_filters: except": "filter: except over arrays or objects",
    "test_filters: datetime": "filter: datetime range",
    "test_filters: values count": "filter: values count",
    "test_filters: geo radius": "filter: geo radius",
    "test_filters: geo box": "filter: geo box",
    "test_filters: nested": "filter: nested",
    "test_searches: Manhattan": "metric manhattan",
    "test_a_description_says_what_was_asked_for: Manhattan": "metric manhattan",
    "test_scroll_pages": "scroll order",  # with ids as text; as integers they page (tests/flows/test_fronts.py)
    "test_vector_changes": "point 00000000-0000-0000-0000-000000000001: the point has no vector 'b', and every row "
    "needs one; point 3: the point has no vector 'a', and every row needs one",
}
FORGOTTEN = {
    "memory": {
        "test_collections": "changed parameters",
    },
    "milvus_lite": {
        "test_collections": "changed parameters",
        "test_a_description_says_what_was_asked_for": "parameters of vectors and of Qdrant's graph",
        "test_payload_indexes": "payload indexes",
    },
}

_NOT_SERVED = re.compile(r"(?:\{\"status\":\{\"error\":\")?(.*): not served by this milvus behind Crossfade's front")
_NOT_HELD = re.compile(r".*Wrong input: milvus cannot hold (.*)\. Nothing was changed")


class Inexpressible(Exception):
    """The front said that its store cannot express or keep what was asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def recognised() -> Iterator[None]:
    """A client's exception as Inexpressible, if it is one."""
    try:
        yield
    except UnexpectedResponse as error:
        _raise_if_inexpressible(error.content.decode(), not_served=error.status_code == 501)
        raise
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call | grpc.aio.AioRpcError):
            not_served = error.code() is grpc.StatusCode.UNIMPLEMENTED
            _raise_if_inexpressible(str(error.details()), not_served=not_served)
        raise


def _raise_if_inexpressible(text: str, *, not_served: bool) -> None:
    found = (_NOT_SERVED if not_served else _NOT_HELD).match(text)
    if found is not None:
        raise Inexpressible(found[1])


@contextmanager
def as_listed(engine: str, *keys: str) -> Iterator[None]:
    """The block does what the table says of the first key that it has; nothing special where it has none."""
    refused = REFUSED if engine == "milvus_lite" else {}
    forgotten = FORGOTTEN.get(engine, {})
    key = next((key for key in keys if key in refused or key in forgotten), None)
    if key is None:
        yield
    elif key in forgotten:
        with pytest.raises(AssertionError):
            yield
    else:
        with pytest.raises(Inexpressible) as caught:
            yield
        assert caught.value.reason == refused[key], key
