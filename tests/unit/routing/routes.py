"""Routes and facts for the tests of routing, through the parser as in the running program."""

from __future__ import annotations

from functools import cache

from proxy.config import ReadKind, Route
from proxy.routing import Facts
from tests.unit.config.texts import BASE, parsed


@cache
def route(*lines: str) -> Route:
    """The route `docs`, with a tenant field and these lines of YAML in it."""
    return parsed(BASE + "".join(f"    {line}\n" for line in ("tenant_field: group", *lines))).routes[0]


def facts(
    kind: ReadKind = "search",
    *,
    collection: str = "docs",
    aliases: tuple[str, ...] = (),
    tenant: str | None = None,
    client: str = "",
    **headers: str,
) -> Facts:
    return Facts(
        kind, collection, aliases, tenant, {name.replace("_", "-"): text for name, text in headers.items()}, client
    )
