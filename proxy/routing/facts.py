"""What routing may know of a read, taken from the operation and the request's head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never
from urllib.parse import unquote

from proxy.config import ReadKind
from proxy.model import And, Count, DataRead, Fetch, Filter, Match, MatchAny, Scroll, Search, SearchBatch
from proxy.wire import Request


@dataclass(frozen=True, slots=True)
class Facts:
    """`collection` is resolved, `aliases` are the names that stand for it. `headers` are by lower-case name."""

    kind: ReadKind
    collection: str
    aliases: tuple[str, ...] = ()
    tenant: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = ""  # the client's host, without its port


def facts_of(
    read: DataRead,
    request: Request,
    collection: str,
    aliases: tuple[str, ...] = (),
    tenant_field: str | None = None,
) -> Facts:
    """The facts of `read`, which came as `request` and means the resolved `collection`."""
    tenant = tenant_of(read, tenant_field) if tenant_field is not None else None
    return Facts(_kind(read), collection, aliases, tenant, headers_of(request), client_host(request.client))


def headers_of(request: Request) -> dict[str, str]:
    """The first value of each."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers.setdefault(name, value if isinstance(value, str) else value.decode("latin-1"))
    return headers


def _kind(read: DataRead) -> ReadKind:
    match read:
        case Search() | SearchBatch():
            return "search"
        case Fetch():
            return "fetch"
        case Scroll():
            return "scroll"
        case Count():
            return "count"
        case _:
            assert_never(read)


def tenant_of(read: DataRead, tenant_field: str) -> str | None:
    """The one tenant that `read` is confined to by its filter; None if it names none, or several."""
    match read:
        case SearchBatch(searches=searches):
            tenants = {_tenant_in(search.filter, tenant_field) for search in searches}
            return tenants.pop() if len(tenants) == 1 else None
        case Search(filter=condition) | Scroll(filter=condition) | Count(filter=condition):
            return _tenant_in(condition, tenant_field)
        case Fetch():
            return None
        case _:
            assert_never(read)


def _tenant_in(condition: Filter | None, tenant_field: str) -> str | None:
    match condition:
        case Match(field=name, value=value) if name == tenant_field and not isinstance(value, bool):
            return str(value)
        case MatchAny(field=name, values=(value,)) if name == tenant_field:
            return str(value)
        case And(of=parts):
            named = {_tenant_in(part, tenant_field) for part in parts} - {None}
            return named.pop() if len(named) == 1 else None
        case _:
            return None


def client_host(peer: str) -> str:
    """The host in a peer's address: "10.0.0.7:5123", "[::1]:5123", or gRPC's "ipv4:10.0.0.7:5123" and
    "ipv6:%5B::1%5D:5123". Anything else (a bare host, a Unix socket) is itself."""
    scheme, _, rest = peer.partition(":")
    address = unquote(rest) if scheme in ("ipv4", "ipv6") else peer
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.rpartition(":")
    return host if port.isdecimal() and host and ":" not in host else address
