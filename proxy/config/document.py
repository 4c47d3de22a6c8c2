"""YAML text -> plain values that remember which line they stand on.

The reading is stricter and plainer than YAML 1.1: only `true`, `false`, `null` and decimal numbers mean
something else than text, so a tenant called `no`, a collection called `2024-01-01` and the address
`10:30` stay what they look like. Tags, merge keys and duplicate keys are problems.

`${NAME}`, `${NAME:-default}` and `${file:/path}` are replaced in values, never in keys; `$${` is a
literal `${` in both. What they bring is text and is not looked into again. As in a shell, `:-` also covers a
variable that is set to nothing. A file loses the line ends at its end.

No I/O: the environment and the way to read a file are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import yaml

Path = tuple[str | int, ...]
Scalar = None | bool | int | float | str
Value = Scalar | tuple["Value", ...] | dict[str, "Value"]
ReadFile = Callable[[str], str]

_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})\Z")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]{1,3})?\Z")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?\Z", re.DOTALL)
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>[^{}]*)\}|\$\{")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # a problem stays on one line
_ESCAPE = "$${"
_PLAIN_TAGS = {
    yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG,
    yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG,
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what was expected."""

    line: int
    path: Path
    message: str

    def __str__(self) -> str:
        where = f"{shown_path(self.path)}: " if self.path else ""
        return _CONTROL.sub(lambda match: repr(match[0])[1:-1], f"line {self.line}: {where}{self.message}")


class Substituted(str):
    """Text that came from a variable or a file, at least in part; `written` is what stands in the YAML.

    Its content may be a secret, so problems speak of `written`.
    """

    __slots__ = ("written",)
    written: str

    @classmethod
    def of(cls, text: str, written: str) -> Substituted:
        made = cls(text)
        made.written = written
        return made


@dataclass(slots=True)
class Document:
    """`values` is the root mapping; `lines` gives the line of every path in it, counted from 1."""

    values: dict[str, Value] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, path: Path, message: str) -> None:
        self.problems.append(Problem(self.line(path), path, message))


def shown_path(path: Path) -> str:
    """`("routes", 0, "reads")` -> `routes[0].reads`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def scalar(text: str) -> Scalar:
    """What an unquoted `text` means."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text) and not text.lstrip("+-").isdecimal():
        return float(text)
    return text


def read(text: str, environment: Mapping[str, str], read_file: ReadFile) -> Document:
    """The document in `text`; everything wrong with it is in `problems`, and never raised."""
    document = Document()
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        document.problems.append(_not_yaml(error, text))
        return document
    if not isinstance(root, yaml.MappingNode):
        document.problems.append(Problem(1, (), "the configuration must be a mapping that begins with `version: 1`"))
        return document
    value = _Builder(document, environment, read_file).build(root, (), 1)
    assert isinstance(value, dict)
    document.values = value
    return document


def _not_yaml(error: yaml.YAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return Problem(1, (), f"not YAML: {error}")
    words = "; ".join(part for part in (error.context, error.problem) if part)
    if "${" in (text.splitlines() or [""])[min(mark.line, text.count("\n"))]:
        words += '; inside { } and [ ], `${...}` must stand in quotes: "${NAME}"'
    return Problem(mark.line + 1, (), f"not YAML: {words}")


class _Builder:
    def __init__(self, document: Document, environment: Mapping[str, str], read_file: ReadFile) -> None:
        self._document = document
        self._environment = environment
        self._read_file = read_file
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path, line: int) -> Value:
        self._document.lines[path] = line
        if node.tag not in _PLAIN_TAGS:
            self._document.report(path, f"the tag {node.tag} is not supported; remove it")
            return None
        if any(node is outer for outer in self._open):
            self._document.report(path, "an alias must not stand inside what it names")
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if isinstance(node, yaml.SequenceNode):
                return tuple(
                    self.build(item, (*path, index), item.start_mark.line + 1) for index, item in enumerate(node.value)
                )
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else None
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Value]:
        built: dict[str, Value] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.problems.append(Problem(line, path, "a key must be text"))
                continue
            key = key_node.value.replace(_ESCAPE, "${")
            here = (*path, key)
            if key in built:
                first = self._document.lines[here]
                self._document.problems.append(Problem(line, here, f"duplicate key; it stands on line {first} already"))
                continue
            if "${" in key_node.value.replace(_ESCAPE, ""):
                self._document.problems.append(Problem(line, here, "${...} is replaced in values only, not in keys"))
            built[key] = self.build(value_node, here, line)
        return built

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Scalar:
        text: str = node.value
        if "${" not in text:
            return scalar(text) if node.style is None else text
        replaced = _REFERENCE.sub(lambda match: self._resolve(match, path), text)
        if all(match[0] == _ESCAPE for match in _REFERENCE.finditer(text)):
            return replaced
        return Substituted.of(replaced, text)

    def _resolve(self, match: re.Match[str], path: Path) -> str:
        if match[0] == _ESCAPE:
            return "${"
        body = match["body"]
        if body is None:
            self._document.report(path, "`${` without its `}`; write `$${` for the two characters themselves")
            return ""
        if body.startswith("file:"):
            return self._file(body.removeprefix("file:"), path)
        reference = _NAME.match(body)
        if reference is None:
            self._document.report(path, f"`${{{body}}}` is none of ${{NAME}}, ${{NAME:-default}}, ${{file:/path}}")
            return ""
        name, default = reference["name"], reference["default"]
        value = self._environment.get(name)
        if default is not None:
            return value or default.removeprefix(":-")
        if value is None:
            self._document.report(
                path, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
            return ""
        return value

    def _file(self, name: str, path: Path) -> str:
        try:
            return self._read_file(name).rstrip("\r\n")
        except OSError as error:
            self._document.report(path, f"cannot read the file {name}: {error.strerror or error}")
        except UnicodeDecodeError:
            self._document.report(path, f"the file {name} is not UTF-8 text")
        return ""
