"""Looking at parts of points that may not have been read yet: at one, or at many in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from proxy.errors import InvalidRequest
from proxy.model.points import Reader, Unread

V = TypeVar("V")


def looked(part: Mapping[str, V]) -> Mapping[str, V]:
    """The same, read if it was not. Raises InvalidRequest as `Unread` does."""
    if type(part) is dict or not isinstance(part, Unread):
        return part
    return part.look() if part._known is None else part._known


def look_at(parts: Sequence[Mapping[str, V]]) -> list[Mapping[str, V]]:
    """What they say: `looked` of each, those that were not read in one go. Raises InvalidRequest as they do."""
    found: list[Any] = [part._known if isinstance(part, Unread) else part for part in parts]
    if None not in found:
        return found
    unread: list[Any] = [part for part, known in zip(parts, found, strict=True) if known is None]
    readers = dict.fromkeys([part.read for part in unread])  # mostly one
    for read in readers:
        those = unread if len(readers) == 1 else [part for part in unread if part.read is read]
        if isinstance(read, Reader):
            for part, known in zip(those, read.all([part.wire for part in those]), strict=True):
                part._known = known
        else:
            for part in those:
                part.look()
    return [part.look() if isinstance(part, Unread) else part for part in parts]


def read_all(wires: Sequence[Any], read: Callable[[Any], Mapping[str, V]]) -> list[Mapping[str, V] | None]:
    """What is read from each; None where that raises InvalidRequest, as it will when somebody looks."""
    found: list[Mapping[str, V] | None] = []
    for wire in wires:
        try:
            found.append(read(wire))
        except InvalidRequest:
            found.append(None)
    return found
