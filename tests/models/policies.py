"""What a client was told survives the loss of the primary's disk, at any moment: not only at rest.

Modelled: one key, two writes of two owners, a reconciler in each, a page of a backfill that is run once more, an answer
of the secondary lost, the request landing later, a collapse of the marks into a sweep. States of the key are numbered,
as the primary took them. At every moment the primary may be lost for good, so in every state must hold:

- policy `both-required`: the secondary has each write that a client was told success of, or a later one;
- policy `primary`: if it has not, the key is on the list that a rollback prints.

Two rules are easily missed. A page that overlaps the reconciliation counts as an overlap: it may still put what it read
before on the secondary, so the write is confirmed by the reconciliation that follows the page's END (or by that END,
for a key that is not in the page). And the list names provisional marks as well: while the page is open such a key is
neither open nor dirty.

Not modelled: parked keys (an error under `both-required`, always on the list), hints, kills.

Invariants: I6, I8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put


class Write(NamedTuple):
    at: str = "new"  # new, begun, applied, ended (and waits for the secondary), told (success), failed (an error)
    state: int = 0  # the number of the state that it left
    fresh: frozenset[int] = frozenset()  # reconcilers whose present run began after its END


class Copy(NamedTuple):
    at: str = "idle"  # idle, begun, read, written
    value: int = 0
    mixed: bool = False  # another reconciliation overlapped it
    paged: bool = False  # a page overlapped it


class Page(NamedTuple):
    at: str = "done"  # waiting, begun, read, written, done
    value: int = 0
    marked: bool = False


class State(NamedTuple):
    policy: str
    primary: int = 0
    secondary: int = 0
    writes: tuple[Write, ...] = (Write(), Write())
    copies: tuple[Copy, ...] = (Copy(), Copy())
    page: Page = Page()
    dirty: bool = False
    late: tuple[int, ...] = ()
    unswept: bool = False  # marks were dropped, the collection is listed as a whole
    losses: int = 0
    collapses: int = 0


class Policies(Model[State]):
    name = "policies"
    about = "what clients were told survives the loss of the primary at any moment"
    invariants = "I6 I8"
    rules: ClassVar = {
        "confirmed-by-earlier": "only a reconciliation that began after the write's END confirms it",
        "confirmed-despite-overlap": "a reconciliation that another one overlapped confirms nothing",
        "confirmed-under-page": "a reconciliation that a page overlapped confirms nothing",
        "confirmed-unclear": "a reconciliation of unclear outcome confirms nothing",
        "told-before-confirmed": "under both-required the client waits for the secondary",
        "dirty-not-listed": "the list names dirty keys",
        "open-not-listed": "the list names keys whose reconciliation is open",
        "provisional-not-listed": "the list names keys that are marked provisionally",
        "unswept-not-listed": "the list names collections that need a sweep",
    }
    happens = labels(
        "BEGIN write|applied|END write|told|time is up|collapse|BEGIN reconcile|reads|copies|copy unclear|END reconcile"
        "|BEGIN page|reads page|copies page|END page|lands|never lands"
    )

    def starts(self, full: bool) -> Iterable[State]:
        for policy in ("both-required", "primary"):
            for losses in (0, 1):
                yield State(policy, losses=losses)
                if full or not losses:
                    yield State(policy, page=Page("waiting"), losses=losses)
            yield State(policy, losses=int(full), collapses=1)

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writes)):
            yield from self._write(s, i)
        for i in range(len(s.copies)):
            yield from self._reconcile(s, i)
        yield from self._page(s)
        if s.collapses and s.dirty and not s.late:
            yield "collapse", s._replace(dirty=False, unswept=True, page=Page("waiting"), collapses=0)
        for late in s.late:
            yield "never lands", s._replace(late=())
            yield "lands", s._replace(late=(), secondary=late)

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write = s.writes[i]

        def become(now: Write) -> State:
            return s._replace(writes=put(s.writes, i, now))

        if write.at == "new":
            yield "BEGIN write", become(Write("begun"))
        if write.at == "begun":
            yield "applied", become(Write("applied", s.primary + 1))._replace(primary=s.primary + 1)
        if write.at == "applied":
            yield "END write", become(Write("ended", write.state))._replace(dirty=True)
        if write.at == "ended" and (s.policy == "primary" or not self.keeps("told-before-confirmed")):
            yield "told", become(Write("told", write.state))
        elif write.at == "ended":
            yield "time is up", become(Write("failed", write.state))

    def _reconcile(self, s: State, i: int) -> Iterator[Step[State]]:
        copy, who = s.copies[i], f"{'AB'[i]}: "
        if copy.at == "idle" and s.dirty and not s.late:
            overlaps = any(c.at != "idle" for c in s.copies)
            copies = tuple(c._replace(mixed=c.at != "idle") for c in s.copies)
            fresh = tuple(w._replace(fresh=w.fresh | {i}) if w.at == "ended" else w for w in s.writes)
            begun = s._replace(
                copies=put(copies, i, Copy("begun", 0, overlaps, self._paging(s))), writes=fresh, dirty=False
            )
            yield who + "BEGIN reconcile", begun._replace(page=s.page._replace(marked=self._paging(s)))
        if copy.at == "begun":
            yield who + "reads", s._replace(copies=put(s.copies, i, copy._replace(at="read", value=s.primary)))
        if copy.at == "read":
            written = put(s.copies, i, copy._replace(at="written"))
            yield who + "copies", s._replace(copies=written, secondary=copy.value)
            if s.losses:
                lost = s._replace(losses=s.losses - 1, late=(copy.value,))
                yield who + "copy unclear", self._end(lost, i, clear=False)
        if copy.at == "written":
            yield who + "END reconcile", self._end(s, i, clear=True)

    @staticmethod
    def _paging(s: State) -> bool:
        return s.page.at in ("begun", "read", "written")

    def _end(self, s: State, i: int, clear: bool) -> State:
        """The reconciliation has ended: who may be told?"""
        mixed = s.copies[i].mixed
        confirms = (clear or not self.keeps("confirmed-unclear")) and (
            not mixed or not self.keeps("confirmed-despite-overlap")
        )
        if s.copies[i].paged and self.keeps("confirmed-under-page"):
            confirms = False
        writes = []
        for write in s.writes:
            fresh = i in write.fresh or not self.keeps("confirmed-by-earlier")
            now = write._replace(fresh=write.fresh - {i})
            writes.append(Write("told", write.state) if confirms and fresh and write.at == "ended" else now)
        return s._replace(writes=tuple(writes), copies=put(s.copies, i, Copy()), dirty=s.dirty or mixed or not clear)

    def _page(self, s: State) -> Iterator[Step[State]]:
        page = s.page
        if page.at == "waiting":
            under_way = [c.at != "idle" for c in s.copies]
            copies = tuple(c._replace(paged=open_) for c, open_ in zip(s.copies, under_way, strict=True))
            yield "BEGIN page", s._replace(page=Page("begun", 0, any(under_way)), copies=copies)
        if page.at == "begun":
            yield "reads page", s._replace(page=page._replace(at="read", value=s.primary))
        if page.at == "read":
            yield "copies page", s._replace(page=page._replace(at="written"), secondary=page.value)
        if page.at == "written":  # who waits for it is told by the reconciliation that the mark brings about
            yield "END page", s._replace(page=Page(), dirty=s.dirty or page.marked, unswept=False)

    # --- what must be so -----------------------------------------------------------------

    def rests(self, s: State) -> bool:
        return (
            not (s.dirty or s.late)
            and s.page.at == "done"
            and (all(c.at == "idle" for c in s.copies) and all(w.at in ("told", "failed") for w in s.writes))
        )

    def wrong(self, s: State) -> str:
        told = max((w.state for w in s.writes if w.at == "told"), default=0)
        if s.secondary >= told:
            return ""
        if s.policy == "both-required":
            return "the primary is lost now: the secondary lacks a write that a client was told success of"
        listed = (
            (s.dirty and self.keeps("dirty-not-listed"))
            or any(w.at in ("begun", "applied") for w in s.writes)
            or (any(c.at != "idle" for c in s.copies) and self.keeps("open-not-listed"))
            or (s.page.marked and self.keeps("provisional-not-listed"))
            or (s.unswept and self.keeps("unswept-not-listed"))
        )
        return "" if listed else "the primary is lost now: a write is missing, and its key is not on the list"
