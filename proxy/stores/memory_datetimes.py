"""Datetimes in payloads: the spellings that count as one, and the instants they name.

An instant is nanoseconds since 1970 in UTC, cut to the microsecond as the vendor's engine cuts it (edge 0.9;
servers up to 1.19 only where the field has a payload index). A spelling without a zone is UTC. The accepted spellings
are Qdrant's (1.19, lib/segment/src/types.rs, FromStr for DateTimePayloadType), which are chrono's: RFC 3339 and
what its lenient formats take, with a space for the "T", numbers of one digit, "+0100", "+01" or "UTC" for the
zone, without zone, without seconds, or a bare date. Years before 1 and after 9999 are not read here. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

Instant = int  # nanoseconds since 1970-01-01T00:00:00Z
LEAP_NANOSECONDS = 999_999_500  # after every other instant of its minute, before the next

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPELLING = re.compile(
    r"\s*\+?(?P<year>\d{1,4})-\s*(?P<month>\d{1,2})-\s*(?P<day>\d{1,2})"
    r"(?:(?:[Tt]|\s)\s*(?P<hour>\d{1,2}):\s*(?P<minute>\d{1,2})"
    r"(?::\s*(?P<second>\d{1,2})(?:\.(?P<fraction>\d{1,6})\d*)?"
    r"(?P<zone>\s*(?:[Zz]|[Uu][Tt][Cc]|(?P<sign>[+−-])(?P<zone_hours>[01]\d|2[0-3])[:\s]*(?P<zone_minutes>[0-5]\d)?"
    r"))?)?)?",
)


def instant_of(moment: datetime) -> Instant:
    """Nanoseconds since 1970; a datetime without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


def parse_instant(text: str) -> Instant | None:
    """The instant that a payload's text names, None if it names none."""
    match = _SPELLING.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (
        int(match[part] or 0) for part in ("year", "month", "day", "hour", "minute", "second")
    )
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError:
        return None
    offset_minutes = int(match["zone_hours"] or 0) * 60 + int(match["zone_minutes"] or 0)
    if match["sign"] in {"-", "−"}:
        offset_minutes = -offset_minutes
    nanoseconds = LEAP_NANOSECONDS if leap else int((match["fraction"] or "").ljust(6, "0")) * 1000
    return instant_of(moment) - offset_minutes * 60 * 10**9 + nanoseconds
