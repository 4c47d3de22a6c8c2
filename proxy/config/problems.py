"""What pydantic found, as sentences for the person who wrote the file.

Bounds, choices and known keys are taken from the JSON Schema at the place of the error, so a sentence
can say all of what was expected. Values of secrets, and text that came from variables, are not repeated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from pydantic_core import ErrorDetails

from proxy.config.document import Document, Path, Problem, Substituted, Value

PRIMARY_IS_NO_KEY = (
    "moving the primary is not configuration, because every proxy of a route must change it at the same moment; "
    "remove this key (reads are moved by `reads.weight`)"
)
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "mapping_type": "a section of `key: value` lines",
    "dict_type": "a section of `key: value` lines",
    "model_type": "a section of `key: value` lines",
    "model_attributes_type": "a section of `key: value` lines",
}
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")

Schema = dict[str, Any]


def explain(errors: Iterable[ErrorDetails], document: Document, schema: Schema) -> list[Problem]:
    """One problem for each error, except at values that could not be substituted (those have one already)."""
    told = {problem.path for problem in document.problems}
    problems: list[Problem] = []
    for error in errors:
        path = document_path(document.values, error["loc"])
        if path in told or (error["type"] == "too_short" and error["input"]):  # its entries are told of
            continue
        problems.append(Problem(document.line(path), path, _sentence(error, path, document, schema)))
    return problems


def document_path(values: Value, loc: tuple[str | int, ...]) -> Path:
    """`loc` without what pydantic adds to it: the kind of a union's member, "[key]"."""
    path: Path = ()
    here: Value = values
    for index, part in enumerate(loc):
        match here, part:
            case tuple(), int() if part < len(here):
                here = here[part]
            case dict(), str() if part in here:
                here = here[part]
            case dict(), _ if index == len(loc) - 1 and part != "[key]":
                pass  # a key that is missing
            case _:
                continue
        path = (*path, part)
    return path


def _sentence(error: ErrorDetails, path: Path, document: Document, schema: Schema) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    place = schema_at(schema, error["loc"])
    shown = _shown(value, place)
    if kind in _TYPES:
        return f"{shown} is not {_TYPES[kind]}{_quoting(kind, value)}"
    match kind:
        case "extra_forbidden":
            return _unknown_key(str(path[-1]), schema_at(schema, error["loc"][:-1]), path)
        case "missing":
            return f"is missing: {place.get('description', 'it must be given')}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            return f"{shown} is not {_bounds(place)}"
        case "literal_error":
            return f"{shown} is not one of {_choices(value, _literals(place))}"
        case "union_tag_invalid":
            return f"kind {_shown(context['tag'], {})} is not one of {_choices(context['tag'], _kinds(place))}"
        case "union_tag_not_found":
            return f"needs a `kind`: one of {', '.join(_kinds(place))}"
        case "too_short" | "string_too_short":
            return "is empty; give at least one" if kind == "too_short" else "is empty"
        case "string_pattern_mismatch":
            return f"{shown} is not a name: a letter or digit, then up to 99 letters, digits, `_`, `.`, `-`"
        case "value_error":
            told = str(context["error"])
            return told if isinstance(value, dict) or place.get("writeOnly") else f"{shown} {told}"
        case _:
            return f"{shown}: {error['msg']}"


def _shown(value: Any, place: Schema) -> str:
    if place.get("writeOnly"):
        return "the secret"
    match value:
        case Substituted():
            return f"what {value.written} stands for"
        case bool():
            return "true" if value else "false"
        case None:
            return "nothing"
        case str():
            text = _USERINFO.sub("...@", value)
            return f'"{text[:60]}…"' if len(text) > 60 else f'"{text}"'
        case int() | float():
            return f"{value}"
        case dict():
            return "a section"
        case _:
            return "a list"


def _quoting(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value):
        return "; write it without quotes" if not isinstance(value, Substituted) else ""
    return ""


def _unknown_key(key: str, section: Schema, path: Path) -> str:
    if key == "primary" and path[0] == "routes":
        return PRIMARY_IS_NO_KEY
    known = list(section.get("properties", {}))
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean `{near[0]}`?" if near else f"unknown key; known here: {', '.join(known)}"


def _bounds(place: Schema) -> str:
    low, high = place.get("minimum"), place.get("maximum")
    above, below = place.get("exclusiveMinimum"), place.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"between {low:,} and {high:,}"
    words = [
        f"{phrase} {bound:,}"
        for phrase, bound in (("at least", low), ("more than", above), ("at most", high), ("less than", below))
        if bound is not None
    ]
    return " and ".join(words)


def _literals(place: Schema) -> list[str]:
    choices = place.get("enum", [place["const"]] if "const" in place else [])
    return [str(choice) for choice in choices]


def _kinds(place: Schema) -> list[str]:
    return list(place.get("discriminator", {}).get("mapping", {}))


def _choices(value: object, choices: list[str]) -> str:
    near = difflib.get_close_matches(str(value), choices, n=1)
    return ", ".join(choices) + (f"; did you mean {near[0]}?" if near and len(choices) > 1 else "")


def schema_at(schema: Schema, loc: tuple[str | int, ...]) -> Schema:
    """The JSON Schema of the value at `loc`, references followed; {} where there is none."""
    here = _followed(schema, schema)
    for part in loc:
        mapping = here.get("discriminator", {}).get("mapping", {})
        if part in mapping:
            here = _followed({"$ref": mapping[part]}, schema)
        elif isinstance(part, int):
            here = _followed(here.get("items", {}), schema)
        elif part in here.get("properties", {}):
            here = _followed(here["properties"][part], schema)
        elif isinstance(here.get("additionalProperties"), dict):
            here = _followed(here["additionalProperties"], schema)
        elif isinstance(here.get("patternProperties"), dict):
            here = _followed(next(iter(here["patternProperties"].values())), schema)
        else:
            return {}
    return here


def _followed(place: Schema, schema: Schema) -> Schema:
    """`place` with its reference, and its one alternative to null, in it."""
    if "$ref" in place:
        target: Schema = schema["$defs"][place["$ref"].rpartition("/")[2]]
        return {**target, **{key: value for key, value in place.items() if key != "$ref"}}
    if "anyOf" in place:
        given = [option for option in place["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in place.items() if key != "anyOf"}
        return {**_followed(given[0], schema), **rest} if given else rest
    return place
