"""Paths into payloads: reading, setting, removing and selecting the values they name.

A path is keys joined by dots; "[3]" names an element and "[]" every element of an array; a key with other
characters than letters, digits, "_" and "-" stands in double quotes. This is the path language of the
model's filters and selections, with the rules of the vendor it comes from (Qdrant 1.19,
lib/segment/src/json_path/mod.rs and parse.rs), so that the reference store can check the others:

- reading goes through an array only where the path says so ("a.b" finds nothing in {"a": [{"b": 1}]});
- setting replaces what is in the way, a null at the top level of the new value removes its key;
- removing an element by its number does nothing; "a[]" empties the array.

Pure. Functions that change a payload work on a copy that the caller owns.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from proxy.errors import InvalidRequest
from proxy.model import Json, Selection

Step = str | int | None  # a key, the number of an element, or every element
Path = tuple[Step, ...]

_FIRST = re.compile(r'(?P<raw>[\w-]+)|"(?P<quoted>[^\\"]*)"')
_NEXT = re.compile(r'\.(?P<raw>[\w-]+)|\."(?P<quoted>[^\\"]*)"|\[(?P<index>[0-9]+)\]|(?P<every>\[\])')


@functools.lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The steps of a path; the first is always a key. Raises InvalidRequest."""
    match = _FIRST.match(text)
    if match is None:
        raise InvalidRequest(f"invalid JSON path {text!r}: it must begin with a key")
    steps: list[Step] = [match["raw"] if match["raw"] is not None else match["quoted"]]
    position = match.end()
    while position < len(text):
        match = _NEXT.match(text, position)
        if match is None:
            raise InvalidRequest(f"invalid JSON path {text!r}: cannot read it from character {position}")
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["every"]:
        return None
    if match["index"] is not None:
        return int(match["index"])
    return match["raw"] if match["raw"] is not None else match["quoted"]


def values_at(payload: Mapping[str, Json], path: Path) -> list[Json]:
    """Every value that the path names; empty where there is none."""
    return list(_values(dict(payload), path))


def _values(value: Json, path: Path) -> Iterator[Json]:
    if not path:
        yield value
        return
    match path[0], value:
        case str() as key, dict():
            if key in value:
                yield from _values(value[key], path[1:])
        case int() as index, list():
            if index < len(value):
                yield from _values(value[index], path[1:])
        case None, list():
            for element in value:
                yield from _values(element, path[1:])
        case _:
            return


def merge(into: dict[str, Json], new: Mapping[str, Json]) -> None:
    """Put the keys of `new` into `into`; null removes a key."""
    for key, value in new.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value


def set_at(payload: dict[str, Json], path: Path, new: Mapping[str, Json]) -> None:
    """Merge `new` into the object at the path, made where it is missing."""
    first = path[0]
    if not isinstance(first, str):
        raise TypeError("a path begins with a key")
    payload[first] = _with(payload.get(first), path[1:], new)


def _with(value: Json, path: Path, new: Mapping[str, Json]) -> Json:
    """`value` after setting; it is changed in place where its kind allows."""
    if not path or isinstance(path[0], str):
        known: dict[str, Json] = value if isinstance(value, dict) else {}
        if path:
            set_at(known, path, new)
        else:
            merge(known, new)
        return known
    step, rest = path[0], path[1:]
    elements: list[Json] = value if isinstance(value, list) else []
    for index in range(len(elements)) if step is None else [step]:
        if index < len(elements):
            elements[index] = _with(elements[index], rest, new)
    return elements


def remove_at(payload: dict[str, Json], path: Path) -> None:
    """Remove what the path names."""
    for parent in list(_values(payload, path[:-1])):
        match path[-1], parent:
            case str() as key, dict():
                parent.pop(key, None)
            case None, list():
                parent.clear()
            case _:
                pass


def select_payload(payload: Mapping[str, Json], selection: Selection) -> dict[str, Json]:
    """The part of a payload that a selection names. Elements of arrays are reached by "[]" only."""
    if not selection.payload:
        return {}
    if selection.payload_include is not None:
        include = [parse_path(text) for text in selection.payload_include]
        return _included(dict(payload), (), include)
    if selection.payload_exclude is not None:
        exclude = [parse_path(text) for text in selection.payload_exclude]
        return _excluded(dict(payload), (), exclude)
    return dict(payload)


def _included(value: dict[str, Json], at: Path, patterns: list[Path]) -> dict[str, Json]:
    return {
        key: _included_value(inner, (*at, key), patterns)
        for key, inner in value.items()
        if _included_path((*at, key), patterns)
    }


def _included_value(value: Json, at: Path, patterns: list[Path]) -> Json:
    if isinstance(value, dict):
        return _included(value, at, patterns)
    if isinstance(value, list):
        every = (*at, None)
        return [_included_value(element, every, patterns) for element in value if _included_path(every, patterns)]
    return value


def _included_path(path: Path, patterns: list[Path]) -> bool:
    """Whether the path leads to, or lies under, one of the patterns."""
    return any(all(a == b for a, b in zip(path, pattern, strict=False)) for pattern in patterns)


def _excluded(value: dict[str, Json], at: Path, patterns: list[Path]) -> dict[str, Json]:
    return {
        key: _excluded_value(inner, (*at, key), patterns) for key, inner in value.items() if (*at, key) not in patterns
    }


def _excluded_value(value: Json, at: Path, patterns: list[Path]) -> Json:
    if isinstance(value, dict):
        return _excluded(value, at, patterns)
    if isinstance(value, list):
        every = (*at, None)
        return [] if every in patterns else [_excluded_value(element, every, patterns) for element in value]
    return value
