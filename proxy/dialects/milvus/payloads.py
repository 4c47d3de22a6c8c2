"""Payloads: a point's payload <-> the JSON object in its row's dynamic field (`$meta`).

The payload's keys stand there as they are, so that an application finds its data under the names it knows. A key that
is taken (a field of the collection, a name of the vendor's, our own prefix) gets `_crossfade_key_` in front. Two
reserved keys stand beside them: the id with its type, and the marks.

**Marks** tell of values that a filter expression would judge differently than the model does: filters use them to be
exact (filters.py), so a row without odd values has none. A mark is a letter and the path, "c:tags":

    c  an object or array          n  null                 e  an empty array
    v  an array with null in it
    t  true, or an array with it   b  false, or an array with it
    f  a whole number written as a float (1.0), or an array with one
    m  an array that holds an integer beside a boolean or such a float
    s  a string that looks like a JSON object or array

Elements of arrays have no paths of their own. What JSON cannot say exactly on both ends is refused, never bent:
integers beyond 64 signed bits, NaN, infinity, lone surrogates, more than 65,536 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from proxy.dialects.milvus.ids import tagged, untagged
from proxy.dialects.milvus.limits import INT64, MAX_DYNAMIC_FIELD_BYTES, MAX_NESTING, UnrepresentableError
from proxy.dialects.milvus.names import DYNAMIC_FIELD, RESERVED_PREFIX
from proxy.dialects.milvus.paths import Path, path_text
from proxy.model import Json, PointId

ID_KEY: Final = RESERVED_PREFIX + "id"
MARKS_KEY: Final = RESERVED_PREFIX + "kinds"
_ESCAPED_KEY: Final = RESERVED_PREFIX + "key_"
_ESCAPED_KEY_BYTES: Final = _ESCAPED_KEY.encode()
_MAY_BEGIN_JSON: Final = frozenset("[{ \t\r\n")
_NO_MARKS: Final[frozenset[str]] = frozenset()
_LEAST: Final = INT64[0]
_GREATEST: Final = INT64[-1]
_VENDOR_KEYS: Final = frozenset({DYNAMIC_FIELD, "_seq", "_partition"})  # Milvus Lite drops the last two without a word


def stored_key(key: str, fields: frozenset[str]) -> str:
    """The key in the dynamic field for a top-level key of a payload; `fields` are the collection's own."""
    taken = key in fields or key in _VENDOR_KEYS or key.startswith(RESERVED_PREFIX)
    return _ESCAPED_KEY + key if taken else key


def encode_payload(
    payload: Mapping[str, Json], point_id: PointId, fields: frozenset[str]
) -> tuple[bytes, frozenset[str]]:
    """The dynamic field's JSON, and the marks in it. Raises UnrepresentableError."""
    (text,), (marks,) = encode_payloads([payload], [point_id], fields)
    return text, marks


def encode_payloads(
    payloads: Sequence[Mapping[str, Json]], point_ids: Sequence[PointId], fields: frozenset[str]
) -> tuple[list[bytes], list[frozenset[str]]]:
    """Of each of many, as `encode_payload`: what can be said of all of their keys at once has a price once. Raises
    UnrepresentableError if one of them has no form."""
    names: set[str] = set().union(*payloads)
    names_stay = all(stored_key(name, fields) == name for name in names)
    texts: list[bytes] = []
    marks: list[frozenset[str]] = []
    for payload, point_id in zip(payloads, point_ids, strict=True):
        if names_stay and _is_plain(payload.values()):
            tag = f"u64:{point_id}" if type(point_id) is int else tagged(point_id)  # a call for each has a price
            texts.append(_text({**payload, ID_KEY: tag}))
            marks.append(_NO_MARKS)
        else:
            text, found = _surveyed(payload, point_id, fields)
            texts.append(text)
            marks.append(found)
    if (largest := max(map(len, texts), default=0)) > MAX_DYNAMIC_FIELD_BYTES:
        raise UnrepresentableError(
            f"the payload takes {largest} bytes with its id, the dynamic field holds {MAX_DYNAMIC_FIELD_BYTES}"
        )
    return texts, marks


