"""Definitions (DDL): what changes collections and their names, not points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.model.collections import CollectionSpec


@dataclass(frozen=True, slots=True)
class CreateCollection:
    collection: str
    spec: CollectionSpec


@dataclass(frozen=True, slots=True)
class UpdateCollection:
    """Changes parameters (optimizers, quantization, ...), not points; `native` is the vendor's own body."""

    collection: str
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DropCollection:
    collection: str


@dataclass(frozen=True, slots=True)
class CreateAlias:
    alias: str
    collection: str


@dataclass(frozen=True, slots=True)
class DropAlias:
    alias: str


@dataclass(frozen=True, slots=True)
class RenameAlias:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class UpdateAliases:
    """Several alias changes, applied as one."""

    actions: tuple[CreateAlias | DropAlias | RenameAlias, ...]


@dataclass(frozen=True, slots=True)
class CreatePayloadIndex:
    collection: str
    field_name: str
    kind: str | None  # keyword, integer, float, bool, geo, datetime, text, uuid; None: the store chooses
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DropPayloadIndex:
    collection: str
    field_name: str


Definition = (
    CreateCollection | UpdateCollection | DropCollection | UpdateAliases | CreatePayloadIndex | DropPayloadIndex
)
