"""Puts a route's read weight into the YAML, and leaves every other character of the file as it was.

`with_weight` is pure: it finds the place by the parser's own marks, changes one line, and reads the result
again. If anything but that weight came out different (an anchor used twice, an odd layout), it refuses rather
than guess. `write_weight` replaces the file in one step, so the watching proxy never reads half of it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from proxy.control import NotKnown
from proxy.errors import ConfigError, GateClosed


def write_weight(path: Path, route: str, percent: float) -> None:
    """Raises NotKnown (no such route in the file), ConfigError (no safe place for the weight) or GateClosed (the file
    cannot be written, as a mounted ConfigMap)."""
    real = path.resolve()  # a symlink stays one
    try:
        text = real.read_bytes().decode()  # bytes: the line ends stay as they are
        edited = with_weight(text, route, percent)
        if edited != text:
            _replace(real, edited)
    except OSError as error:
        raise GateClosed(
            f"cannot write {path}: {error.strerror}; set `reads.weight: {_number(percent)}` of the route `{route}` "
            "where the file comes from, or leave out --write"
        ) from error


def with_weight(text: str, route: str, percent: float) -> str:
    """`text` with that weight. Raises NotKnown or ConfigError."""
    node = _route(text, route)
    reads = _value(node, "reads")
    weight = _value(reads, "weight") if isinstance(reads, yaml.MappingNode) else None
    if isinstance(weight, yaml.ScalarNode):
        edited = text[: weight.start_mark.index] + _number(percent) + text[weight.end_mark.index :]
    elif isinstance(reads, yaml.MappingNode):
        edited = _with_entry(text, reads, f"weight: {_number(percent)}")
    elif reads is None:
        edited = _with_entry(text, node, f"reads: {{weight: {_number(percent)}}}")
    else:
        edited = text
    _check(text, edited, route, percent)
    return edited


def _route(text: str, name: str) -> yaml.MappingNode:
    root = _compose(text)
    routes = _value(root, "routes") if isinstance(root, yaml.MappingNode) else None
    known = []
    for node in routes.value if isinstance(routes, yaml.SequenceNode) else ():
        if not isinstance(node, yaml.MappingNode):
            continue
        label = _value(node, "name")
        if isinstance(label, yaml.ScalarNode):
            if label.value == name:
                return node
            known.append(label.value)
    raise NotKnown("route", name, known)


def _compose(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"the file is not YAML any more: {error}; see `crossfade check`") from error


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for label, value in mapping.value if label.value == key), None)


def _with_entry(text: str, mapping: yaml.MappingNode, entry: str) -> str:
    """`entry` put before the first key of `mapping`, in the same layout."""
    if mapping.flow_style:
        at = mapping.start_mark.index + 1
        return f"{text[:at]}{entry}{', ' if mapping.value else ''}{text[at:]}"
    first = mapping.value[0][0].start_mark
    return f"{text[: first.index]}{entry}\n{' ' * first.column}{text[first.index :]}"


def _check(before: str, after: str, route: str, percent: float) -> None:
    try:
        same = _loaded(after) == _with_reads(_loaded(before), route, _number(percent))
    except (yaml.YAMLError, RecursionError):
        same = False
    if not same:
        raise ConfigError(
            f"the weight of the route `{route}` has no place of its own in the file (an anchor, an alias or an empty "
            f"section); set `reads: {{weight: {_number(percent)}}}` there by hand"
        )


def _with_reads(values: dict[str, Any], route: str, weight: str) -> dict[str, Any]:
    for entry in values["routes"]:
        if entry["name"] == route:
            entry["reads"] = {**(entry.get("reads") or {}), "weight": weight}
    return values


def _loaded(text: str) -> dict[str, Any]:
    """All scalars as text, so that nothing is lost between two readings; aliases become copies."""
    loaded: dict[str, Any] = _copied(yaml.load(text, Loader=yaml.BaseLoader))
    return loaded


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value


def _replace(path: Path, text: str) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, path.stat().st_mode & 0o7777)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _number(percent: float) -> str:
    return f"{percent:g}"
