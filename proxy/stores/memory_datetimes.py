"""Datetimes in payloads: the spellings that count as one, to the nanosecond.

An instant is whole nanoseconds since 1970 in UTC; a spelling without a zone is UTC. The accepted spellings
are Qdrant's (1.19, lib/segment/src/types.rs, FromStr for DateTimePayloadType): RFC 3339, the same with a
space or with "+0100" or "+01", without zone, without seconds, and a bare date. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

Instant = int  # nanoseconds since 1970-01-01T00:00:00Z

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPELLING = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?P<hour>\d{2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9})\d*)?"
    r"(?P<zone> ?UTC|[Zz]|(?P<sign>[+-])(?P<zone_hours>\d{2})(?::?(?P<zone_minutes>\d{2}))?)?)?)?",
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
    leap = match["second"] == "60"  # a leap second is the last second of its minute, and a second more
    try:
        moment = datetime.fromisoformat(match["date"]).replace(
            hour=int(match["hour"] or 0),
            minute=int(match["minute"] or 0),
            second=59 if leap else int(match["second"] or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    offset_minutes = int(match["zone_hours"] or 0) * 60 + int(match["zone_minutes"] or 0)
    if match["sign"] == "-":
        offset_minutes = -offset_minutes
    nanoseconds = int((match["fraction"] or "").ljust(9, "0")) + (10**9 if leap else 0)
    return instant_of(moment) - offset_minutes * 60 * 10**9 + nanoseconds
