"""The first configuration, as `crossfade init` writes it: short, commented, and without a secret in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from typing import Literal
from urllib.parse import SplitResult, urlsplit

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
        "# none is for loopback only. To listen elsewhere: ask-primary (whom the primary accepts), or keys.",
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
        "    index: {type: HNSW, m: 16, ef_construction: 200, ef_search: 128}",
    ]


def _routes(stores: tuple[str, str], collections: Sequence[str], to_milvus: bool) -> list[str]:
    lines: list[str] = []
    taken: set[str] = set()
    copies: set[str] = set(collections)
    for collection in collections or (None,):
        name = _unused(_identifier(collection, r"[^A-Za-z0-9_.-]+", "-").strip("-._") if collection else "all", taken)
        taken.add(name)
        copy = _identifier(collection, r"[^A-Za-z0-9_]", "_") if collection and to_milvus else collection
        if collection and copy and copy != collection:
            copy = _unused(copy if re.match(r"[A-Za-z_]", copy) else f"_{copy}", copies)
            copies.add(copy)
        lines += _route(name, collection, copy, stores, commented=not lines)
    return lines


def _route(
    name: str, collection: str | None, copy: str | None, stores: tuple[str, str], *, commented: bool
) -> list[str]:
    remarks = _REMARKS if commented else dict.fromkeys(_REMARKS, "")
    renamed = (
        [f"    names: {{{_quoted(collection)}: {_quoted(copy)}}}"] if collection and copy != collection and copy else []
    )
    return [
        f"  - name: {name}",
        f"    collections: [{_quoted(escape(collection)) if collection else _quoted('*')}]",
        f"    source: {stores[0]}",
        f"    target: {stores[1]}",
        *renamed,
        "    writes:",
        f"      policy: primary{remarks['policy']}",
        "    reads:",
        f"      weight: 0{remarks['weight']}",
        f"      sticky: none{remarks['sticky']}",
        f"      max_lag_seconds: 10{remarks['lag']}",
        f"    rules: []{remarks['rules']}",
        "    shadow:",
        f"      sample_percent: 0{remarks['shadow']}",
    ]


_REMARKS = {
    "policy": "  # primary answers at once; both and both-required wait for the target",
    "weight": "  # percent of reads that the target answers; 0 takes them back",
    "sticky": "  # or client, or header:NAME, or tenant: who stays on one side",
    "lag": "  # reads leave the target while it is further behind",
    "rules": '  # e.g. - {when: {headers: {x-canary: "yes"}}, read: target}',
    "shadow": "  # percent of searches that are also sent to the other side, to compare",
}


def _identifier(text: str, forbidden: str, instead: str) -> str:
    return re.sub(forbidden, instead, text)


def _unused(name: str, taken: Iterable[str]) -> str:
    """`name`, or the first of name_2, name_3, ... that is not taken."""
    name = (name or "collection")[:90]
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _quoted(text: str | None) -> str:
    """A YAML scalar in double quotes (JSON's form is one), in which `${` stands for itself."""
    return json.dumps(text or "").replace("${", "$${")
