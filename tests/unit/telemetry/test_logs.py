"""Logs are structured, and nothing a client owns gets into them."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from proxy.errors import Refused, Unavailable
from proxy.telemetry import logs

PROXY = Path(__file__).parents[3] / "proxy"
SECRET = "s3cr3t-of-a-client"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    ours, access = logging.getLogger("crossfade"), logging.getLogger("aiohttp.access")
    before = (root.handlers[:], root.level, ours.level, access.disabled)
    yield io.StringIO()
    root.handlers[:], root.level, ours.level, access.disabled = before


def entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    logging.getLogger("crossfade.app").info("route is ready", extra={"route": "docs", "age_seconds": 1.5})
    (entry,) = entries(stream)
    assert str(entry.pop("time")).endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "crossfade.app",
        "message": "route is ready",
        "route": "docs",
        "age_seconds": 1.5,
    }


@pytest.mark.parametrize(
    "extra",
    [
        {"payload": {"text": SECRET}},
        {"vector": [0.1, 0.271828]},
        {"point": SECRET},
        {"key": SECRET},
        {"keys": (SECRET,)},
        {"ids": [1, 2]},
        {"body": SECRET.encode()},
        {"api_key": SECRET},
        {"token": SECRET},
        {"authorization": f"Bearer {SECRET}"},
        {"password": SECRET},
        {"filter": SECRET},
        {"hint": object()},
        {"error": SECRET},  # its text may quote a point; the exception itself is what is passed
        {"route": {"nested": SECRET}},  # an allowed name does not let a container in
        {"late_keys": (SECRET,)},  # a unit in the name lets only numbers in
    ],
)
@pytest.mark.parametrize("style", ["json", "text"])
def test_what_belongs_to_a_client_is_dropped(stream: io.StringIO, style: logs.Style, extra: dict[str, object]) -> None:
    logs.configure(style, "info", stream)
    logging.getLogger("crossfade.test").warning("something happened", extra=extra)
    written = stream.getvalue()
    assert SECRET not in written
    assert "0.271828" not in written
    assert "dropped" in written
    assert next(iter(extra)) in written  # so that the loss is seen


@pytest.mark.parametrize("style", ["json", "text"])
def test_an_error_that_may_quote_a_point_is_written_without_its_text(stream: io.StringIO, style: logs.Style) -> None:
    logs.configure(style, "info", stream)
    for error in (KeyError(SECRET), Refused(f"no point with id {SECRET}"), ValueError(SECRET)):
        try:
            raise error
        except (KeyError, Refused, ValueError):
            logging.getLogger("crossfade.test").exception("failed")
    assert SECRET not in stream.getvalue()
    assert "test_logs.py" in stream.getvalue()
    assert "Refused" in stream.getvalue()


def test_an_error_about_a_connection_keeps_its_text(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    try:
        raise Unavailable("127.0.0.1:1 refused the connection")
    except Unavailable:
        logging.getLogger("crossfade.test").exception("probe failed")
    error = entries(stream)[0]["error"]
    assert isinstance(error, dict)
    assert error["text"] == "127.0.0.1:1 refused the connection"


def test_an_error_in_a_field_says_its_type_and_only_harmless_text(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    log = logging.getLogger("crossfade.test")
    log.warning("waits", extra={"error": Refused(f"no point {SECRET}")})
    log.warning("waits", extra={"error": Unavailable("127.0.0.1:1 refused the connection")})
    assert [entry["error"] for entry in entries(stream)] == [
        "Refused",
        "Unavailable: 127.0.0.1:1 refused the connection",
    ]


def test_a_library_is_quoted_without_its_arguments(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    logging.getLogger("some.library").warning("could not handle %s", SECRET)
    logging.getLogger("some.library").info("not said at all")
    assert [entry["message"] for entry in entries(stream)] == ["could not handle %s"]


def test_access_logs_are_off(stream: io.StringIO) -> None:
    logs.configure("json", "debug", stream)
    logging.getLogger("aiohttp.access").error("GET /collections/docs/points/%s", SECRET)
    assert stream.getvalue() == ""


def test_the_text_form_is_one_readable_line(stream: io.StringIO) -> None:
    logs.configure("text", "debug", stream)
    logging.getLogger("crossfade.app").debug("route is ready", extra={"route": "docs"})
    assert stream.getvalue().endswith("debug    crossfade.app: route is ready  route=docs\n")


def is_logging_call(node: ast.AST) -> TypeGuard[ast.Call]:
    methods = {"debug", "info", "warning", "error", "exception", "critical"}
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id.strip("_") in {"log", "logger"}
    )


def logging_calls() -> list[tuple[str, ast.Call]]:
    """Every call of a logger in the program, with where it stands."""
    return [
        (f"{path.relative_to(PROXY)}:{node.lineno}", node)
        for path in sorted(PROXY.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if is_logging_call(node)
    ]


def test_every_line_of_a_worker_has_its_number(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream, worker=2)
    logging.getLogger("crossfade.x").info("said", extra={"route": "r"})
    assert json.loads(stream.getvalue())["worker"] == 2


def test_every_logging_call_has_a_constant_message_and_known_fields() -> None:
    calls = logging_calls()
    assert calls, "the reader of logging calls finds none"
    problems = []
    for place, call in calls:
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant):
            problems.append(f"{place}: the message must be a constant; put what varies into extra={{...}}")
        for keyword in call.keywords:
            if keyword.arg == "extra":
                problems += [f"{place}: {problem}" for problem in field_problems(keyword.value)]
    problems += [f"{place}: {problem}" for place, fields in fields_in_variables() for problem in field_problems(fields)]
    assert not problems, "\n".join(problems)


def fields_in_variables() -> list[tuple[str, ast.expr]]:
    """What a function assigns to a name with which it calls a logger, and where."""
    found: list[tuple[str, ast.expr]] = []
    for path in sorted(PROXY.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = list(ast.walk(function))
                extras = [word.value for node in inside if is_logging_call(node) for word in node.keywords]
                named = {part.id for extra in extras for part in ast.walk(extra) if isinstance(part, ast.Name)}
                found += [
                    (f"{path.relative_to(PROXY)}:{node.lineno}", node.value)
                    for node in inside
                    if isinstance(node, ast.Assign)
                    and isinstance(node.value, ast.Dict)
                    and any(isinstance(target, ast.Name) and target.id in named for target in node.targets)
                ]
    assert found, "the reader of fields in variables finds none"
    return found


def field_problems(extra: ast.expr) -> list[str]:
    """What is wrong with the fields that stand literally in `extra`."""
    literals = [node for node in ast.walk(extra) if isinstance(node, ast.Dict)]
    names = [key.value if isinstance(key, ast.Constant) else None for one in literals for key in one.keys]
    return [
        f"the field {name!r} is not in proxy.telemetry.logs.FIELDS"
        for name in names
        if not isinstance(name, str) or (name not in logs.FIELDS and not name.endswith(logs.UNITS))
    ]
