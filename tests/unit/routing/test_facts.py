"""What is known of a read: its kind, tenant, headers and client."""

from __future__ import annotations

import pytest

from proxy.model import And, Count, DataRead, Fetch, Filter, Match, MatchAny, Not, Or, Scroll, Search, SearchBatch
from proxy.routing import Facts, client_host, facts_of, tenant_of
from proxy.wire import Request

VECTOR = b"\0\0\0\0"
ACME, GLOBEX = Match("group", "acme"), Match("group", "globex")
OTHER = Match("lang", "en")


def search(condition: Filter | None) -> Search:
    return Search("docs", VECTOR, 10, filter=condition)


@pytest.mark.parametrize(
    ("condition", "tenant"),
    [
        (ACME, "acme"),
        (And((OTHER, ACME)), "acme"),
        (And((OTHER, And((ACME,)))), "acme"),
        (And((ACME, ACME)), "acme"),
        (MatchAny("group", ("acme",)), "acme"),
        (Match("group", 7), "7"),
        (None, None),
        (OTHER, None),
        (Match("group", True), None),
        (MatchAny("group", ("acme", "globex")), None),
        (And((ACME, GLOBEX)), None),
        (Or((ACME, GLOBEX)), None),
        (Or((ACME,)), None),
        (Not(ACME), None),
        (And((Not(ACME), OTHER)), None),
    ],
)
def test_the_tenant_is_what_the_filter_demands_at_its_top(condition: Filter | None, tenant: str | None) -> None:
    assert tenant_of(search(condition), "group") == tenant
    assert tenant_of(Scroll("docs", 10, filter=condition), "group") == tenant
    assert tenant_of(Count("docs", condition), "group") == tenant
    assert tenant_of(SearchBatch("docs", (search(condition), search(condition))), "group") == tenant


def test_a_batch_has_a_tenant_only_if_all_its_searches_have_the_same() -> None:
    assert tenant_of(SearchBatch("docs", (search(ACME), search(GLOBEX))), "group") is None
    assert tenant_of(SearchBatch("docs", (search(ACME), search(None))), "group") is None
    assert tenant_of(SearchBatch("docs", ()), "group") is None


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (search(None), "search"),
        (SearchBatch("docs", (search(None),)), "search"),
        (Fetch("docs", (1,)), "fetch"),
        (Scroll("docs", 10), "scroll"),
        (Count("docs"), "count"),
    ],
)
def test_facts_are_taken_from_operation_and_head(read: DataRead, kind: str) -> None:
    request = Request(
        "grpc",
        "",
        "/qdrant.Points/Search",
        headers=(("x-user", "one"), ("x-user", "two"), ("x-trace-bin", b"\xff")),
        client="ipv4:10.0.0.7:5123",
    )
    assert facts_of(read, request, "docs_v2", ("docs",), "group") == Facts(
        kind,  # type: ignore[arg-type]
        "docs_v2",
        ("docs",),
        None,
        {"x-user": "one", "x-trace-bin": "\xff"},
        "10.0.0.7",
    )


def test_the_tenant_is_looked_for_only_where_the_route_has_a_field() -> None:
    request = Request("http", "POST", "/")
    assert facts_of(search(ACME), request, "docs", tenant_field="group").tenant == "acme"
    assert facts_of(search(ACME), request, "docs", tenant_field="lang").tenant is None
    assert facts_of(search(ACME), request, "docs").tenant is None


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.0.0.7:5123", "10.0.0.7"),
        ("10.0.0.7", "10.0.0.7"),
        ("ipv4:10.0.0.7:5123", "10.0.0.7"),
        ("[2001:db8::1]:5123", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:5123", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:5123", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("client.example:5123", "client.example"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_a_client_is_its_host_without_the_port(peer: str, host: str) -> None:
    assert client_host(peer) == host
