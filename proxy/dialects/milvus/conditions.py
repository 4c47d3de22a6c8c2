"""Conditions on one field of the payload, as expressions of Milvus.

What the servers do with the dynamic field, measured on Milvus 2.3.5 and Milvus Lite 3.2.2, and what follows:

- `$meta["k"] == v` looks at scalars only, `json_contains` at the elements of an array only: a match needs both, unless
  no row holds an array at k.
- 1 equals 1.0 on both, and on Lite true equals 1 and is a number: rows with such values are marked (payloads.py) and
  left out by their mark. Booleans are matched by their marks alone.
- The full server knows true and false only. Lite has a third value, for what is missing or of another type, which
  `not` keeps: below a `not`, comparisons for Lite are guarded so that it cannot arise.
- Lite reads a string that holds JSON as the object or array: marked, and left out.
- Lite takes neither `in` for the dynamic field nor `json_contains` on `$meta[...]`: it gets a chain of `or`, and bare
  names.
- A range looks at no element of an array: no equivalent where a row may hold one.
- `exists` is true for null on the full server and false on Lite: null is told by its mark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from proxy.dialects.milvus.limits import INT64
from proxy.dialects.milvus.marks import Known, carries, literal, mark
from proxy.dialects.milvus.paths import Path, parse_path
from proxy.dialects.milvus.payloads import stored_key
from proxy.errors import Untranslatable
from proxy.model import IsEmpty, IsNull, Match, MatchAny, MatchExcept, Range

FieldCondition = Match | MatchAny | MatchExcept | Range | IsEmpty | IsNull

_BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITE_KEYWORDS = frozenset(
    {"and", "or", "not", "in", "like", "is", "null", "exists", "iso", "interval", "true", "false"}
)
_EXACT_FLOATS = 2.0**53  # integers beyond have no float of their own


@dataclass(slots=True)
class Surroundings:
    """What decides how a condition is written: the collection's fields, what is known of its rows, the server."""

    fields: frozenset[str]
    known: Known
    lite: bool
    assumed: set[str] = field(default_factory=set)

    def absent(self, name: str) -> bool:
        """Whether no row carries the mark; if so, the expression relies on it."""
        if self.known.get(name, True):
            return False
        self.assumed.add(name)
        return True

    def require_absent(self, name: str, reason: str) -> None:
        """Raises Untranslatable with the reason if a row may carry the mark."""
        if not self.absent(name):
            raise Untranslatable(f"filter: {reason}" if name in self.known else "filter: values not surveyed yet")


def field_condition(condition: FieldCondition, surroundings: Surroundings, *, negated: bool) -> str:
    """The expression; empty if no row can match. `negated`: somewhere below a `not`."""
    written = _Field(parse_path(condition.field), surroundings, negated)
    match condition:
        case Match(_, bool() as value):
            return carries(written.mark("t" if value else "b"))
        case Match(_, value):
            return written.match([value])
        case MatchAny(_, values):
            return written.match(values)
        case MatchExcept(_, values):
            return written.match_except(values)
        case Range():
            return written.range(condition)
        case IsEmpty():
            return written.is_empty()
        case IsNull():
            # Qdrant's versions differ in whether an array with null in it is null.
            surroundings.require_absent(written.mark("v"), "null in an array")
            return carries(written.mark("n"))
        case _:
            assert_never(condition)


