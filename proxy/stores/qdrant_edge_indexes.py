"""Payload indexes: their kinds and parameters between the model and the embedded Qdrant engine. Pure.

Parameters are the vendor's own JSON (Qdrant 1.19, openapi PayloadSchemaParams). Those that only say where an
index lies or how it is laid out are left to the engine; those that change what matches are passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import qdrant_edge as edge

from proxy.errors import InvalidRequest, Untranslatable

_KINDS = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "geo": edge.PayloadSchemaType.Geo,
    "datetime": edge.PayloadSchemaType.Datetime,
    "text": edge.PayloadSchemaType.Text,
    "uuid": edge.PayloadSchemaType.Uuid,
}
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}
_TEXT_OPTIONS = ("min_token_len", "max_token_len", "lowercase", "ascii_folding", "phrase_matching")


def index_kind(data_type: edge.PayloadSchemaType) -> str:
    """The model's word for an index that the engine has."""
    return next(kind for kind, known in _KINDS.items() if known == data_type)


def index_parameters(kind: str, schema: object) -> edge.PayloadSchemaType | edge.PayloadSchemaParams:
    """What the engine takes to make an index; `schema` is the vendor's object for it, or just the kind.

    Raises InvalidRequest for an unknown kind or tokenizer, Untranslatable for stop words and stemmers.
    """
    known = _KINDS.get(kind)
    if known is None:
        raise InvalidRequest(f"unknown index type {kind!r}, expected one of: {', '.join(_KINDS)}")
    options: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    match kind:
        case "text":
            return _text(options)
        case "integer" if "lookup" in options or "range" in options:
            return edge.IntegerIndexParams(lookup=options.get("lookup"), range=options.get("range"))
        case _:
            return known


def _text(schema: Mapping[str, Any]) -> edge.TextIndexParams:
    for option in ("stopwords", "stemmer"):
        if schema.get(option) is not None:
            raise Untranslatable(f"text index with {option}")
    tokenizer = schema.get("tokenizer")
    if tokenizer is not None and tokenizer not in _TOKENIZERS:
        raise InvalidRequest(f"unknown tokenizer {tokenizer!r}, expected one of: {', '.join(_TOKENIZERS)}")
    options = {option: schema[option] for option in _TEXT_OPTIONS if schema.get(option) is not None}
    return edge.TextIndexParams(tokenizer=_TOKENIZERS[tokenizer or "word"], **options)
