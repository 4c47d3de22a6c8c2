"""NaN and infinity, which JSON does not know and some parsers take: meant for no store, so refused here."""

from __future__ import annotations

import json
import math
import re

from proxy.errors import InvalidRequest

NO_NUMBER = "Wrong input: NaN or an infinite number, only finite numbers are accepted"
_MAY_HOLD_ONE = re.compile(rb"NaN|Infinity|[0-9]\.?[eE]\+?[0-9]{3}|[0-9]{309}")


def refuse_what_is_no_number(body: bytes) -> None:
    """Of a body that a strict parser does not take. Raises InvalidRequest if that is because of such a number."""
    if _MAY_HOLD_ONE.search(body):
        try:
            json.loads(body, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError):
            return  # wrong in another way, which is for the source to say


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> float:
    raise InvalidRequest(f"{NO_NUMBER}: {text[:40]}")
