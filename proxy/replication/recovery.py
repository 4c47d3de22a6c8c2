"""After an emergency: bringing home what only the old primary has.

The new primary may lack what was not clean when it took over; the ledger lists those keys as *behind*. Once the
operator says that the old primary is back with its data, they are copied from it, each under a reconciliation the wrong
way round: while it is open, and while what it sent may still land, writes of the key are refused for a moment, so that
nothing newer is overwritten. A key that was written since, as a whole, is not on the list any more; one of which a part
was written is reported, and stays on the list until it is written as a whole, or given up. A key that the old primary
does not have is reported and left as it is: nobody can tell a delete from a loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.errors import CollectionNotFound, CrossfadeError, GateClosed
from proxy.model import PointId
from proxy.replication import records as r
from proxy.replication.copying import CopyReport, copy_states
from proxy.replication.replicator import Replicator
from proxy.replication.site import Site

_BATCH = 256


@dataclass(slots=True)
class Recovered:
    """`absent`: keys that the old primary does not have; `conflicts`: keys of which a part was written since, so that
    either store has something that the other lacks; `left`: keys that could not be copied now."""

    copied: int = 0
    absent: list[tuple[str, PointId]] = field(default_factory=list)
    conflicts: list[tuple[str, PointId]] = field(default_factory=list)
    left: int = 0


async def recover(replicator: Replicator) -> Recovered:
    """Copy what is behind from the old primary. Raises GateClosed where it is not known which keys are behind."""
    recovered = Recovered()
    for collection, ledger in list(replicator.book.ledgers.items()):
        if ledger.behind_all:
            raise GateClosed(
                f"any key of {collection!r} may be behind ({ledger.behind_all}): compare by hand, then say "
                f"`crossfade recover {replicator.route} --discard REASON`"
            )
        site = replicator.workshop(collection).site
        ids = [point_id for point_id, changed in ledger.behind.items() if not changed]
        recovered.conflicts += [(collection, point_id) for point_id, changed in ledger.behind.items() if changed]
        for first in range(0, len(ids), _BATCH):
            await _batch(site, tuple(ids[first : first + _BATCH]), recovered)
    return recovered


async def discard(replicator: Replicator) -> int:
    """Give up what only the old primary has: the new one's state counts. How many keys were listed."""
    listed = 0
    for collection, ledger in list(replicator.book.ledgers.items()):
        if ledger.behind or ledger.behind_all:
            listed += len(ledger.behind)
            await replicator.journal.append(r.Recover(route=replicator.route, collection=collection, ids=()))
    return listed


async def _batch(site: Site, ids: tuple[PointId, ...], recovered: Recovered) -> None:
    to = site.primary_side
    record = r.BeginReconcile(
        route=site.route, collection=site.collection, owner=site.journal.owner, ids=ids, secondary=to, recovery=True
    )
    effects = await site.journal.append(record)
    taken = tuple(effects.taken)
    recovered.left += len(ids) - len(taken)  # held, or being written
    report = CopyReport(unclear=set(taken))  # what an unforeseen error leaves
    absent: tuple[PointId, ...] = ()
    try:
        report, absent = await _copy(site, taken)
    finally:
        await site.journal.append(
            r.EndReconcile(
                route=site.route,
                collection=site.collection,
                begin=effects.position,
                dirty=(*report.dirty, *absent),
                unclear=tuple(report.unclear),
                parked=tuple(report.parked.items()),
                hold_seconds=site.stores.hold_seconds(to) if report.unclear else 0.0,
            )
        )
    if absent:
        recovered.absent += [(site.collection, point_id) for point_id in absent]
        await site.journal.append(r.Recover(route=site.route, collection=site.collection, ids=absent))
    recovered.copied += len(taken) - len(absent) - len(report.dirty) - len(report.unclear)
    recovered.left += len(report.dirty) + len(report.unclear)


async def _copy(site: Site, ids: tuple[PointId, ...]) -> tuple[CopyReport, tuple[PointId, ...]]:
    """From the old primary to the new one. What is certain afterwards, and which keys the old one does not have."""
    try:
        await site.secondary.settle(site.secondary_name)
        found = await site.secondary.fetch(site.secondary_name, ids)
    except CollectionNotFound:
        return CopyReport(), ids
    except CrossfadeError as error:
        return CopyReport(dirty=set(ids), error=error), ()
    report = await copy_states(site.primary, site.primary_name, dict(found))
    return report, tuple(point_id for point_id in ids if point_id not in found)
