"""Gates: what has to be so before a route may go a step further, each shown with its present value.

A gate only looks; it changes nothing but what `reverse` writes to a collection of its own and removes again. Whoever
insists (`--force`) may pass a closed gate that is `forceable`, and leaves the reason in the audit log.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy.errors import CrossfadeError, Foreign
from proxy.migration.jobs import DONE, Jobs, JobState
from proxy.model import CollectionSpec, Metric, Point, Side, VectorSpec
from proxy.serving.live import LiveRoute
from proxy.stores import Store

_PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Gate:
    """`value`: what there is now; `next`: what opens it, "" while it is open."""

    name: str
    value: str
    open: bool
    forceable: bool = False
    next: str = ""


@dataclass(frozen=True, slots=True)
class Looking:
    """What gates look at. `auth_mode`: how clients' keys are checked now (a reload may change it)."""

    live: LiveRoute
    jobs: Jobs
    collections: Callable[[], Awaitable[Sequence[str]]]  # of the source, that the route takes
    auth_mode: Callable[[], str]


Look = Callable[[Looking], Awaitable[Gate]]


async def look(names: Sequence[str], looking: Looking) -> list[Gate]:
    """The gates of those names, in their order."""
    return list(await asyncio.gather(*(_GATES[name](looking) for name in names)))


async def _stores(looking: Looking) -> Gate:
    stores = looking.live.replicator.stores
    down = [
        label
        for label, store in ((stores.source_label, stores.source), (stores.target_label, stores.target))
        if not await _answers(store)
    ]
    value = f"{' and '.join(down)} down" if down else "both answer"
    return Gate("stores", value, not down, next="crossfade status says why" if down else "")


async def _answers(store: Store) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await store.probe()
    except (CrossfadeError, TimeoutError):
        return False
    return True


async def _capable(looking: Looking) -> Gate:
    able = looking.live.front is not None
    value = "the target can answer the application" if able else "this target cannot answer the application's client"
    return Gate("capable", value, able, next="" if able else "another kind of target")


async def _access(looking: Looking) -> Gate:
    mode = looking.auth_mode()
    able = mode != "ask-primary"
    hint = "" if able else "set auth.mode to keys: after cutover the source may be gone, and nobody else knows its keys"
    return Gate("access", f"auth.mode is {mode}", able, next=hint)


async def _jobs(looking: Looking) -> Gate:
    running = [job.id for job in _of_route(looking) if not job.ended and job.kind != "verify"]
    value = f"{', '.join(running)} under way" if running else "none under way"
    return Gate("jobs", value, not running, next="wait, or cancel it" if running else "")


async def _collections(looking: Looking) -> Gate:
    """Every collection that the route takes is on both sides: so says the journal, and each store that answers."""
    replicator = looking.live.replicator
    stores = replicator.stores
    try:
        names = await looking.collections()
    except CrossfadeError:
        names = []  # the source is gone; what the journal knows has to do
    there = dict(zip(Side, await asyncio.gather(*(_listed(stores.at(side)) for side in Side)), strict=True))
    missing = []
    for name in dict.fromkeys([*names, *replicator.book.ledgers]):
        ledger = replicator.ledger(name)
        if ledger.parked_whole:
            missing.append(f"{name} is only on the {replicator.book.primary.value} ({ledger.parked_whole})")
        elif ledger.behind or ledger.behind_all:
            missing.append(f"{name} waits for `crossfade recover`")
        elif ledger.unswept:
            missing.append(f"{name}: {ledger.unswept}")
        elif ledger.unverified:
            missing.append(f"{name} needs a verify: {ledger.unverified}")
        else:
            gone = [side for side in Side if not _may_have(there[side], stores.name_at(side, name))]
            if len(gone) == 1:  # one that was dropped is on neither
                missing.append(f"{name} is gone from the {gone[0].value}")
    value = "; ".join(missing) if missing else f"{len(names)} on both sides"
    step = "verify" if all("needs a verify" in each for each in missing) else "backfill"
    return Gate("collections", value, not missing, next=f"crossfade {step} {looking.live.name}" if missing else "")


