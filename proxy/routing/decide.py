"""Which side answers a read.

In this order, the first that says something:

1. the operator's weight 0: everything back to the source, whatever rules say (the roll-back of reads)
2. the first rule whose conditions all hold
3. the operator's weight, or else the route's

Then: if that is the secondary and there is an obstacle (lag, not backfilled, a key that is not clean, ...),
the primary answers after all. The reason tells which of these it was, in words that are fit for a header
and, being few, for a counter: "rule 2", "rule 2: weight 10", "weight 25", "weight 25 (operator)",
"source: lag".
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from proxy.config import Route, When
from proxy.model import Side
from proxy.routing.bucket import place, within
from proxy.routing.facts import Facts


class Decision(NamedTuple):
    """`shadow`: the other side is to be asked too, off the client's path, to compare."""

    read_from: Side
    reason: str
    shadow: bool = False


def decide_read(
    route: Route,
    facts: Facts,
    draw: float,
    obstacle: str | None = None,
    *,
    weight_override: float | None = None,
    primary: Side = Side.SOURCE,
) -> Decision:
    """Who answers. `draw` is a chance in [0, 1), used where nothing is sticky and for the shadow sample.
    `obstacle` is why the secondary cannot answer this read, a short stable phrase; None if it can.
    `weight_override` is the operator's weight, if there is one."""
    wish, reason = _wish(route, facts, draw, weight_override)
    if obstacle is not None and wish is not primary:
        return Decision(primary, f"{primary.value}: {obstacle}")
    return Decision(wish, reason, shadow=obstacle is None and is_sampled(route, facts, draw))


def stays_with_source(route: Route, facts: Facts, draw: float, weight_override: float | None) -> str | None:
    """Why the source answers this read as long as it is the primary, whatever the state of the target; None if somebody
    else may have to. Whether the target is asked too is another question: `is_sampled`."""
    wish, reason = _wish(route, facts, draw, weight_override)
    return reason if wish is Side.SOURCE else None


def asks_for_tenants(route: Route) -> bool:
    """Whether the route's decisions hang on the tenant that a read is confined to."""
    return route.reads.sticky == "tenant" or any(rule.when.tenants is not None for rule in route.rules)


def is_sampled(route: Route, facts: Facts, draw: float) -> bool:
    """Whether the other side is asked too, unless there is an obstacle."""
    percent = route.shadow.sample_percent
    if percent <= 0 or facts.kind != "search":
        return False
    return percent >= 100 or within(place(f"{route.name}/shadow", repr(draw)), percent)


def _wish(route: Route, facts: Facts, draw: float, weight_override: float | None) -> tuple[Side, str]:
    if weight_override == 0:
        return Side.SOURCE, "weight 0 (operator)"
    for number, rule in enumerate(route.rules, start=1):
        if not _holds(rule.when, facts) or not _in_share(rule.when.share, f"rule {number}", route, facts, draw):
            continue
        if rule.weight is None:
            return (Side.TARGET if rule.read == "target" else Side.SOURCE), f"rule {number}"
        return _by_weight(rule.weight, route, facts, draw), f"rule {number}: weight {rule.weight:g}"
    if weight_override is not None:
        return _by_weight(weight_override, route, facts, draw), f"weight {weight_override:g} (operator)"
    return _by_weight(route.reads.weight, route, facts, draw), f"weight {route.reads.weight:g}"


def _holds(when: When, facts: Facts) -> bool:
    names = (facts.collection, *facts.aliases)
    return (
        (when.collections is None or any(fnmatchcase(name, pattern) for name in names for pattern in when.collections))
        and (when.tenants is None or facts.tenant in when.tenants)
        and (when.operations is None or facts.kind in when.operations)
        and (when.headers is None or all(facts.headers.get(name) == value for name, value in when.headers.items()))
    )


def _in_share(share: float | None, salt: str, route: Route, facts: Facts, draw: float) -> bool:
    """Whether a rule's share takes the read; by places of the rule's own, or else a rule's weight, and the
    weight after it, would see only one end of the reads."""
    if share is None:
        return True
    value = _sticky_value(route, facts)
    return within(place(f"{route.name}/{salt}", repr(draw) if value is None else value), share)


def _by_weight(weight: float, route: Route, facts: Facts, draw: float) -> Side:
    value = _sticky_value(route, facts)
    return Side.TARGET if within(draw if value is None else place(route.name, value), weight) else Side.SOURCE


def _sticky_value(route: Route, facts: Facts) -> str | None:
    """What the read sticks by; None where nothing is sticky or the request does not have it."""
    match route.reads.sticky:
        case "none":
            return None
        case "client":
            return facts.client or None
        case "tenant":
            return facts.tenant
        case _:
            return facts.headers.get(route.reads.sticky_header or "")
