"""Operations: everything that a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.model.definitions import Definition
from proxy.model.reads import Read
from proxy.model.writes import Write


@dataclass(frozen=True, slots=True)
class Administration:
    """Something that touches neither points nor definitions (health, cluster, telemetry, making a snapshot)."""

    reason: str


Operation = Read | Write | Definition | Administration


def collection_of(operation: Operation) -> str | None:
    """The collection that the client named (maybe an alias), if it named one."""
    return getattr(operation, "collection", None)
