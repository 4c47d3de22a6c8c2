"""Filters: the model's tree -> a boolean expression of Milvus that holds for exactly the same rows, or Untranslatable.

An expression is exact for rows that this program wrote, under what is known of their marks (marks.py): `assumes` names
the marks whose absence it relies on, so that the caller can see whether that still held when the answer came. How a
condition on one field is written, and why, stands in conditions.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from proxy.dialects.milvus.conditions import Surroundings, field_condition
from proxy.dialects.milvus.ids import IdMapping, primary_key
from proxy.dialects.milvus.limits import MAX_WINDOW, UnrepresentableError
from proxy.dialects.milvus.marks import FOREIGN, Known, literal
from proxy.dialects.milvus.schema import Layout
from proxy.errors import Untranslatable
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
    PointId,
    Range,
)

MAX_CONDITIONS = 1000  # the full server's parser takes more than a second for a chain of as many


@dataclass(frozen=True, slots=True)
class Expression:
    """`text` is empty where every row matches."""

    text: str = ""
    assumes: frozenset[str] = frozenset()


def expression(filter: Filter | None, layout: Layout, known: Known, *, lite: bool) -> Expression:
    """The expression for `filter`. Raises Untranslatable (also where a mark is unknown that decides) and, for a path
    that is none, InvalidRequest."""
    if filter is None:
        return Expression()
    writer = _Writer(layout, Surroundings(layout.fields, known, lite))
    text = writer.write(filter, negated=False)
    return Expression("" if text == writer.everything else text, frozenset(writer.surroundings.assumed))


def key_condition(layout: Layout, operator: str, key: int | str) -> str:
    """A comparison of the primary key."""
    return f"{layout.primary_field} {operator} {literal(key) if isinstance(key, str) else key}"


def ids_condition(layout: Layout, ids: Sequence[PointId]) -> str:
    """Rows with one of the ids; ids that can have no row here are left out. Empty where that leaves none."""
    keys: list[str] = []
    for point_id in ids:
        try:
            key = primary_key(point_id, layout.ids, layout.max_id_bytes)
        except UnrepresentableError:
            continue
        keys.append(literal(key) if isinstance(key, str) else str(key))
    return f"{layout.primary_field} in [{', '.join(keys)}]" if keys else ""


@dataclass(slots=True)
class _Writer:
    layout: Layout
    surroundings: Surroundings
    conditions: int = 0

    # The expression languages have no constants that both servers take.

    @property
    def everything(self) -> str:
        zero = self._any_key
        return f"({key_condition(self.layout, '==', zero)} or {key_condition(self.layout, '!=', zero)})"

    @property
    def nothing(self) -> str:
        zero = self._any_key
        return f"({key_condition(self.layout, '==', zero)} and {key_condition(self.layout, '!=', zero)})"

    @property
    def _any_key(self) -> int | str:
        return 0 if self.layout.ids is IdMapping.INTEGER else ""

    def write(self, filter: Filter, *, negated: bool) -> str:
        """`negated`: somewhere below a Not."""
        match filter:
            case And(of):
                return self._joined("and", of, self.everything, negated=negated)
            case Or(of):
                return self._joined("or", of, self.nothing, negated=negated)
            case Not(of):
                return f"not ({self.write(of, negated=True)})"
            case AtLeast():
                return self.write(_expanded(filter), negated=negated)
            case HasId(ids):
                if len(ids) > MAX_WINDOW:
                    raise Untranslatable("filter: too large")
                return ids_condition(self.layout, ids) or self.nothing
            case HasVector(name):
                return self.everything if name in self.layout.vectors else self.nothing
            case Match() | MatchAny() | MatchExcept() | Range() | IsEmpty() | IsNull():
                self.surroundings.require_absent(FOREIGN, "rows written by others")
                return field_condition(filter, self.surroundings, negated=negated) or self.nothing
            case _:
                raise Untranslatable(f"filter: {_words(type(filter).__name__)}")

    def _joined(self, operator: str, of: tuple[Filter, ...], empty: str, *, negated: bool) -> str:
        self.conditions += len(of)
        if self.conditions > MAX_CONDITIONS:
            raise Untranslatable("filter: too large")
        parts = [self.write(part, negated=negated) for part in of]
        return f"({f' {operator} '.join(parts)})" if parts else empty


def _words(class_name: str) -> str:
    """ "GeoRadius" -> "geo radius"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", class_name).lower()


def _expanded(filter: AtLeast) -> Filter:
    """Some of the parts are all true, for one choice of `count` parts."""
    if filter.count <= 0:
        return And(())
    if filter.count > len(filter.of):
        return Or(())
    if math.comb(len(filter.of), filter.count) * filter.count > MAX_CONDITIONS:
        raise Untranslatable("filter: too large")
    return Or(tuple(And(chosen) for chosen in combinations(filter.of, filter.count)))
