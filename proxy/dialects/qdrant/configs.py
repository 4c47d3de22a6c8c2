"""Configuration objects (index, optimizer, quantization, strict mode ...) between proto and JSON.

The two forms have the same field names but for the few differences listed here, so one walk over the descriptors serves
all of them, each way:

- an enum value is its name in snake case (`Float32` is "float32"), a distance keeps its capitals, and 0 of an enum
  whose 0 means "not said" is left out;
- a message that only wraps a map, or that only wraps a choice between one unnamed thing and a map, is the thing itself;
- some names are spelled differently (`_JSON_NAMES`), and a few messages have a JSON form of their own (`_SPECIAL`).

Raises Undecodable for what protos/qdrant does not describe.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from proxy.dialects.qdrant.messages import known
from proxy.dialects.qdrant.payloads import fill_payload, payload_of_proto
from proxy.dialects.qdrant.undecodable import Undecodable

_JSON_NAMES = {
    ("CollectionParams", "vectors_config"): "vectors",
    ("CollectionParams", "sparse_vectors_config"): "sparse_vectors",
    ("CreateCollection", "vectors_config"): "vectors",
    ("CreateCollection", "sparse_vectors_config"): "sparse_vectors",
    ("UpdateCollection", "vectors_config"): "vectors",
    ("UpdateCollection", "sparse_vectors_config"): "sparse_vectors",
    ("QuantizationConfig", "turboquant"): "turbo",
    ("QuantizationConfigDiff", "turboquant"): "turbo",
    ("OptimizersConfigDiff", "deprecated_max_optimization_threads"): "max_optimization_threads",
}
_MAP_WRAPPERS = {
    "VectorParamsMap": "map",
    "VectorParamsDiffMap": "map",
    "SparseVectorConfig": "map",
    "StrictModeSparseConfig": "sparse_config",
    "StrictModeMultivectorConfig": "multivector_config",
}
_NOT_SAID = frozenset({"Default", "MemoryUnknown", "UnknownType", "Unknown", "UnknownQuantization"})
_ENUM_NAMES = {"Scalar4Bits": "scalar4bits", "Scalar8Bits": "scalar8bits", "Bits1_5": "bits1_5"}


# --- proto -> JSON -----------------------------------------------------------------------


def json_of_config(message: Any) -> Any:
    """The JSON form of a configuration message; what is not set is left out."""
    name = known(message).DESCRIPTOR.name
    if name in _MAP_WRAPPERS:
        return {key: json_of_config(value) for key, value in getattr(message, _MAP_WRAPPERS[name]).items()}
    special = _SPECIAL.get(name)
    if special is not None:
        return special[0](message)
    plain: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if not _is_said(message, field):
            continue
        shown = _json_of_field(field, getattr(message, field.name))
        if shown is not None:
            plain[_JSON_NAMES.get((name, field.name), field.name)] = shown
    return plain


def _is_said(message: Any, field: Any) -> bool:
    """Whether a field has something to say. Without presence, false and the first word of an enum are said too."""
    if field.has_presence:
        return bool(message.HasField(field.name))
    return field.enum_type is not None or field.type == field.TYPE_BOOL or bool(getattr(message, field.name))


def _json_of_field(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return _json_of_enum(field.enum_type, value)
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.GetOptions().map_entry:
        return payload_of_proto(value)
    return json_of_config(value)


def _json_of_enum(enum: Any, number: int) -> str | None:
    named = enum.values_by_number.get(number)
    if named is None:
        raise Undecodable("unknown enum value")
    if enum.name == "Distance":
        return str(named.name)
    if named.name in _NOT_SAID and enum.containing_type is None:
        return None
    return enum_word(named.name)


def enum_word(name: str) -> str:
    """A name of an enum value as JSON says it: "TwoBits" is "two_bits"."""
    return _ENUM_NAMES.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


# --- JSON -> proto -----------------------------------------------------------------------


def fill_config(message: Any, plain: Any) -> None:
    """Write the JSON form into a message. Null is "not set". Raises Undecodable for an unknown key or value."""
    name = message.DESCRIPTOR.name
    if name in _MAP_WRAPPERS:
        message.SetInParent()
        for key, value in _object(plain).items():
            entry = getattr(message, _MAP_WRAPPERS[name])[key]
            fill_config(entry, value)
        return
    special = _SPECIAL.get(name)
    if special is not None:
        special[1](message, plain)
        return
    message.SetInParent()
    fields = {_JSON_NAMES.get((name, field.name), field.name): field for field in message.DESCRIPTOR.fields}
    for key, value in _object(plain).items():
        if value is None:
            continue
        if key not in fields:
            raise Undecodable("unknown field")
        _fill_field(message, fields[key], value)


def _fill_field(message: Any, field: Any, value: Any) -> None:
    try:
        if field.enum_type is not None:
            setattr(message, field.name, _enum_of_json(field.enum_type, value))
        elif field.message_type is None and field.is_repeated:
            getattr(message, field.name).extend(value)
        elif field.message_type is None:
            setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            fill_payload(getattr(message, field.name), _object(value))
        else:
            fill_config(getattr(message, field.name), value)
    except (TypeError, ValueError):
        raise Undecodable from None


def _enum_of_json(enum: Any, word: object) -> int:
    for value in enum.values:
        if word == (value.name if enum.name == "Distance" else enum_word(value.name)):
            return int(value.number)
    raise Undecodable("unknown enum value")


def _object(plain: object) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise Undecodable
    return plain


# --- messages with a JSON form of their own -----------------------------------------------


def _vectors_to_json(message: Any) -> Any:
    """VectorsConfig: the one unnamed vector, or an object of named ones."""
    chosen = message.WhichOneof("config")
    return {} if chosen is None else json_of_config(getattr(message, chosen))


def _vectors_from_json(message: Any, plain: Any) -> None:
    message.SetInParent()
    single = isinstance(_object(plain).get("size"), int)
    fill_config(message.params if single else message.params_map, plain)


def _vectors_diff_to_json(message: Any) -> Any:
    """VectorsConfigDiff: in JSON always by name, the unnamed vector is ""."""
    if message.WhichOneof("config") == "params":
        return {"": json_of_config(message.params)}
    return json_of_config(message.params_map)


def _vectors_diff_from_json(message: Any, plain: Any) -> None:
    fill_config(message.params_map, plain)


def _threads_to_json(message: Any) -> int | str:
    return "auto" if message.WhichOneof("variant") == "setting" else int(message.value)


def _threads_from_json(message: Any, plain: Any) -> None:
    if plain == "auto":
        message.setting = 0
    else:
        message.value = plain


def _query_encoding_to_json(message: Any) -> str:
    return enum_word(message.DESCRIPTOR.enum_types_by_name["Setting"].values_by_number[message.setting].name)


def _query_encoding_from_json(message: Any, plain: Any) -> None:
    message.setting = _enum_of_json(message.DESCRIPTOR.enum_types_by_name["Setting"], plain)


def _quantization_diff_to_json(message: Any) -> Any:
    """QuantizationConfigDiff: "Disabled", or the same as QuantizationConfig."""
    chosen = message.WhichOneof("quantization")
    if chosen == "disabled":
        return "Disabled"
    if chosen is None:
        return {}
    return {_JSON_NAMES.get(("QuantizationConfigDiff", chosen), chosen): json_of_config(getattr(message, chosen))}


def _quantization_diff_from_json(message: Any, plain: Any) -> None:
    if plain == "Disabled":
        message.disabled.SetInParent()
        return
    for key, value in _object(plain).items():
        chosen = "turboquant" if key == "turbo" else key
        if chosen not in message.DESCRIPTOR.fields_by_name:
            raise Undecodable("unknown field")
        fill_config(getattr(message, chosen), value)


def _prefix_from_json(message: Any, plain: Any) -> None:
    """KeywordPrefixParams has no fields: its presence is the setting."""
    if plain is True:
        message.SetInParent()


def _stemmer_to_json(message: Any) -> Any:
    if message.WhichOneof("stemming_params") == "snowball":
        return {"type": "snowball", "language": message.snowball.language}
    return {"type": "none"}


def _stemmer_from_json(message: Any, plain: Any) -> None:
    match plain:
        case {"type": "snowball", "language": str(language)}:
            message.snowball.language = language
        case {"type": "none"}:
            message.disabled.SetInParent()
        case _:
            raise Undecodable


def _stopwords_to_json(message: Any) -> Any:
    return {"languages": list(message.languages), "custom": list(message.custom)}


def _stopwords_from_json(message: Any, plain: Any) -> None:
    """One language, or lists of languages and of words."""
    if isinstance(plain, str):
        message.languages.append(plain)
        return
    message.SetInParent()
    message.languages.extend(_object(plain).get("languages") or [])
    message.custom.extend(plain.get("custom") or [])


_SPECIAL: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    "VectorsConfig": (_vectors_to_json, _vectors_from_json),
    "VectorsConfigDiff": (_vectors_diff_to_json, _vectors_diff_from_json),
    "MaxOptimizationThreads": (_threads_to_json, _threads_from_json),
    "BinaryQuantizationQueryEncoding": (_query_encoding_to_json, _query_encoding_from_json),
    "QuantizationConfigDiff": (_quantization_diff_to_json, _quantization_diff_from_json),
    "KeywordPrefixParams": (lambda message: True, _prefix_from_json),
    "StemmingAlgorithm": (_stemmer_to_json, _stemmer_from_json),
    "StopwordsSet": (_stopwords_to_json, _stopwords_from_json),
}