@dataclass(frozen=True, slots=True)
class _Field:
    path: Path
    around: Surroundings
    negated: bool

    def mark(self, kind: str) -> str:
        return mark(kind, self.path)

    # --- conditions ------------------------------------------------------------------------

    def match(self, values: Sequence[str | int]) -> str:
        strings = [literal(value) for value in values if isinstance(value, str)]
        numbers = _integer_literals(value for value in values if isinstance(value, int))
        return _any_of([self._strings(strings), self._integers(numbers)])

    def match_except(self, values: Sequence[str | int]) -> str:
        self.around.require_absent(self.mark("c"), "except over arrays or objects")
        strings = [literal(value) for value in values if isinstance(value, str)]
        numbers = _integer_literals(value for value in values if isinstance(value, int))
        guarded = _Field(self.path, self.around, negated=True)
        listed = _any_of([guarded._equal(strings), guarded._equal_integers(numbers)])
        return _all_of(
            [self._exists, f"not {carries(self.mark('n'))}", *([f"not ({listed})"] if listed else []), *self._no_text]
        )

    def range(self, bounds: Range) -> str:
        comparisons = _comparisons(bounds, self._value, lite=self.around.lite)
        if comparisons is None:
            return ""
        self.around.require_absent(self.mark("c"), "range over arrays or objects")
        guards = [self._exists, f'not ({self._value} like "%")'] if self.around.lite and self.negated else []
        return _all_of([*guards, *comparisons, *self._without("tb" if self.around.lite else ""), *self._no_text])

    def is_empty(self) -> str:
        present = _all_of([self._exists, *self._no_text])
        return _any_of([f"not {present}", carries(self.mark("n")), carries(self.mark("e"))])

    # --- their parts -----------------------------------------------------------------------

    def _strings(self, literals: list[str]) -> str:
        if not literals or self.around.absent(self.mark("c")):
            return self._equal(literals)
        contained = _all_of([self._contains(literals), *self._without("s" if self.around.lite else ""), *self._no_text])
        return _any_of([self._equal(literals), contained])

    def _integers(self, literals: list[str]) -> str:
        if not literals or self.around.absent(self.mark("c")):
            return self._equal_integers(literals)
        contained = self._contains(literals)
        if self.around.lite:
            confused = self._without(self._confused_with(literals))
            if confused:
                self.around.require_absent(self.mark("m"), "integers beside booleans or floats in an array")
            contained = _all_of([contained, *confused, *self._without("s"), *self._no_text])
        return _any_of([self._equal_integers(literals), contained])

    def _equal_integers(self, literals: list[str]) -> str:
        equal = self._equal(literals)
        return _all_of([equal, *self._without(self._confused_with(literals))]) if equal else ""

    def _confused_with(self, literals: list[str]) -> str:
        """Kinds of values that the server takes for one of the integers."""
        return "ftb" if self.around.lite and {"0", "1"} & set(literals) else "f"

    def _equal(self, literals: list[str]) -> str:
        """Scalars that equal one of the literals."""
        if not literals:
            return ""
        if len(literals) == 1 or self.around.lite:
            equal = _any_of([f"{self._value} == {each}" for each in literals])
        else:
            equal = f"{self._value} in [{', '.join(literals)}]"
        guards = [self._exists] if self.around.lite and self.negated else []
        return _all_of([*guards, equal, *self._no_text])

    def _contains(self, literals: list[str]) -> str:
        """Arrays with an element that equals one of the literals. (Lite's json_contains takes no negative number.)"""
        return f"json_contains_any({self._array}, [{', '.join(literals)}])"

    def _without(self, kinds: str) -> list[str]:
        """Not rows with one of these marks at the path, as far as there may be any."""
        marks = [self.mark(kind) for kind in kinds]
        return [f"not {carries(each)}" for each in marks if not self.around.absent(each)]

    @property
    def _no_text(self) -> list[str]:
        """Not rows where Lite would look into a string for the rest of the path."""
        top = mark("s", self.path[:1])
        looks = self.around.lite and len(self.path) > 1 and not self.around.absent(top)
        return [f"not {carries(top)}"] if looks else []

    # --- names of the field ------------------------------------------------------------------

    @property
    def _keys(self) -> list[str]:
        return [stored_key(self.path[0], self.around.fields), *self.path[1:]]

    @property
    def _value(self) -> str:
        return "$meta" + "".join(f"[{literal(key)}]" for key in self._keys)

    @property
    def _exists(self) -> str:
        return f"(exists {self._value})"

    @property
    def _array(self) -> str:
        if not self.around.lite:
            return self._value
        first, *rest = self._keys
        if not _BARE_NAME.fullmatch(first) or first.lower() in _LITE_KEYWORDS:
            raise Untranslatable("filter: array under a name with special characters, on Milvus Lite")
        return first + "".join(f"[{literal(key)}]" for key in rest)


def _integer_literals(values: Iterable[int]) -> list[str]:
    """Literals of the values that a field can hold; the servers cannot read the smallest."""
    held = [value for value in values if value in INT64]
    if INT64[0] in held:
        raise Untranslatable("filter: smallest integer")
    return [str(value) for value in held]


def _comparisons(bounds: Range, value: str, *, lite: bool) -> list[str] | None:
    """Comparisons with floats, as the model makes them; None if no number can pass."""
    written: list[str] = []
    for operator, bound in ((">", bounds.gt), (">=", bounds.gte), ("<", bounds.lt), ("<=", bounds.lte)):
        if bound is None:
            continue
        number = float(bound)
        if math.isnan(number):
            return None
        if math.isinf(number):
            if (number > 0) == (operator[0] == ">"):
                return None
            continue
        if lite and abs(number) >= _EXACT_FLOATS:
            raise Untranslatable("filter: range beyond 53 bits, on Milvus Lite")
        written.append(f"{value} {operator} {number!r}")
    return written or [f"{value} >= {-1.7976931348623157e308!r}"]


def _any_of(parts: Iterable[str]) -> str:
    return _joined("or", parts)


def _all_of(parts: Iterable[str]) -> str:
    return _joined("and", parts)


def _joined(operator: str, parts: Iterable[str]) -> str:
    written = [part for part in parts if part]
    return written[0] if len(written) == 1 else f"({f' {operator} '.join(written)})" if written else ""
