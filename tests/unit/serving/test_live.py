"""Parts of a live route by themselves: the breaker, scrolls, who may read."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import pytest
from pydantic import SecretStr

from proxy.config import Auth
from proxy.dialects import Call
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import CrossfadeError, Unauthorized, Unavailable
from proxy.model import Count, Counted, Match, Result, Scroll
from proxy.serving.access import Gatekeeper, GuardedFront
from proxy.serving.live import Breaker
from proxy.serving.reads import Scrolls
from proxy.serving.store_limit import StoreLimit
from proxy.serving.upstream import Upstream
from proxy.stores import Forwarder, Passage
from proxy.stores.memory import MemoryStore
from proxy.telemetry.metrics import Metrics
from proxy.wire import Request, Response, Transport
from tests.support.clock import ManualClock


async def test_three_failures_in_a_row_trip_the_breaker_for_two_seconds() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    seen = []
    for step in (
        breaker.failed,
        breaker.failed,
        breaker.failed,
        lambda: clock.advance(2.1),
        breaker.failed,
        breaker.worked,
    ):
        if (waiting := step()) is not None:
            await waiting
        seen.append(breaker.tripped)
    assert seen == [False, False, True, False, True, False]


def test_a_scroll_is_remembered_by_what_it_scrolls_and_where_it_is() -> None:
    scrolls = Scrolls()
    first = Scroll("docs", 10, filter=Match("a", 1))
    scrolls.remember("docs", first, 11)
    assert scrolls.began_on_target("docs", Scroll("docs", 10, start=11, filter=Match("a", 1)))
    assert not scrolls.began_on_target("docs", Scroll("docs", 10, start=12, filter=Match("a", 1)))
    assert not scrolls.began_on_target("docs", Scroll("docs", 10, start=11, filter=Match("a", 2)))
    assert not scrolls.began_on_target("other", Scroll("docs", 10, start=11, filter=Match("a", 1)))
    assert not scrolls.began_on_target("docs", first)
    scrolls.remember("docs", first, UUID(int=1))
    scrolls.remember("docs", first, None)


class Database:
    """A forwarder to a database that accepts one key, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.down = False

    async def forward(self, request: Request) -> Response:
        self.asked.append(request)
        if self.down:
            raise Unavailable("down")
        return Response(200 if request.header("api-key") == "good" else 403)

    def passage(self, request: Request) -> Passage | None:
        return None

    async def close(self) -> None:
        return


DIALECT = QdrantRest()


def request(key: str | None = None, bearer: str | None = None) -> Request:
    headers = [("api-key", key)] if key is not None else []
    headers += [("authorization", f"Bearer {bearer}")] if bearer is not None else []
    return Request("http", "POST", "/collections/docs/points/query", tuple(headers))


@pytest.mark.parametrize("sent", [request("one"), request("two"), request(bearer="two")])
def test_a_configured_key_is_admitted(sent: Request) -> None:
    auth = Auth(mode="keys", keys=(SecretStr("one"), SecretStr("two")))
    assert Gatekeeper(auth, ManualClock(), Metrics()).admit(DIALECT, sent).access == "checked"


@pytest.mark.parametrize("sent", [request(), request(""), request("on"), request("onee"), request(bearer="three")])
def test_any_other_key_is_refused(sent: Request) -> None:
    auth = Auth(mode="keys", keys=(SecretStr("one"), SecretStr("two")))
    with pytest.raises(Unauthorized):
        Gatekeeper(auth, ManualClock(), Metrics()).admit(DIALECT, sent)


async def test_the_primary_is_asked_once_a_minute_for_a_key_and_collection() -> None:
    clock, database = ManualClock(), Database()
    forwarders: Mapping[Transport, Forwarder] = {"http": database}
    upstream = Upstream.of(MemoryStore(), forwarders, clock, StoreLimit("old", clock))
    gatekeeper = Gatekeeper(Auth(mode="ask-primary", cache_seconds=60), clock, Metrics())

    async def may(sent: Request, collection: str = "docs") -> bool:
        return await gatekeeper.may_read(DIALECT, sent, upstream, collection, "docs")

    assert await may(request("good"))
    assert await may(request("good"))
    assert [asked.path for asked in database.asked] == ["/collections/docs"]
    assert not await may(request("bad"))
    assert not await may(request("bad"))
    assert len(database.asked) == 2
    assert await may(request("good"), "other")
    assert len(database.asked) == 3
    await clock.advance(61)
    database.down = True
    assert not await may(request("good"))
    database.down = False
    assert await may(request("good"))
    await upstream.close()


async def test_what_is_known_of_a_key_outlives_the_mode() -> None:
    """A request that waits while `auth` is edited: it is neither asked for again, nor taken for a checked one."""
    clock, database = ManualClock(), Database()
    forwarders: Mapping[Transport, Forwarder] = {"http": database}
    upstream = Upstream.of(MemoryStore(), forwarders, clock, StoreLimit("old", clock))
    keys, ask = Auth(mode="keys", keys=(SecretStr("bad"),)), Auth(mode="ask-primary")
    gatekeeper = Gatekeeper(keys, clock, Metrics())
    checked = gatekeeper.admit(DIALECT, request("bad"))
    gatekeeper.apply(ask)
    unchecked = gatekeeper.admit(DIALECT, request("bad"))
    assert await gatekeeper.may_read(DIALECT, checked, upstream, "docs", "docs")
    assert not database.asked
    gatekeeper.apply(keys)
    assert not await gatekeeper.may_read(DIALECT, unchecked, upstream, "docs", "docs")
    await upstream.close()


class Everything:
    """A front that answers whatever it is asked."""

    async def answer(self, call: Call) -> Result:
        return Counted(1)

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        return DIALECT.refuse(request, error)


@pytest.mark.parametrize(
    ("auth", "is_answered"),
    [(Auth(), True), (Auth(mode="keys", keys=(SecretStr("one"),)), True), (Auth(mode="ask-primary"), False)],
    ids=["none", "keys", "ask-primary"],
)
async def test_the_target_as_primary_answers_nobody_whom_only_the_source_could_check(
    auth: Auth, is_answered: bool
) -> None:
    admitted = Gatekeeper(auth, ManualClock(), Metrics()).admit(DIALECT, request("one"))
    asking = GuardedFront(Everything(), StoreLimit("new", ManualClock())).answer(Call(admitted, Count("docs")))
    if is_answered:
        assert await asking == Counted(1)
    else:
        with pytest.raises(Unauthorized, match=r"set auth\.mode to keys"):
            await asking
