"""Which side answers: order of precedence, weights that move nobody back, rules, shares, shadow samples."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Route
from proxy.model import Side
from proxy.routing import Decision, Facts, decide_read
from tests.unit.routing.routes import facts, route

S, T = Side.SOURCE, Side.TARGET
_CHANCE = random.Random(7)
DRAWS = [_CHANCE.random() for _ in range(20_000)]
USERS = [f"user-{number}" for number in range(20_000)]

draws = st.floats(0, 1, exclude_max=True)
weights = st.floats(0, 100)


def side(a_route: Route, some_facts: Facts | None = None, draw: float = 0.5) -> Side:
    return decide_read(a_route, some_facts or facts(), draw).read_from


def weighted(weight: float, sticky: str = "none") -> Route:
    return route(f"reads: {{weight: {weight}, sticky: '{sticky}'}}")


# --- the weight ----------------------------------------------------------------------------------


@given(draws)
def test_weight_0_reads_from_the_source_and_100_from_the_target(draw: float) -> None:
    assert decide_read(weighted(0), facts(), draw) == Decision(S, "weight 0")
    assert decide_read(weighted(100), facts(), draw) == Decision(T, "weight 100")


def test_without_stickiness_the_draw_decides() -> None:
    a_route = weighted(25)
    assert decide_read(a_route, facts(), 0.2499) == Decision(T, "weight 25")
    assert decide_read(a_route, facts(), 0.25) == Decision(S, "weight 25")


@pytest.mark.parametrize("weight", [0.5, 5, 25, 50, 99])
def test_a_weight_takes_its_share_of_draws_and_of_clients(weight: float) -> None:
    unstuck, stuck_route = weighted(weight), weighted(weight, "header:x-user")
    drawn = sum(side(unstuck, draw=draw) is T for draw in DRAWS)
    stuck = sum(side(stuck_route, facts(x_user=user)) is T for user in USERS)
    # 20,000 trials: four standard deviations are at most 1.5 percentage points
    deviation = 4 * (weight / 100 * (1 - weight / 100) / 20_000) ** 0.5
    assert abs(drawn / 20_000 - weight / 100) < deviation
    assert abs(stuck / 20_000 - weight / 100) < deviation


@given(weights, weights, st.text(min_size=1), st.sampled_from(["client", "tenant", "header:x-user"]), draws, draws)
def test_raising_the_weight_moves_nobody_back(
    one: float, other: float, who: str, sticky: str, draw: float, later: float
) -> None:
    some_facts = facts(client=who, tenant=who, x_user=who)
    before = side(weighted(min(one, other), sticky), some_facts, draw)
    after = side(weighted(max(one, other), sticky), some_facts, later)
    assert (before, after) != (T, S)


@given(st.text(min_size=1), draws, draws)
def test_who_is_sticky_stays_whatever_the_draw(who: str, draw: float, later: float) -> None:
    a_route = weighted(50, "client")
    assert side(a_route, facts(client=who), draw) is side(a_route, facts(client=who), later)


def test_places_are_the_same_in_every_version() -> None:
    """A change here moves clients of running migrations to and fro."""
    a_route = weighted(50, "client")
    placed = "".join("T" if side(a_route, facts(client=f"10.0.0.{last}")) is T else "s" for last in range(24))
    assert placed == "ssTsTTTsTsTssTTsTTssTTsT"


def test_routes_place_their_clients_independently() -> None:
    one, other = weighted(50, "client"), weighted(50, "client").model_copy(update={"name": "more"})
    same = sum(side(one, facts(client=user)) is side(other, facts(client=user)) for user in USERS)
    assert 9_500 < same < 10_500


@pytest.mark.parametrize("sticky", ["client", "tenant", "header:x-user"])
def test_without_the_sticky_value_the_draw_decides(sticky: str) -> None:
    assert side(weighted(25, sticky), draw=0.2) is T
    assert side(weighted(25, sticky), draw=0.3) is S


# --- the operator ----------------------------------------------------------------------------------


def test_the_operators_weight_stands_in_for_the_routes() -> None:
    assert decide_read(weighted(0), facts(), 0.2, weight_override=25) == Decision(T, "weight 25 (operator)")
    assert decide_read(weighted(100), facts(), 0.3, weight_override=25) == Decision(S, "weight 25 (operator)")


def test_the_operators_weight_leaves_rules_but_0_takes_everything_back() -> None:
    a_route = route("rules: [{when: {operations: [search]}, read: target}]")
    assert decide_read(a_route, facts(), 0.9, weight_override=5) == Decision(T, "rule 1")
    assert decide_read(a_route, facts(), 0.9, weight_override=0) == Decision(S, "weight 0 (operator)")


# --- obstacles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("obstacle", ["lag", "not backfilled", "key not clean"])
def test_an_obstacle_sends_the_read_to_the_primary_with_its_reason(obstacle: str) -> None:
    assert decide_read(weighted(100), facts(), 0.5, obstacle) == Decision(S, f"source: {obstacle}")


def test_an_obstacle_is_none_for_reads_of_the_primary() -> None:
    assert decide_read(weighted(0), facts(), 0.5, "lag") == Decision(S, "weight 0")


def test_after_a_cutover_the_target_is_the_primary() -> None:
    assert decide_read(weighted(0), facts(), 0.5, "lag", primary=T) == Decision(T, "target: lag")
    assert decide_read(weighted(100), facts(), 0.5, "lag", primary=T) == Decision(T, "weight 100")


# --- rules ---------------------------------------------------------------------------------------


RULES = (
    "rules:",
    "  - {when: {headers: {x-canary: 'yes', x-team: blue}}, read: target}",
    "  - {when: {tenants: [acme, globex]}, read: source}",
    "  - {when: {operations: [count, scroll]}, read: target}",
    "  - {when: {collections: ['docs-*', handbook]}, weight: 10}",
    "  - {when: {tenants: [acme], operations: [search]}, read: target}",
    "reads: {weight: 100}",
)


@pytest.mark.parametrize(
    ("some_facts", "decision"),
    [
        (facts(x_canary="yes", x_team="blue", tenant="acme"), Decision(T, "rule 1")),
        (facts(x_canary="yes"), Decision(T, "weight 100")),
        (facts(x_canary="Yes", x_team="blue", tenant="acme"), Decision(S, "rule 2")),
        (facts(tenant="globex"), Decision(S, "rule 2")),
        (facts("scroll"), Decision(T, "rule 3")),
        (facts("scroll", tenant="acme"), Decision(S, "rule 2")),
        (facts(collection="docs-1"), Decision(S, "rule 4: weight 10")),
        (facts(collection="x", aliases=("y", "handbook")), Decision(S, "rule 4: weight 10")),
        (facts("fetch", collection="docs-1"), Decision(S, "rule 4: weight 10")),
        (facts(), Decision(T, "weight 100")),
        (facts("fetch", tenant="Acme"), Decision(T, "weight 100")),
    ],
)
def test_the_first_rule_that_applies_decides(some_facts: Facts, decision: Decision) -> None:
    assert decide_read(route(*RULES), some_facts, 0.5) == decision


def test_a_rule_without_conditions_always_applies() -> None:
    assert decide_read(route("rules: [{read: target}]"), facts("fetch"), 0.5) == Decision(T, "rule 1")


@given(
    st.lists(st.tuples(st.sampled_from(["search", "fetch", "scroll", "count"]), st.sampled_from(["source", "target"]))),
    st.sampled_from(["search", "fetch", "scroll", "count"]),
)
def test_rules_are_taken_in_order(rules: list[tuple[str, str]], kind: str) -> None:
    lines = [f"  - {{when: {{operations: [{operation}]}}, read: {read}}}" for operation, read in rules]
    a_route = route("rules:" + ("" if lines else " []"), *lines)
    expected = next(
        (
            Decision(Side(read), f"rule {number}")
            for number, (operation, read) in enumerate(rules, 1)
            if operation == kind
        ),
        Decision(S, "weight 0"),
    )
    assert decide_read(a_route, facts(kind), 0.5) == expected  # type: ignore[arg-type]


def test_a_share_takes_its_part_and_leaves_the_rest_to_what_follows() -> None:
    a_route = route("rules: [{when: {share: 20}, weight: 50}]", "reads: {weight: 10}")
    decisions = [decide_read(a_route, facts(), draw) for draw in DRAWS]
    by_rule = [decision for decision in decisions if decision.reason.startswith("rule 1")]
    by_weight = [decision for decision in decisions if decision.reason == "weight 10"]
    assert len(by_rule) + len(by_weight) == 20_000
    assert 0.185 < len(by_rule) / 20_000 < 0.215
    assert 0.46 < sum(decision.read_from is T for decision in by_rule) / len(by_rule) < 0.54
    assert 0.085 < sum(decision.read_from is T for decision in by_weight) / len(by_weight) < 0.115


@given(weights, weights, st.text(min_size=1))
def test_raising_a_share_lets_nobody_out(one: float, other: float, who: str) -> None:
    def taken(share: float) -> bool:
        a_route = route(f"rules: [{{when: {{share: {share}}}, read: target}}]", "reads: {sticky: client}")
        return side(a_route, facts(client=who)) is T

    assert not (taken(min(one, other)) and not taken(max(one, other)))


# --- the shadow sample ---------------------------------------------------------------------------


def test_searches_are_sampled_on_either_side_alike() -> None:
    a_route = route("reads: {weight: 50}", "shadow: {sample_percent: 20}")
    decisions = [decide_read(a_route, facts(), draw) for draw in DRAWS]
    for answering in (S, T):
        sampled = [decision.shadow for decision in decisions if decision.read_from is answering]
        assert 0.18 < sum(sampled) / len(sampled) < 0.22


@given(draws)
def test_a_sample_of_0_is_none_and_of_100_all(draw: float) -> None:
    assert not decide_read(route("shadow: {sample_percent: 0}"), facts(), draw).shadow
    assert decide_read(route("shadow: {sample_percent: 100}"), facts(), draw).shadow


def test_only_searches_are_sampled_and_only_while_the_secondary_can_answer() -> None:
    a_route = route("shadow: {sample_percent: 100}")
    assert [decide_read(a_route, facts(kind), 0.5).shadow for kind in ("search", "fetch", "scroll", "count")] == [
        True,
        False,
        False,
        False,
    ]
    assert not decide_read(a_route, facts(), 0.5, "lag").shadow
