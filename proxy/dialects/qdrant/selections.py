"""Which parts of a point an answer holds: `with_payload` and `with_vector(s)`, JSON and proto.

What is left out of a request means: no vectors, and the payload only where the endpoint says so. Retrieve and scroll
return it, searches do not (operations/types.rs, lib/shard/src/scroll.rs and lib/api/src/rest/schema.rs in the server).
"""

from __future__ import annotations

from typing import Any

from proxy.dialects.qdrant.messages import known, proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.model import Selection


def selection_of_json(with_payload: object, with_vector: object, *, payload_by_default: bool) -> Selection:
    """Raises Undecodable for a selector of an unknown shape."""
    payload, include, exclude = _payload_of_json(with_payload, payload_by_default)
    match with_vector:
        case None:
            vectors, names = False, None
        case bool():
            vectors, names = with_vector, None
        case list():
            vectors, names = True, _names(with_vector)
        case _:
            raise Undecodable
    return Selection(payload, include, exclude, vectors, names)


Names = tuple[str, ...]


def _payload_of_json(value: object, by_default: bool) -> tuple[bool, Names | None, Names | None]:
    match value:
        case None:
            return by_default, None, None
        case bool():
            return value, None, None
        case list():
            return True, _names(value), None
        case {"include": list(fields), **rest} if not rest:
            return True, _names(fields), None
        case {"exclude": list(fields), **rest} if not rest:
            return True, None, _names(fields)
        case _:
            raise Undecodable


def _names(values: list[Any]) -> Names:
    if not set(map(type, values)) <= {str}:
        raise Undecodable
    return tuple(values)


def selection_of_proto(message: Any, *, payload_by_default: bool) -> Selection:
    """From a request that has `with_payload` and `with_vectors`. Raises Undecodable for an empty payload selector."""
    payload, include, exclude = payload_by_default, None, None
    if message.HasField("with_payload"):
        selector = known(message.with_payload)
        match selector.WhichOneof("selector_options"):
            case "enable":
                payload = selector.enable
            case "include":
                payload, include = True, tuple(selector.include.fields)
            case "exclude":
                payload, exclude = True, tuple(selector.exclude.fields)
            case _:
                raise Undecodable
    vectors, names = False, None
    if message.HasField("with_vectors"):
        chosen = known(message.with_vectors)
        match chosen.WhichOneof("selector_options"):
            case "enable":
                vectors = chosen.enable
            case "include":
                vectors, names = True, tuple(chosen.include.names)
            case _:
                pass  # the server takes an empty vector selector for "none"
    return Selection(payload, include, exclude, vectors, names)


def fill_selection(message: Any, selection: Selection) -> None:
    """Write a selection into a request. Include and exclude together: the caller must not ask for both."""
    if selection.payload and selection.payload_include is not None:
        message.with_payload.include.CopyFrom(proto.PayloadIncludeSelector(fields=selection.payload_include))
    elif selection.payload and selection.payload_exclude is not None:
        message.with_payload.exclude.CopyFrom(proto.PayloadExcludeSelector(fields=selection.payload_exclude))
    else:
        message.with_payload.enable = selection.payload
    if selection.vectors and selection.vector_names is not None:
        message.with_vectors.include.CopyFrom(proto.VectorsSelector(names=selection.vector_names))
    else:
        message.with_vectors.enable = selection.vectors
