"""What is known of a collection's rows: which marks (payloads.py) occur, and what a filter needs to know of them.

`Known` maps a mark to whether any row may carry it; what it lacks is unknown. `FOREIGN` stands among the marks for
"there are rows that somebody else wrote", whose values nobody surveyed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from proxy.dialects.milvus.paths import Path, parse_path, path_text
from proxy.dialects.milvus.payloads import ID_KEY, MARKS_KEY
from proxy.model import (
    And,
    AtLeast,
    Filter,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    Not,
    Or,
    Range,
)

Known = Mapping[str, bool]

# Kinds that matter to a match on any server, and besides on Milvus Lite.
_STRING_KINDS = ("c", "s")
_INTEGER_KINDS = ("cf", "tbms")

FOREIGN = "foreign rows"


def mark(kind: str, path: Path) -> str:
    """The mark `kind` of a path that filters can name."""
    return f"{kind}:{path_text(path)}"


def literal(text: str) -> str:
    """A string literal of the expression language. Both servers take all other characters as they are."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def carries(name: str) -> str:
    """The expression for rows that carry a mark."""
    return f"json_contains({MARKS_KEY}, {literal(name)})"


def probe(name: str) -> str:
    """The expression that finds a row with the mark, or for FOREIGN one that somebody else wrote."""
    return f"not (exists $meta[{literal(ID_KEY)}])" if name == FOREIGN else carries(name)


def relevant_marks(filter: Filter, *, lite: bool) -> frozenset[str]:
    """The marks that decide how `filter` is written. Raises what `parse_path` raises."""
    return frozenset(_relevant(filter, lite))


def _relevant(filter: Filter, lite: bool) -> Iterator[str]:
    match filter:
        case And(of) | Or(of) | AtLeast(_, of):
            for part in of:
                yield from _relevant(part, lite)
        case Not(of):
            yield from _relevant(of, lite)
        case Match() | MatchAny() | MatchExcept() | Range() | IsEmpty() | IsNull():
            yield from _relevant_to_field(filter, lite)
        case HasId() | HasVector():
            return
        case _:  # without equivalent anyway
            return


def _relevant_to_field(
    condition: Match | MatchAny | MatchExcept | Range | IsEmpty | IsNull, lite: bool
) -> Iterator[str]:
    path = parse_path(condition.field)
    yield FOREIGN
    always, on_lite = _kinds(condition)
    for kind in always + (on_lite if lite else ""):
        yield mark(kind, path)
    if lite and len(path) > 1:
        yield mark("s", path[:1])


def _kinds(condition: Match | MatchAny | MatchExcept | Range | IsEmpty | IsNull) -> tuple[str, str]:
    match condition:
        case Match(_, bool()) | IsEmpty():
            return ("", "")
        case IsNull():
            return ("v", "")
        case Range():
            return ("c", "tb")
        case Match(_, value):
            return _STRING_KINDS if isinstance(value, str) else _INTEGER_KINDS
        case MatchAny(_, values):
            return _STRING_KINDS if all(isinstance(value, str) for value in values) else _INTEGER_KINDS
        case MatchExcept(_, values):
            return ("c", "") if all(isinstance(value, str) for value in values) else ("cf", "tb")
        case _:
            assert_never(condition)
