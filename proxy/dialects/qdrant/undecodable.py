"""Raised inside the dialect for a request, or a part of one, that the model cannot say exactly."""

from __future__ import annotations


class Undecodable(Exception):
    """`reason` is a short stable phrase; it becomes the reason of a PrimaryOnlyRead or an OpaqueWrite."""

    def __init__(self, reason: str = "undecodable") -> None:
        super().__init__(reason)
        self.reason = reason


def only(fields: object, allowed: frozenset[str]) -> dict[str, object]:
    """`fields` as a JSON object that has no other keys than `allowed`. Raises Undecodable."""
    if not isinstance(fields, dict):
        raise Undecodable
    if not fields.keys() <= allowed:
        raise Undecodable("unknown field")
    return fields
