"""What is generated from the configuration's models: config/crossfade.schema.json, and the tables of keys in
docs/configuration.md. `python -m tests.support.config_reference` writes both; a test holds them up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.config import json_schema
from proxy.config.problems import Schema

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "config" / "crossfade.schema.json"
DOCS_FILE = ROOT / "docs" / "configuration.md"
BEGIN, END = "<!-- reference: begin -->\n", "<!-- reference: end -->\n"


def schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def docs_text() -> str:
    """docs/configuration.md with its tables made anew."""
    before, _, rest = DOCS_FILE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n".join(_sections()) + "\n" + END + after


def _sections() -> Iterator[str]:
    schema = json_schema()
    todo: list[tuple[str, Schema]] = [("", schema)]
    while todo:
        title, section = todo.pop(0)
        yield from _table(title, section)
        inner = [
            found
            for key, place in section["properties"].items()
            for found in _inner(f"{title}.{key}" if title else key, place, schema)
        ]
        todo[:0] = inner


def _table(title: str, section: Schema) -> Iterator[str]:
    yield f"\n### {f'`{title}`' if title else 'The whole'}\n"
    yield f"{section['description']}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for key, place in section["properties"].items():
        default = _default(place, key in section.get("required", ()))
        yield f"| `{key}` | {_value(place)} | {default} | {place['description']} |"


def _inner(path: str, place: Schema, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The sections that stand at `path`."""
    if "$ref" in place:
        yield path, schema["$defs"][place["$ref"].rpartition("/")[2]]
    elif "$ref" in place.get("items", {}):
        yield from _inner(f"{path}[]", place["items"], schema)
    elif "anyOf" in place:  # one that may be left out
        for option in place["anyOf"]:
            yield from _inner(path, option, schema)
    elif "oneOf" in _map_values(place):
        for option in _map_values(place)["oneOf"]:
            for _, section in _inner(path, option, schema):
                yield f"{path}.NAME (kind: {section['properties']['kind']['const']})", section


def _map_values(place: Schema) -> Schema:
    patterns: Schema = place.get("patternProperties", {})
    inner: Any = next(iter(patterns.values()), place.get("additionalProperties"))
    return inner if isinstance(inner, dict) else {}


def _value(place: Schema) -> str:
    options = [option for option in place.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        return _value(options[0])
    if "$ref" in place or "oneOf" in place:
        return "section"
    if place.get("writeOnly"):
        return "secret"
    if "const" in place:
        return f"`{place['const']}`"
    if "enum" in place:
        return ", ".join(f"`{choice}`" for choice in place["enum"])
    match place["type"]:
        case "array":
            return f"list of: {_value(place['items'])}"
        case "object":
            return f"name: {_value(_map_values(place))}"
        case "integer" | "number":
            return ("whole number" if place["type"] == "integer" else "number") + _range(place)
        case "boolean":
            return "true, false"
        case _:
            return "text"


def _range(place: Schema) -> str:
    low, above, high = place.get("minimum"), place.get("exclusiveMinimum"), place.get("maximum")
    words = [f"from {low:,}"] if low is not None else [f"above {above:,}"] if above is not None else []
    return ", " + " ".join([*words, *([f"to {high:,}"] if high is not None else [])]) if words or high else ""


def _default(place: Schema, required: bool) -> str:
    if required:
        return "must be given"
    if "default" not in place:
        return "none" if place.get("type") == "object" else "its defaults"
    value: Any = place["default"]
    return "none" if value in (None, []) else f"`{json.dumps(value).strip(chr(34))}`"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), "utf-8")
    DOCS_FILE.write_text(docs_text(), "utf-8")
