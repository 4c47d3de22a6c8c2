"""The configuration: YAML -> frozen values, with every mistake told at once and on its line.

    text --document--> plain values with lines --shape--> Config
                            │ problems, checks: sentences with a line ─► ConfigError

`parse` is the door in. `changed` says what of a new configuration needs a restart, `starter` writes a
first one, `json_schema` describes the format. Everything here is pure: the text, the environment and the
way to read a file are arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema

from proxy.config.changes import Change, changed
from proxy.config.checks import cross_check
from proxy.config.document import Document, Problem, ReadFile, read
from proxy.config.problems import explain
from proxy.config.routes import Backfill, ReadKind, Reads, Replication, Route, Rule, Shadow, When, Writes
from proxy.config.section import is_loopback, split_address
from proxy.config.shape import Auth, Config, Control, Listener, Logging, Probes
from proxy.config.starter import starter
from proxy.config.stores import (
    MemoryConfig,
    MilvusConfig,
    MilvusIndex,
    QdrantConfig,
    QdrantEdgeConfig,
    StoreConfig,
    endpoint,
)
from proxy.errors import ConfigError

__all__ = [
    "Auth",
    "Backfill",
    "Config",
    "Control",
    "Listener",
    "Logging",
    "MemoryConfig",
    "MilvusConfig",
    "MilvusIndex",
    "Probes",
    "QdrantConfig",
    "QdrantEdgeConfig",
    "ReadFile",
    "ReadKind",
    "Reads",
    "Replication",
    "Route",
    "Rule",
    "Shadow",
    "StoreConfig",
    "When",
    "Writes",
    "changed",
    "endpoint",
    "is_loopback",
    "json_schema",
    "located",
    "parse",
    "split_address",
    "starter",
]


def parse(text: str, environment: Mapping[str, str], read_file: ReadFile, moved: Collection[str] = ()) -> Config:
    """The configuration in `text`. `read_file` gives the text of a file that `${file:/path}` names (it may
    raise OSError). `moved`: routes whose primary is the target by now. Raises ConfigError, whose message has a line for
    each problem:
    `line 12: routes[0].reads.weight: 125 is not between 0 and 100`."""
    document = read(text, environment, read_file)
    config: Config | None = None
    if document.values:
        try:
            config = Config.model_validate(document.values)
        except ValidationError as error:
            document.problems.extend(explain(error.errors(include_url=False), document, json_schema()))
        cross_check(document, moved)
    if config is None or document.problems:
        raise ConfigError(_listed(document))
    return config


def located(text: str, changes: Sequence[Change]) -> str:
    """A line for each of `changes`, with the number of the line of `text` that it is about."""
    document = read(text, {}, lambda name: "")
    return "\n".join(str(Problem(document.line(change.path), (), change.sentence)) for change in changes)


@cache
def json_schema() -> dict[str, Any]:
    """The format as JSON Schema (2020-12), for editors and for config/crossfade.schema.json. Not to be changed."""
    schema = Config.model_json_schema(schema_generator=_Untitled)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: object) -> bool:
        return False  # a title that only repeats the key helps nobody


def _listed(document: Document) -> str:
    problems = sorted(set(document.problems), key=lambda problem: (problem.line, problem.path != (), str(problem)))
    if not problems:
        return "the configuration is empty; `crossfade init` writes a first one"
    return "\n".join(str(problem) for problem in problems)
