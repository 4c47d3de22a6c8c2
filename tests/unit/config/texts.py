"""A small valid configuration, and what parsing needs besides the text."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config import Config, parse
from proxy.errors import ConfigError

BASE = """\
version: 1
listeners:
  - {name: rest, vendor: qdrant, transport: http, address: "127.0.0.1:6333"}
stores:
  old: {kind: qdrant, url: "http://old.example:6333"}
  new: {kind: milvus, address: "new.example:19530"}
  third: {kind: memory}
routes:
  - name: docs
    collections: [docs]
    source: old
    target: new
"""


def no_file(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def parsed(text: str, environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Config:
    def read_file(name: str) -> str:
        return files[name] if files is not None and name in files else no_file(name)

    return parse(text, environment or {}, read_file)


def problems(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """The lines of the error that `text` raises."""
    try:
        parsed(text, environment)
    except ConfigError as error:
        return str(error).splitlines()
    return []
