"""What no section can see by itself: references, names, patterns, addresses, who may reach whom.

The checks look at a `Draft`: the sections that are valid, each by itself, so that a wrong weight does
not hide an unknown store. What is not valid is None there, and nothing is said about it twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from proxy.config.document import Document, Path, Value
from proxy.config.routes import Route
from proxy.config.section import Section, is_loopback, split_address
from proxy.config.shape import Auth, Control, Listener, Probes
from proxy.config.stores import (
    SPOKEN,
    MemoryConfig,
    MilvusConfig,
    QdrantConfig,
    QdrantEdgeConfig,
    StoreConfig,
    endpoint,
)

Found = Iterator[tuple[Path, str]]
T = TypeVar("T", bound=Section)
_STORE: TypeAdapter[StoreConfig] = TypeAdapter(StoreConfig)
_MILVUS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Draft:
    """The sections that are valid by themselves, in their places; None where one is not."""

    listeners: tuple[Listener | None, ...]
    auth: Auth | None
    control: Control | None
    probes: Probes | None
    stores: Mapping[str, StoreConfig | None]
    routes: tuple[Route | None, ...]
    given: Mapping[str, Value]  # the top level as written
    moved: Collection[str]  # routes whose primary is the target by now

    def text(self, key: str) -> str | None:
        value = self.given.get(key)
        return value if isinstance(value, str) else None


def cross_check(document: Document, moved: Collection[str] = ()) -> None:
    """Report to `document` every problem between its sections. `moved`: routes whose primary is the target."""
    draft = _draft(document.values, moved)
    for check in _CHECKS:
        for path, message in check(draft):
            document.report(path, message)


def _draft(values: Mapping[str, Value], moved: Collection[str]) -> Draft:
    stores = values.get("stores")
    routes = values.get("routes")
    listeners = values.get("listeners")
    return Draft(
        listeners=tuple(_valid(Listener, value) for value in listeners) if isinstance(listeners, tuple) else (),
        auth=_valid(Auth, values.get("auth") or {}),
        control=_valid(Control, values.get("control") or {}),
        probes=_valid(Probes, values.get("probes") or {}),
        stores={name: _valid_store(value) for name, value in stores.items()} if isinstance(stores, dict) else {},
        routes=tuple(_salvaged(value) for value in routes) if isinstance(routes, tuple) else (),
        given=values,
        moved=moved,
    )


def _valid(section: type[T], value: Value) -> T | None:
    try:
        return section.model_validate(value)
    except ValidationError:
        return None


def _valid_store(value: Value) -> StoreConfig | None:
    try:
        return _STORE.validate_python(value)
    except ValidationError:
        return None


def _salvaged(value: Value) -> Route | None:
    """The route without its keys that are wrong, if it is still one."""
    try:
        return Route.model_validate(value)
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
        if not isinstance(value, dict):
            return None
        return _valid(Route, {key: kept for key, kept in value.items() if key not in wrong})


# --- the checks ----------------------------------------------------------------------------


def _routes(draft: Draft) -> Iterator[tuple[Path, Route]]:
    for index, route in enumerate(draft.routes):
        if route is not None:
            yield ("routes", index), route


def _unique_names(draft: Draft) -> Found:
    for key, sections in (("listeners", draft.listeners), ("routes", draft.routes)):
        seen: dict[str, int] = {}
        for index, section in enumerate(sections):
            if section is None:
                continue
            if section.name in seen:
                yield (key, index, "name"), f'"{section.name}" is the name of {key}[{seen[section.name]}] already'
            seen.setdefault(section.name, index)


def _addresses(draft: Draft) -> Found:
    taken: list[tuple[str, str, int]] = []
    bound: list[tuple[Path, str]] = [
        (("listeners", index, "address"), listener.address)
        for index, listener in enumerate(draft.listeners)
        if listener is not None
    ]
    if draft.control is not None:
        bound.append((("control", "address"), draft.control.address))
    if draft.probes is not None and draft.probes.address is not None:
        bound.append((("probes", "address"), draft.probes.address))
    for path, address in bound:
        host, port = split_address(address)
        for other, other_host, other_port in taken:
            if port == other_port != 0 and _same_host(host, other_host):
                yield path, f"{address} is the address of {other} already"
        taken.append((str(path[0]) if len(path) == 2 else f"{path[0]}[{path[1]}]", host, port))
        for name, store in draft.stores.items():
            where = _store_address(store)
            if where is not None and where[1] == port and _same_host(host, where[0], wildcard_is_all=False):
                yield path, f"{address} is the address of the store `{name}`; the proxy would talk to itself"


def _same_host(one: str, other: str, wildcard_is_all: bool = True) -> bool:
    if wildcard_is_all and (one in ("0.0.0.0", "::") or other in ("0.0.0.0", "::")):
        return True
    return one == other or (is_loopback(one) and is_loopback(other))


def _store_address(store: StoreConfig | None) -> tuple[str, int] | None:
    match store:
        case QdrantConfig():
            return split_address(store.url.partition("://")[2].partition("/")[0])
        case MilvusConfig():
            return split_address(store.address)
        case _:
            return None


def _who_may_connect(draft: Draft) -> Found:
    if draft.auth is None:
        return
    if draft.auth.mode == "keys" and not draft.auth.keys:
        yield ("auth", "keys"), "is empty, but `auth.mode` is keys: nobody could connect; give at least one key"
    if draft.auth.mode != "keys" and draft.auth.keys:
        yield ("auth", "keys"), f"is only used with `mode: keys`, not with {draft.auth.mode}"
    if draft.auth.mode == "none":
        for index, listener in enumerate(draft.listeners):
            if listener is not None and not is_loopback(split_address(listener.address)[0]):
                yield (
                    ("listeners", index, "address"),
                    f"{listener.address} is beyond loopback, but `auth.mode` is none: an answer from the other store "
                    "never shows it the client's key, so anybody who reaches this address could read everything; "
                    "set `auth.mode` to keys or ask-primary, or listen on 127.0.0.1",
                )
    if draft.auth.mode == "ask-primary":
        for name in {route.source for _, route in _routes(draft)} | {draft.text("default_source")}:
            store = draft.stores.get(name or "")
            if store is not None and not isinstance(store, QdrantConfig | MilvusConfig):
                yield (
                    ("auth", "mode"),
                    f"ask-primary has nobody to ask: the store `{name}` ({store.kind}) checks no keys; use keys",
                )
        if draft.moved:
            yield (
                ("auth", "mode"),
                "ask-primary has nobody to ask: the target, which does not know the source's keys, is the primary of "
                f"{', '.join(draft.moved)}; use keys",
            )


def _stores_of_several_workers(draft: Draft) -> Found:
    """A store that lives in a process is another one in each of them, or can be opened by one alone."""
    workers = draft.given.get("workers")
    if isinstance(workers, int) and workers > 1:
        for name, store in draft.stores.items():
            if isinstance(store, MemoryConfig | QdrantEdgeConfig):
                yield ("stores", name), f"lives in one process, and `workers` is {workers}; set it to 1"


def _authorities(draft: Draft) -> Found:
    """Named for connections that are not encrypted, they would not be asked."""
    for name, store in draft.stores.items():
        if isinstance(store, QdrantConfig) and store.ca and not store.grpc_endpoint.startswith("https"):
            yield ("stores", name, "ca"), "is of no use without https:// in `url` and `grpc_url`"
        if isinstance(store, MilvusConfig) and store.ca and not store.tls:
            yield ("stores", name, "ca"), "is of no use without `tls: true`"


def _stores_of_routes(draft: Draft) -> Found:
    for path, route in _routes(draft):
        for side, name in (("source", route.source), ("target", route.target)):
            if name not in draft.stores:
                yield (*path, side), _no_store(name, draft)
        if route.source == route.target:
            yield (*path, "target"), f'"{route.target}" is the source too; a route moves from one store to another'
        elif _same_database(draft, route) and (kept := _unmapped(route)):
            yield (
                (*path, "target"),
                f"`{route.source}` and `{route.target}` are the same database, and `{kept}` has the same name in both; "
                "give its new name in `names`",
            )
        yield from _speaks(draft, route.source, (*path, "source"))


def _same_database(draft: Draft, route: Route) -> bool:
    source, target = draft.stores.get(route.source), draft.stores.get(route.target)
    return (
        source is not None
        and target is not None
        and endpoint(source) is not None
        and endpoint(source) == endpoint(target)
    )


def _unmapped(route: Route) -> str | None:
    return next((name for name in route.collections if route.names.get(name, name) == name), None)


def _no_store(name: str, draft: Draft) -> str:
    return f'"{name}" is not a store; there are: {", ".join(draft.stores) or "none"}'


def _speaks(draft: Draft, name: str, path: Path) -> Found:
    store = draft.stores.get(name)
    vendors = {listener.vendor for listener in draft.listeners if listener is not None}
    if store is not None and (missing := vendors - SPOKEN[store.kind]):
        yield path, f"`{name}` ({store.kind}) cannot answer the {missing.pop()} clients of the listeners"


def _patterns(draft: Draft) -> Found:
    seen: list[tuple[str, int]] = []
    for path, route in _routes(draft):
        index = path[1]
        assert isinstance(index, int)
        for position, pattern in enumerate(route.collections):
            here = (*path, "collections", position)
            for earlier, owner in seen:
                if earlier == pattern:
                    yield here, f'"{pattern}" stands in routes[{owner}] already'
                    break
                if owner != index and not _GLOB.search(pattern) and fnmatchcase(pattern, earlier):
                    yield here, f'"{pattern}" is never reached, because routes[{owner}] has "{earlier}"; move it up'
                    break
            seen.append((pattern, index))


def _collection_names(draft: Draft) -> Found:
    owners: dict[tuple[str, str], str] = {}
    for path, route in _routes(draft):
        for name in route.names:
            if not any(fnmatchcase(name, pattern) for pattern in route.collections):
                yield (*path, "names", name), f"no pattern of `collections` matches {name}"
        literal = [pattern for pattern in route.collections if not _GLOB.search(pattern)]
        target = draft.stores.get(route.target)
        for name in dict.fromkeys([*route.names, *literal]):
            mapped = route.names.get(name, name)
            where = (
                (*path, "names", name) if name in route.names else (*path, "collections", route.collections.index(name))
            )
            owner = owners.setdefault((route.target, mapped), name)
            if owner != name:
                yield where, f'"{mapped}" in `{route.target}` is the copy of {owner} already'
            if isinstance(target, MilvusConfig) and not _MILVUS_NAME.match(mapped):
                yield where, f'"{mapped}" is not a name that Milvus takes (letters, digits, _); give another in `names`'


def _tenants(draft: Draft) -> Found:
    routes = draft.given.get("routes", ())
    for path, route in _routes(draft):
        raw = routes[path[1]] if isinstance(routes, tuple) and isinstance(path[1], int) else None
        if route.tenant_field is not None or (isinstance(raw, dict) and "tenant_field" in raw):
            continue
        if route.reads.sticky == "tenant":
            yield (*path, "reads", "sticky"), "tenant needs the route's `tenant_field`"
        for index, rule in enumerate(route.rules):
            if rule.when.tenants is not None:
                yield (*path, "rules", index, "when", "tenants"), "needs the route's `tenant_field`"


def _unknown_collections(draft: Draft) -> Found:
    policy, route, source = (draft.text(key) for key in ("unknown_collections", "default_route", "default_source"))
    names = [route.name for _, route in _routes(draft)]
    broken = None in draft.routes
    if policy == "mirror" and route is None:
        yield ("unknown_collections",), "mirror needs `default_route`, the route that they move with"
    if policy != "mirror" and route is not None:
        yield ("default_route",), "is only used with `unknown_collections: mirror`"
    if route is not None and route not in names and not broken:
        yield ("default_route",), f'"{route}" is not a route; there are: {", ".join(names) or "none"}'
    if source is not None:
        if source not in draft.stores:
            yield ("default_source",), _no_store(source, draft)
        yield from _speaks(draft, source, ("default_source",))
    elif not broken and len({route.source for _, route in _routes(draft)}) != 1:
        yield (
            ("default_source",),
            "is missing: routes have no common source, so name the store that answers what belongs to no route",
        )


_CHECKS: tuple[Callable[[Draft], Found], ...] = (
    _unique_names,
    _addresses,
    _who_may_connect,
    _stores_of_several_workers,
    _authorities,
    _stores_of_routes,
    _patterns,
    _collection_names,
    _tenants,
    _unknown_collections,
)