def _is_plain(values: Iterable[Json]) -> bool:
    """Whether the values stand in the dynamic field as they are, without a mark: most do, and this is quickly seen."""
    for value in values:
        if type(value) is str:
            if value[:1] in _MAY_BEGIN_JSON:
                return False
        elif type(value) is int:
            if not _LEAST <= value <= _GREATEST:
                return False
        elif type(value) is not float or value % 1.0 == 0.0 or not math.isfinite(value):
            return False
    return True


def _surveyed(payload: Mapping[str, Json], point_id: PointId, fields: frozenset[str]) -> tuple[bytes, frozenset[str]]:
    """What `encode_payload` says of one that is not plain."""
    survey = _Survey()
    survey.of_object((), payload, MAX_NESTING)
    stored: dict[str, Any] = {stored_key(key, fields): value for key, value in payload.items()}
    stored[ID_KEY] = tagged(point_id)
    if survey.marks:
        stored[MARKS_KEY] = sorted(survey.marks)
    return _text(stored), frozenset(survey.marks)


def _text(stored: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(stored)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise UnrepresentableError(f"the payload has no exact JSON form: {error}") from error


def decode_payload(text: bytes, key: PointId) -> tuple[PointId, dict[str, Json]]:
    """The id in the reserved key (`key`, what the primary key says, if there is none) and the payload without anything
    of ours."""
    stored: dict[str, Any] = orjson.loads(text) if text else {}
    tag = stored.pop(ID_KEY, None)
    expected = f"u64:{key}" if type(key) is int else tagged(key)  # a call for each of many rows has a price
    point_id = key if tag == expected else untagged(tag)  # which takes five times as long
    stored.pop(MARKS_KEY, None)
    if _ESCAPED_KEY_BYTES in text or b"\\" in text:
        stored = {name.removeprefix(_ESCAPED_KEY): value for name, value in stored.items()}
    return key if point_id is None else point_id, stored


@dataclass(slots=True)
class _Survey:
    """Walks a payload once: collects marks, and raises for numbers that JSON cannot hold on both ends."""

    marks: set[str] = field(default_factory=set)

    def of_object(self, path: Path, members: Mapping[str, Json], levels: int) -> None:
        for key, value in members.items():
            self._of_value((*path, key), value, levels - 1)

    def _of_value(self, path: Path, value: Json, levels: int) -> None:
        kinds = "".join(_kinds(value))
        if kinds and (text := path_text(path)) is not None:
            self.marks.update(f"{kind}:{text}" for kind in kinds)
        match value:
            case dict():
                _check_levels(levels)
                self.of_object(path, value, levels)
            case list():
                _check_elements(value, levels)
            case _:
                _check_number(value)


def _kinds(value: Json) -> Iterator[str]:
    """The letters of the marks that the value gets."""
    match value:
        case None:
            yield "n"
        case dict():
            yield "c"
        case list():
            yield from _kinds_of_array(value)
        case str():
            if value.lstrip(" \t\r\n")[:1] in ("[", "{"):
                yield "s"
        case _:
            yield from _kinds_of_number(value)


def _kinds_of_array(elements: list[Json]) -> Iterator[str]:
    yield "c"
    if not elements:
        yield "e"
    if None in elements:
        yield "v"
    found = {kind for element in elements if isinstance(element, bool | float) for kind in _kinds_of_number(element)}
    yield from found
    if found and any(isinstance(element, int) and not isinstance(element, bool) for element in elements):
        yield "m"


def _kinds_of_number(value: bool | int | float) -> Iterator[str]:
    if value is True:
        yield "t"
    elif value is False:
        yield "b"
    elif isinstance(value, float) and value.is_integer():
        yield "f"


def _check_elements(elements: list[Json], levels: int) -> None:
    _check_levels(levels)
    for element in elements:
        match element:
            case list():
                _check_elements(element, levels - 1)
            case dict():
                _check_elements(list(element.values()), levels - 1)
            case _:
                _check_number(element)


def _check_levels(levels: int) -> None:
    if levels < 0:
        raise UnrepresentableError(f"the payload nests deeper than {MAX_NESTING} levels")


def _check_number(value: bool | int | float | str | None) -> None:
    if isinstance(value, int) and value not in INT64:
        raise UnrepresentableError(f"the payload has an integer beyond 64 bits: {value}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UnrepresentableError(f"the payload has a number that JSON does not know: {value}")
