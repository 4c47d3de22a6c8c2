"""Ids: each has one primary key, from which it comes back with its type, or a reason why not."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.milvus.ids import IdMapping, point_id_of, primary_key, tagged, untagged
from proxy.dialects.milvus.limits import UnrepresentableError
from proxy.model import PointId

SOME_UUID = UUID("0b4b1f2a-8f3c-4e7d-9a51-3c2d1e0f9a8b")
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
ODD_TEXTS = st.sampled_from(
    [
        *("", "7", "007", "-7", "18446744073709551616", "str:", "str:7", "str:str:7", "str:a", "u64:7"),
        *(str(SOME_UUID), str(SOME_UUID).upper(), SOME_UUID.hex, f"str:{SOME_UUID}"),
    ]
)
IDS: st.SearchStrategy[PointId] = st.integers(0, 2**64 - 1) | st.uuids() | TEXTS | ODD_TEXTS


@given(IDS)
def test_any_id_comes_back_from_a_text_key(point_id: PointId) -> None:
    key = primary_key(point_id, IdMapping.TEXT)
    assert isinstance(key, str)
    found = point_id_of(key)
    assert (type(found), found) == (type(point_id), point_id)


@given(IDS, IDS)
def test_two_ids_never_share_a_text_key(one: PointId, other: PointId) -> None:
    same = (type(one), one) == (type(other), other)
    assert (primary_key(one, IdMapping.TEXT) == primary_key(other, IdMapping.TEXT)) == same


@given(TEXTS | ODD_TEXTS)
def test_a_key_that_somebody_else_chose_leads_back_to_itself(key: str) -> None:
    assert primary_key(point_id_of(key), IdMapping.TEXT) == key


@given(IDS)
def test_any_id_comes_back_from_its_tagged_form(point_id: PointId) -> None:
    found = untagged(tagged(point_id))
    assert (type(found), found) == (type(point_id), point_id)


@pytest.mark.parametrize("text", [None, 7, "", "7", "u64:", "u64:007", "u64:x", "u64:18446744073709551616", "uuid:7"])
def test_what_is_no_tagged_id_is_none(text: object) -> None:
    assert untagged(text) is None


def test_integer_keys_are_the_ids() -> None:
    for point_id in (0, 7, 2**63 - 1):
        assert primary_key(point_id, IdMapping.INTEGER) == point_id
        assert point_id_of(point_id) == point_id


@pytest.mark.parametrize("point_id", [2**63, 2**64 - 1, SOME_UUID, "7"])
def test_integer_keys_refuse_what_they_cannot_hold(point_id: PointId) -> None:
    with pytest.raises(UnrepresentableError, match="integer"):
        primary_key(point_id, IdMapping.INTEGER)


@pytest.mark.parametrize("point_id", ["x" * 1025, "ü" * 513, "\ud800"])
def test_text_keys_refuse_what_they_cannot_hold(point_id: str) -> None:
    with pytest.raises(UnrepresentableError):
        primary_key(point_id, IdMapping.TEXT)
