"""Payloads in the dynamic field: exactly themselves, beside them what filters need to know; or a reason why not."""

from __future__ import annotations

import math
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.milvus import payloads
from proxy.dialects.milvus.limits import MAX_DYNAMIC_FIELD_BYTES, UnrepresentableError
from proxy.dialects.milvus.payloads import decode_payload, encode_payload, stored_key
from proxy.model import Json
from tests.support.form import written_only

FIELDS = frozenset({"id", "vector"})

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS: st.SearchStrategy[Json] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
KEYS = TEXTS | st.sampled_from(["id", "vector", "$meta", "_seq", "_partition", "_crossfade_id", "_crossfade_key_id"])


def typed(value: Json) -> object:
    """Tells 1 from 1.0 and true, and -0.0 from 0.0."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return type(value).__name__, repr(value)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_a_payload_comes_back_as_it_was(payload: dict[str, Json]) -> None:
    text, _ = encode_payload(payload, 7, FIELDS)
    for key in (7, 8, "7"):  # what the row says of itself counts, and not its key
        point_id, found = decode_payload(text, key)
        assert point_id == 7
        assert typed(found) == typed(payload)
    assert not {"id", "vector", "$meta", "_seq", "_partition"} & set(orjson.loads(text))


def test_a_row_that_somebody_else_wrote_is_read_as_json_is() -> None:
    """Without an id of ours, and with a key written in another way."""
    assert decode_payload(b'{"a":1}', 7) == (7, {"a": 1})
    assert decode_payload(b"", "x") == ("x", {})
    assert decode_payload(b'{"\\u005fcrossfade_key_id":1}', 7) == (7, {"id": 1})


@written_only
@given(st.dictionaries(KEYS, SCALARS | st.integers() | st.floats() | st.sampled_from(["[", " {", "x ["]), max_size=5))
def test_a_plain_payload_is_what_a_look_at_every_value_says(payload: dict[str, Json]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "_is_plain", lambda *_: False)
        looked_at = _encoded(payload)
    assert _encoded(payload) == looked_at


def _encoded(payload: dict[str, Json]) -> object:
    try:
        text, marks = encode_payload(payload, 7, FIELDS)
    except UnrepresentableError as error:
        return str(error)
    return orjson.loads(text), marks


def test_keys_stand_as_they_are_unless_they_are_taken() -> None:
    text, _ = encode_payload({"title": "x", "id": 1, "_crossfade_id": 2}, UUID(int=1), FIELDS)
    assert orjson.loads(text) == {
        "title": "x",
        "_crossfade_key_id": 1,
        "_crossfade_key__crossfade_id": 2,
        "_crossfade_id": "uuid:00000000-0000-0000-0000-000000000001",
    }
    assert stored_key("id", frozenset({"pk"})) == "id"


@pytest.mark.parametrize(
    ("payload", "marks"),
    [
        ({"a": "x", "b": 1, "c": 2.5}, set()),
        ({"a": True, "b": False}, {"t:a", "b:b"}),
        ({"a": None, "b": [], "c": {}}, {"n:a", "c:b", "e:b", "c:c"}),
        ({"a": 1.0, "b": -0.0, "c": 1e300}, {"f:a", "f:b", "f:c"}),
        ({"a": [1, 2]}, {"c:a"}),
        ({"a": [1, 2.0], "b": [2.0]}, {"c:a", "f:a", "m:a", "c:b", "f:b"}),
        ({"a": [1, True], "b": ["x", False]}, {"c:a", "t:a", "m:a", "c:b", "b:b"}),
        ({"a": [None, 1]}, {"c:a", "v:a"}),
        ({"a": {"b": {"c": None}}}, {"c:a", "c:a.b", "n:a.b.c"}),
        ({"a": [{"b": None}, True]}, {"c:a", "t:a"}),
        ({"a": '["x"]', "b": ' {"y": 1}', "c": "x[]"}, {"s:a", "s:b"}),
        ({"x.y": None, "a b": {"ü": None}}, {'n:"x.y"', 'c:"a b"', 'n:"a b".ü'}),
        ({'a"b': None}, set()),
    ],
)
def test_values_that_filters_need_to_know_of_are_marked(payload: dict[str, Json], marks: set[str]) -> None:
    text, found = encode_payload(payload, 7, FIELDS)
    assert found == marks
    assert orjson.loads(text).get("_crossfade_kinds", []) == sorted(found)


def nested(levels: int) -> Json:
    value: Json = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "beyond 64 bits"),
        ([{"a": [-(2**63) - 1]}], "beyond 64 bits"),
        (math.nan, "JSON does not know"),
        ([{"a": [math.inf]}], "JSON does not know"),
        ("\ud800", "no exact JSON form"),
        (nested(101), "nests deeper"),
        ("x" * MAX_DYNAMIC_FIELD_BYTES, "65536"),
    ],
)
def test_what_cannot_stand_there_exactly_is_refused(value: Json, reason: str) -> None:
    with pytest.raises(UnrepresentableError, match=reason):
        encode_payload({"key": value}, 7, FIELDS)


def test_the_largest_payload_fits() -> None:
    overhead = len(encode_payload({"key": ""}, 7, FIELDS)[0])
    text, _ = encode_payload({"key": "x" * (MAX_DYNAMIC_FIELD_BYTES - overhead)}, 7, FIELDS)
    assert len(text) == MAX_DYNAMIC_FIELD_BYTES
    with pytest.raises(UnrepresentableError):
        encode_payload({"key": "x" * (MAX_DYNAMIC_FIELD_BYTES - overhead + 1)}, 7, FIELDS)
