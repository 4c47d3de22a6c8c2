"""Which route a collection belongs to."""

from __future__ import annotations

from proxy.config import Route
from proxy.routing import RouteTable, Unrouted, source_name, target_name
from tests.unit.config.texts import BASE, parsed

ROUTES = """\
  - {name: logs, collections: ["logs-*", "log?", "[ab]x"], source: old, target: third}
  - {name: rest, collections: ["*s"], source: old, target: third}
"""


def found(table: RouteTable, collection: str, *aliases: str) -> str | Unrouted:
    owner = table.find(collection, aliases)
    return owner.name if isinstance(owner, Route) else owner


def test_the_first_route_that_matches_by_name_or_alias() -> None:
    table = RouteTable.of(parsed(BASE + ROUTES))
    unknown = Unrouted(refused=False, source="old")
    assert found(table, "docs") == "docs"
    assert found(table, "docs_v2", "handbook", "docs") == "docs"
    assert found(table, "logs-2024") == "logs"
    assert found(table, "logs") == "logs"
    assert found(table, "ax") == "logs"
    assert found(table, "cats") == "rest"
    assert found(table, "cats", "logs-x") == "logs"
    assert found(table, "cat") == unknown
    assert found(table, "Docs") == "rest"
    assert found(table, "docs\n") == unknown
    assert found(table, "xdocsx") == unknown


def test_a_pattern_matches_the_whole_name() -> None:
    table = RouteTable.of(parsed(BASE))
    assert isinstance(table.find("docs2"), Unrouted)
    assert isinstance(table.find("my.docs"), Unrouted)


def test_unknown_collections() -> None:
    assert found(RouteTable.of(parsed(BASE + "unknown_collections: refuse\n")), "x") == Unrouted(True, "old")
    assert found(RouteTable.of(parsed(BASE + "default_source: third\n")), "x") == Unrouted(False, "third")
    mirrored = BASE + ROUTES + "unknown_collections: mirror\ndefault_route: logs\n"
    assert found(RouteTable.of(parsed(mirrored)), "x") == "logs"


def test_no_route_has_what_is_no_name() -> None:
    every = '  - {name: all, collections: ["*"], source: old, target: third}\n'
    for mirrored in ("", "unknown_collections: mirror\ndefault_route: all\n"):
        table = RouteTable.of(parsed(BASE + every + mirrored))
        assert found(table, "x") == "all"
        assert found(table, "") == Unrouted(refused=False, source="old")


def test_without_routes_everything_is_unknown() -> None:
    text = BASE.partition("routes:")[0] + "default_source: old\n"
    assert found(RouteTable.of(parsed(text)), "docs") == Unrouted(False, "old")


def test_names_on_both_sides() -> None:
    route = parsed(BASE.replace("[docs]", "['docs*']") + "    names: {docs: papers}\n").routes[0]
    assert (target_name(route, "docs"), target_name(route, "docs2")) == ("papers", "docs2")
    assert (source_name(route, "papers"), source_name(route, "docs2")) == ("docs", "docs2")