async def _listed(store: Store) -> frozenset[str] | None:
    """What it says it has; None if it does not answer, which the gate `stores` is for."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return frozenset(await store.collections())
    except (CrossfadeError, TimeoutError):
        return None


def _may_have(listed: frozenset[str] | None, name: str) -> bool:
    return listed is None or name in listed


async def _open(looking: Looking) -> Gate:
    live = looking.live
    lag = live.replicator.lag()
    behind = lag.dirty + lag.held
    bound = live.config.cutover.max_lag_keys
    value = f"{lag.open} open, {lag.dirty} dirty, {lag.held} held (at most {bound} dirty, none held)"
    is_open = behind <= bound and not lag.held
    return Gate("open", value, is_open, next="" if is_open else "wait until the secondary has caught up")


async def _parked(looking: Looking) -> Gate:
    parked = looking.live.replicator.lag().parked
    hint = f"crossfade parked {looking.live.name}; change or delete these points" if parked else ""
    return Gate("parked", f"{parked} points only on one side", not parked, next=hint)


async def _verify(looking: Looking) -> Gate:
    """The latest verify found both sides equal, not long ago, and nothing has been swept since it began."""
    route, again = looking.live.name, f"crossfade verify {looking.live.name}"
    done = [job for job in _of_route(looking) if job.kind == "verify" and job.status == DONE]
    if not done:
        return Gate("verify", "never run to its end", False, forceable=True, next=again)
    last = max(done, key=lambda job: job.ended_position)
    result = last.result
    if result.get("different") or result.get("unchecked"):
        value = f"{result['different']} different, {result['unchecked']} could not be checked"
        return Gate("verify", value, False, next=f"crossfade verify {route} --repair")
    since = last.ended_position
    later = [job.id for job in _of_route(looking) if job.kind in ("backfill", "sweep") and job.ended_position > since]
    age, bound = time.time() - last.ended_at, looking.live.config.cutover.verify_max_age_seconds
    value = f"{result.get('equal', 0)} equal, 0 different, {age:,.0f} s ago"
    if later:
        return Gate("verify", f"{value}, but {later[-1]} ran after it", False, forceable=True, next=again)
    fresh = abs(age) <= bound  # a clock that was set back proves nothing
    return Gate("verify", value, fresh, forceable=True, next="" if fresh else f"{again}: not older than {bound:g} s")


async def _drift(looking: Looking) -> Gate:
    found = looking.live.drift.found
    hint = f"find out who writes past the proxy, then crossfade verify {looking.live.name} --repair" if found else ""
    return Gate("drift", found or "none seen", not found, forceable=True, next=hint)


async def _empty(looking: Looking) -> Gate:
    """Nothing but what this route brought there."""
    replicator = looking.live.replicator
    foreign = []
    try:
        for name in await looking.collections():
            try:
                await replicator.workshop(name).site.refuse_foreign_points()
            except Foreign as error:
                foreign.append(str(error))
    except CrossfadeError as error:
        return Gate("empty", f"cannot be looked at: {error}", False, next="crossfade status says why")
    return Gate("empty", "; ".join(foreign) if foreign else "the target holds nothing of these", not foreign)


async def _bypass(looking: Looking) -> Gate:
    found = looking.live.drift.bypassed
    hint = "point every application at the proxy" if found else ""
    return Gate("bypass", found or "nobody seen who writes past the proxy", not found, forceable=True, next=hint)


async def _shadow(looking: Looking) -> Gate:
    bounds = looking.live.config.cutover
    figures = looking.live.shadow.report.figures()
    overlap = figures.overlap or 0.0
    value = f"{figures.compared} compared, overlap {overlap:.3f}, {figures.errors} errors"
    enough = figures.compared >= bounds.min_shadow_reads
    good = overlap >= bounds.min_overlap or not bounds.min_shadow_reads
    hint = ""
    if not enough:
        hint = f"set shadow.sample_percent until {bounds.min_shadow_reads} searches are compared"
    elif not good:
        hint = f"crossfade shadow {looking.live.name}: overlap is to be {bounds.min_overlap:g}"
    return Gate("shadow", value, enough and good, forceable=True, next=hint)


async def _reads(looking: Looking) -> Gate:
    weight = looking.live.weight
    return Gate(
        "reads",
        f"{weight:g} % from the target",
        weight == 100,
        forceable=True,
        next="" if weight == 100 else f"crossfade weight {looking.live.name} 100",
    )


async def _aliases(looking: Looking) -> Gate:
    """Both sides give the route's collections the same aliases."""
    live = looking.live
    stores, names = live.replicator.stores, live.replicator.book.ledgers
    try:
        here, there = await asyncio.gather(stores.source.aliases(), stores.target.aliases())
    except CrossfadeError as error:
        return Gate("aliases", f"cannot be read: {error}", False, next="crossfade status")
    wanted = {alias: stores.map_name(name) for alias, name in here.items() if name in names}
    theirs = {stores.map_name(name) for name in names}
    found = {alias: name for alias, name in there.items() if name in theirs}
    missing = sorted(alias for alias in wanted.keys() | found.keys() if wanted.get(alias) != found.get(alias))
    value = f"not the same on both sides: {', '.join(missing)}" if missing else f"{len(wanted)}, the same on both sides"
    hint = f"crossfade mirror {live.name} gives the secondary the primary's aliases" if missing else ""
    return Gate("aliases", value, not missing, next=hint)


async def _reverse(looking: Looking) -> Gate:
    """A point goes from the target's form to the source and back, in a collection made for it."""
    stores = looking.live.replicator.stores
    name = f"crossfade_probe_{secrets.token_hex(4)}"
    spec = CollectionSpec({"": VectorSpec(size=4, metric=Metric.DOT)})
    point = Point(1, {"": b"\0\0\x80\x3f" * 4}, {"probe": True})
    for label, store in ((stores.target_label, stores.target), (stores.source_label, stores.source)):
        try:
            await store.create(name, spec)
            await store.upsert(name, [point])
            found = await store.fetch(name, [1])
            problem = "" if found.get(1) == point else "a point came back changed"
        except CrossfadeError as error:
            problem = str(error)
        finally:
            dropped = await _dropped(store, name)
        if problem or not dropped:
            return Gate("reverse", f"{label}: {problem or f'{name} could not be removed'}", False, forceable=True)
    return Gate("reverse", "both take writes of the proxy", True)


async def _dropped(store: Store, name: str) -> bool:
    try:
        await store.drop(name)
    except CrossfadeError:
        return False
    return True


def _of_route(looking: Looking) -> list[JobState]:
    return [job for job in looking.jobs.all() if job.route == looking.live.name]


_GATES: Mapping[str, Look] = {
    "stores": _stores,
    "capable": _capable,
    "access": _access,
    "jobs": _jobs,
    "collections": _collections,
    "open": _open,
    "parked": _parked,
    "verify": _verify,
    "drift": _drift,
    "empty": _empty,
    "bypass": _bypass,
    "shadow": _shadow,
    "reads": _reads,
    "aliases": _aliases,
    "reverse": _reverse,
}
