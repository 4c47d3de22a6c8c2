"""The first configuration, as `crossfade init` writes it: short, commented, and without a secret in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from proxy.config.document import scalar
from proxy.config.section import QDRANT_PORT, is_loopback
from proxy.errors import ConfigError

MILVUS_PORT = 19530
_FORMS = "qdrant://HOST:6333, qdrants://HOST:6333 (TLS), milvus://HOST:19530/DATABASE or milvuss:// (TLS)"


@dataclass(frozen=True, slots=True)
class _Place:
    """What a URL on the command line says about a store."""

    vendor: Literal["qdrant", "milvus"]
    tls: bool
    host: str  # with brackets if it is IPv6
    port: int
    path: str


def starter(
    source_url: str,
    target_url: str,
    collections: Sequence[str] | None = None,
    *,
    ids: Literal["integer", "text"] = "integer",
) -> str:
    """The YAML for a migration between two stores, which `parse` takes as it is.

    `collections`: one route each, so that each has its own weight; None for one route of all. `ids`: the
    primary key of new Milvus collections, by the ids that the source has. Raises ConfigError for a URL of
    another form, or one that holds a key.
    """
    source, target = _place(source_url), _place(target_url)
    if source.vendor != "qdrant":
        raise ConfigError(
            f"--from {source_url}: an application of this vendor cannot be moved yet; give a qdrant:// URL"
        )
    names = _store_names(source, target)
    routes = _routes(names, collections or (), target.vendor == "milvus")
    return "\n".join(
        [
            *_head(source),
            "stores:",
            *_store(names[0], source, "QDRANT_API_KEY", ids),
            *_store(names[1], target, _target_variable(source, target), ids),
            "",
            "routes:",
            *routes,
            "",
            "# Collections that no route matches: primary-only (as if the proxy were not there), mirror, or refuse.",
            "unknown_collections: primary-only",
            f"default_source: {names[0]}",
            "",
        ]
    )


def _place(url: str) -> _Place:
    parts = urlsplit(url)
    scheme = re.fullmatch(r"(qdrant|milvus)(s?)", parts.scheme)
    if "@" in parts.netloc:
        raise ConfigError(
            f"--from and --to take no keys (in {_without_key(parts)}); set them in the environment instead"
        )
    if scheme is None or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url} is not one of {_FORMS}")
    vendor: Literal["qdrant", "milvus"] = "qdrant" if scheme[1] == "qdrant" else "milvus"
    try:
        port = parts.port or (QDRANT_PORT if vendor == "qdrant" else MILVUS_PORT)
    except ValueError:
        raise ConfigError(f"{url}: the port is not between 0 and 65535") from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return _Place(vendor, bool(scheme[2]), host, port, parts.path.rstrip("/"))


def _without_key(parts: SplitResult) -> str:
    return f"{parts.scheme}://...@{parts.hostname}"


def _store_names(source: _Place, target: _Place) -> tuple[str, str]:
    if source.vendor == target.vendor:
        return f"{source.vendor}-old", f"{target.vendor}-new"
    return source.vendor, target.vendor


def _target_variable(source: _Place, target: _Place) -> str:
    if target.vendor == "milvus":
        return "MILVUS_TOKEN"
    return "TARGET_QDRANT_API_KEY" if source.vendor == target.vendor else "QDRANT_API_KEY"


def _head(source: _Place) -> list[str]:
    on_this_machine = is_loopback(source.host.strip("[]"))
    port = 7333 if on_this_machine and source.port in (QDRANT_PORT, QDRANT_PORT + 1) else QDRANT_PORT
    return [
        "# A configuration of Crossfade. All keys: docs/configuration.md.",
        "# The running proxy takes edits of weights, rules, shadow reads and write policies when you save.",
        "version: 1",
        "data_dir: ./crossfade-data",
        "",
        "# What the application connects to instead of its database.",
        "listeners:",
        f'  - {{name: rest, vendor: {source.vendor}, transport: http, address: "127.0.0.1:{port}"}}',
        f'  - {{name: grpc, vendor: {source.vendor}, transport: grpc, address: "127.0.0.1:{port + 1}"}}',
        "",
        "# none is for loopback only. To listen elsewhere: keys, or ask-primary (whom the source accepts).",
        "auth:",
        "  mode: none",
        "",
        "# ${NAME:-} is the environment variable NAME, or nothing; ${file:/path} is what stands in a file.",
    ]


def _store(name: str, place: _Place, variable: str, ids: str) -> list[str]:
    if place.vendor == "qdrant":
        scheme = "https" if place.tls else "http"
        return [
            f"  {name}:",
            "    kind: qdrant",
            f'    url: "{scheme}://{place.host}:{place.port}{place.path}"',
            f'    grpc_url: "{scheme}://{place.host}:{place.port + 1}"',
            f'    api_key: "${{{variable}:-}}"',
        ]
    return [
        f"  {name}:",
        "    kind: milvus",
        f'    address: "{place.host}:{place.port}"',
        *([f"    database: {_quoted(place.path.strip('/'))}"] if place.path else []),
        f"    tls: {'true' if place.tls else 'false'}",
        f'    token: "${{{variable}:-}}"',
        f"    ids: {ids}  # primary keys of the collections it makes: integer, or text for UUIDs",
        "    index: {type: HNSW, ef_search: 128}  # m and ef_construction: as the source has them, unless given here",
    ]


def _routes(stores: tuple[str, str], collections: Sequence[str], to_milvus: bool) -> list[str]:
    if not collections:
        return _route("all", "*", {}, stores, _REMARKS)
    lines: list[str] = []
    names: set[str] = set()
    copies = set(collections)
    for collection in collections:
        name = _unused(re.sub(r"[^A-Za-z0-9_.-]+", "-", collection).strip("-._") or "collection", names)
        names.add(name)
        copy = _milvus_name(collection, copies) if to_milvus else collection
        copies.add(copy)
        renamed = {collection: copy} if copy != collection else {}
        lines += _route(name, escape(collection), renamed, stores, {} if lines else _REMARKS)
    return lines


def _route(
    name: str, pattern: str, renamed: Mapping[str, str], stores: tuple[str, str], remarks: Mapping[str, str]
) -> list[str]:
    return [
        f"  - name: {name if isinstance(scalar(name), str) else _quoted(name)}",
        f"    collections: [{_quoted(pattern)}]",
        f"    source: {stores[0]}",
        f"    target: {stores[1]}",
        *[f"    names: {{{_quoted(old)}: {_quoted(new)}}}" for old, new in renamed.items()],
        "    writes:",
        f"      policy: primary{remarks.get('policy', '')}",
        "    reads:",
        f"      weight: 0{remarks.get('weight', '')}",
        f"      sticky: none{remarks.get('sticky', '')}",
        f"      max_lag_seconds: 10{remarks.get('lag', '')}",
        f"    rules: []{remarks.get('rules', '')}",
        "    shadow:",
        f"      sample_percent: 0{remarks.get('shadow', '')}",
    ]


_REMARKS = {
    "policy": "  # primary answers at once; both and both-required wait for the target",
    "weight": "  # percent of reads that the target answers; 0 takes them back",
    "sticky": "  # or client, or header:NAME, or tenant: who stays on one side",
    "lag": "  # reads leave the target while it is further behind",
    "rules": '  # e.g. - {when: {headers: {x-canary: "yes"}}, read: target}',
    "shadow": "  # percent of searches that are also sent to the other side, to compare",
}


def _milvus_name(collection: str, taken: Iterable[str]) -> str:
    """`collection` if Milvus takes it: letters, digits and _, no digit first. Otherwise a name of its own."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", collection)
    name = f"_{name}" if name[0].isdecimal() else name
    return name if name == collection else _unused(name, taken)


def _unused(name: str, taken: Iterable[str]) -> str:
    """`name`, shortened, or the first of name_2, name_3, ... that is not taken."""
    name = name[:90]
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _quoted(text: str) -> str:
    """A YAML scalar in double quotes, in which `${` stands for itself."""
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'.replace("${", "$${")
