"""Collections as every vendor has them, and the two sides of a migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from proxy.model.points import Metric


class Side(Enum):
    """The two stores of a migration, fixed for the whole of it. Which of them is primary is the journal's word."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Side:
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """One vector of a collection. `size` is the dimension (0 where the kind has none)."""

    size: int
    metric: Metric
    kind: str = "dense"  # dense | sparse | multi
    datatype: str = "float32"  # what the store keeps; a hint is only certain for float32


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a store needs to make an equivalent collection.

    `native` is the vendor's own description (its JSON form), for a store of the same vendor
    and for choosing index parameters; other vendors read only the neutral part.
    """

    vectors: Mapping[str, VectorSpec]
    payload_indexes: Mapping[str, str] = field(default_factory=dict)  # field -> keyword|integer|float|bool|...
    native: Mapping[str, Any] = field(default_factory=dict)
