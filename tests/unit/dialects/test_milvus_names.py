"""Names of collections and vectors: valid in Milvus, reversible, and no two alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.milvus.names import collection_name, name_of_collection, vector_field, vector_of_field
from proxy.errors import Untranslatable

VALID = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
PIECES = st.sampled_from(["_", "x", "_x", "2d", "_x2d_", "0", "a", "-", " ", "ü", "_x5f_", "id", "vector", "😀"])
NAMES = st.lists(PIECES, min_size=1, max_size=8).map("".join) | st.text(min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docs", "docs"),
        ("My_Docs2", "My_Docs2"),
        ("my-docs", "my_x2d_docs"),
        ("0docs", "_x30_docs"),
        ("_xdocs", "_xdocs"),
        ("a_x2d_b", "a_x5f_x2d_b"),
        ("_x2d", "_x2d"),
        ("_x5f_x2d", "_x5f_x2d"),  # to which the one before would be escaped, but need not be
        ("ü", "_xfc_"),
    ],
)
def test_names_are_escaped_only_where_they_must_be(name: str, expected: str) -> None:
    assert collection_name(name) == expected
    assert name_of_collection(expected) == name


@given(NAMES)
def test_a_collection_name_comes_back(name: str) -> None:
    there = collection_name(name)
    assert VALID.fullmatch(there)
    assert name_of_collection(there) == name


@given(NAMES, NAMES)
def test_two_collections_never_share_a_name(one: str, other: str) -> None:
    assert (collection_name(one) == collection_name(other)) == (one == other)


@given(st.from_regex(VALID, fullmatch=True) | st.lists(PIECES, min_size=1, max_size=8).map("".join))
def test_every_collection_on_the_server_can_be_named(there: str) -> None:
    if VALID.fullmatch(there):
        assert collection_name(name_of_collection(there)) == there


@given(st.lists(PIECES | st.sampled_from("$-%"), min_size=1, max_size=8).map("".join))
def test_a_name_that_is_never_given_stands_for_itself(there: str) -> None:
    """A server can be told to take more than letters, digits and underscores."""
    name = name_of_collection(there)
    assert name == there or collection_name(name) == there


@given(NAMES | st.just(""))
def test_a_vector_name_comes_back_from_its_field(name: str) -> None:
    field = vector_field(name)
    assert VALID.fullmatch(field)
    assert field != "id"
    assert vector_of_field(field) == name


@pytest.mark.parametrize("name", ["", "vector", "id", "_seq", "ISO", "_crossfade_id", "image"])
def test_fields_of_vectors_do_not_collide(name: str) -> None:
    names = ["", "vector", "id", "_seq", "ISO", "_crossfade_id", "image"]
    assert [other for other in names if vector_field(other) == vector_field(name)] == [name]
    assert vector_field(name) not in {"id", "_seq", "ISO", "_crossfade_id"}


@pytest.mark.parametrize("name", ["", "a" * 256, "-" * 60])
def test_a_name_without_room_is_refused(name: str) -> None:
    with pytest.raises(Untranslatable):
        collection_name(name)
