"""Logs: one JSON object a line, or a readable text form. Never payloads, vectors, keys or ids.

That promise does not rest on care at every call, but on what is let through:

- A message is a constant; what varies is a field (`extra=`), and only the names in `FIELDS` are written,
  with plain values of bounded length. A dropped field leaves its name in `dropped`. A test reads every
  logging call of the program and holds it to both rules.
- An exception is written as its type and the places it went through. Its text comes along only for types
  whose text this program wrote or that speak of connections: a store's refusal, or a KeyError, may quote a
  point.
- Of a library's record, the first line of its template is written without its arguments.
"""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson

from proxy.errors import ConfigError, GateClosed, JournalError, Throttled, Unavailable

# Every field that the program logs. Numbers with a unit in their name need no entry (`UNITS`).
FIELDS = frozenset(
    {
        "address",  # host:port of a listener or store
        "attempt",
        "cap",
        "changes",  # how many things an edit changed
        "collection",
        "count",
        "differences",
        "dropped",
        "epoch",
        "error",  # an exception, never its text: see `_said`
        "job",
        "kind",
        "level",
        "listener",
        "method",  # gRPC method or HTTP verb; never a path, which may hold an id
        "operation",
        "outcome",
        "owner",  # a process that has the journal open
        "pages",
        "parked",
        "path",  # of a file of ours: configuration, journal, token
        "percent",
        "phase",
        "points",
        "policy",
        "port",
        "position",  # in the journal
        "primary",  # which side: source or target
        "problem",  # why, in words of this program
        "problems",  # of a configuration, a line each
        "reason",  # a short stable phrase
        "role",
        "route",
        "signal",
        "status",
        "store",
        "task",
        "vendor",
        "version",
        "weight",
        "worker",  # its number; in every line of a worker
    }
)
UNITS = ("_seconds", "_bytes", "_points", "_count", "_percent", "_keys", "_records")
_SPEAKING = (ConfigError, GateClosed, JournalError, Throttled, Unavailable, OSError)
_LONGEST_TEXT = 2000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

Style = Literal["json", "text"]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None


def configure(style: Style = "json", level: str = "info", stream: TextIO | None = None, worker: int = 0) -> None:
    """Send the program's logs to `stream` (standard error), of a worker with its number. Libraries speak from warnings
    upwards, and web access logs not at all: their paths hold ids."""
    handler = logging.StreamHandler(stream or sys.stderr)
    if worker:
        handler.addFilter(partial(_number, worker))
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("crossfade").setLevel(level.upper())
    logging.getLogger("aiohttp.access").disabled = True


def _number(worker: int, record: logging.LogRecord) -> bool:
    record.worker = worker
    return True


class JsonFormatter(logging.Formatter):
    """time (RFC 3339, UTC), level, logger, message, the fields, and error where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        entry.update(_fields(record))
        if error := _error(record.exc_info):
            entry["error"] = error
        return orjson.dumps(entry).decode()


class TextFormatter(logging.Formatter):
    """The same for people: `12:00:01.250 info  crossfade.app: message  route=docs`."""

    def format(self, record: logging.LogRecord) -> str:
        time = f"{_time(record):%H:%M:%S}.{int(record.msecs):03d}"
        line = f"{time} {record.levelname.lower():<8} {record.name}: {_message(record)}"
        line += "".join(f"  {name}={value}" for name, value in _fields(record).items())
        if error := _error(record.exc_info):
            line += f"  error={error['type']}" + (f": {error['text']}" if "text" in error else "")
            line += "".join(f"\n    {place}" for place in error["at"])
        return line


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _message(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] == "crossfade":
        return record.getMessage()
    return str(record.msg).partition("\n")[0][:_LONGEST_TEXT]


def _fields(record: logging.LogRecord) -> dict[str, str | int | float | None]:
    fields: dict[str, str | int | float | None] = {}
    dropped = []
    for name, value in vars(record).items():
        if name in _STANDARD:
            continue
        if name == "error" and isinstance(value, BaseException):
            fields[name] = _said(value)
        elif not _allowed(name, value):
            dropped.append(name)
        elif isinstance(value, str):
            fields[name] = value[:_LONGEST_TEXT]
        else:
            fields[name] = value
    if dropped:
        fields["dropped"] = ",".join(sorted(dropped))
    return fields


def _allowed(name: str, value: object) -> bool:
    if name in FIELDS - {"error"}:
        return value is None or isinstance(value, str | int | float)
    return name.endswith(UNITS) and isinstance(value, int | float)


def _error(exc_info: ExcInfo | bool) -> dict[str, Any] | None:
    if not isinstance(exc_info, tuple) or exc_info[1] is None:
        return None
    error = exc_info[1]
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    described: dict[str, Any] = {"type": type(error).__name__, "at": places}
    if isinstance(error, _SPEAKING):
        described["text"] = str(error)[:_LONGEST_TEXT]
    return described


def _said(error: BaseException) -> str:
    """An exception in a field, without where it came from: `Unavailable: no route to host`, or only `Refused`."""
    text = f": {error}" if isinstance(error, _SPEAKING) else ""
    return f"{type(error).__name__}{text}"[:_LONGEST_TEXT]
