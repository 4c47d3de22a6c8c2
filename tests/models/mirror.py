"""The core: one key, two owners that write, reconcile and backfill it, and everything that can go wrong between.

Modelled: writes of two owners (in one owner the lane puts them in order), a reconciler in each, the page of a backfill;
answers lost at either store, the request landing later or never, several of them at once; an owner that is killed with
all it has under way; an owner that is paused past its lease, with all it has under way, and goes on or is killed later;
hints in the memory of the owner whose write left them.

A hold lasts exactly as long as its request may still land: the shortest hold that the assumption about
`longest_request_seconds` allows. Once a killed owner is found gone, a new process takes its place, which has no hints.
Not modelled here: several keys, scopes, the collapse of marks; see the other files.

Invariants: I1 and I3 (at rest both stores hold the same), I2 (every crash, every lost answer), I7 (it comes to rest).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put
from tests.models.points import OLD, Op, Value, after, determines

OWNERS = "AB"


class Write(NamedTuple):
    owner: int
    op: Op
    at: str = "new"  # new, begun, applied, ended
    open: bool = False  # its interval, in the journal
    mixed: bool = False  # no hint: another write overlapped it, or the key was held or suspect when it began


class Copy(NamedTuple):
    """A reconciliation. There is one reconciler an owner: in one process, those of one key never run at once."""

    at: str = "idle"  # idle, begun, read, written (and "picked", where holds are judged too early)
    value: Value = None
    open: bool = False
    mixed: bool = False  # another reconciliation overlapped it


class Page(NamedTuple):
    """The page of a backfill: a wildcard, which learns by reading whether the key is in it."""

    owner: int = 0
    at: str = "done"  # waiting, begun, read, written, done
    value: Value = None
    open: bool = False
    marked: bool = False  # provisionally: a reconciliation of the key overlapped it


class Late(NamedTuple):
    """A request that may still land. `held` is False only where a mutation has forgotten the hold."""

    store: str
    value: Value  # what a write to the secondary carries
    op: Op | None  # what a write to the primary does
    held: bool = True


class State(NamedTuple):
    primary: Value
    secondary: Value
    writes: tuple[Write, ...]
    copies: tuple[Copy, ...]  # by owner
    page: Page
    dirty: bool = False
    hints: tuple[tuple[Value, bool] | None, ...] = (None, None)  # by owner: the state, whether its mark is the present
    late: tuple[Late, ...] = ()
    owners: tuple[str, ...] = ("up", "up")  # up, expired (paused past its lease), dead (not yet found gone)
    suspect: bool = False
    losses_primary: int = 0  # the faults that may still happen
    losses_secondary: int = 0
    kills: int = 0
    pauses: int = 0


class Mirror(Model[State]):
    name = "mirror"
    about = "one key, two owners: writes, reconciliations, a page; lost answers, kills, pauses, hints"
    invariants = "I1 I2 I3 I7"
    rules: ClassVar = {
        "unknown-is-untouched": "a write without an answer leaves its key dirty",
        "hint-despite-overlap": "no hint for a write that overlapped another one of its key",
        "hint-under-hold": "no hint for a write that began under a hold",
        "hint-under-suspect": "no hint for a write that began while its key was suspect",
        "hint-foreign": "a hint is usable only for the mark that its own END set",
        "hint-of-partial": "no hint where the write alone does not determine the state",
        "no-hold": "nobody reconciles a key while a request may still land",
        "hold-judged-early": "whether a key is held is judged at the position of the BEGIN, not when it was picked",
        "overlap-ignored": "two reconciliations that overlap leave the key dirty",
        "mark-off-at-end": "the mark comes off at BEGIN of the reconciliation, never at END",
        "unclear-is-clean": "an unclear answer of the secondary leaves the key dirty and held",
        "dead-reconciler-no-hold": "what a dead reconciler had sent is held",
        "dead-writer-forgotten": "what a dead owner had open is closed as unknown",
        "late-end-ignored": "an END that arrives for a closed interval makes its key dirty",
        "suspect-forgotten": "a suspect key is reconciled again once its owner is gone",
        "gone-without-hold": "what an owner past its lease had sent is held from when it is proven gone",
        "registers-early": "registering again counts only after every request of the old lease has ended",
        "page-takes-mark": "a page takes no mark off",
        "page-marks-nothing": "a reconciliation that overlaps a page marks its key provisionally",
        "page-retried": "a page of unclear outcome ends dirty and held, and is never just sent again",
        "dead-page-forgotten": "the provisional marks of a dead page become dirty, and its range is held",
    }
    happens = labels(
        "BEGIN write|applied|END write|answer lost|END write, late|BEGIN reconcile|reads|copies|END reconcile"
        "|END reconcile, late|copy unclear|BEGIN page|reads page|copies page|END page|END page, late|page unclear|lands"
        "|never lands|killed|found gone|paused past its lease|registers again|proven gone"
    )

    def starts(self, full: bool) -> Iterable[State]:
        return _starts(full)

    def rests(self, s: State) -> bool:
        return not (s.dirty or s.suspect or s.late) and (
            s.page.at == "done"
            and s.owners == ("up", "up")
            and all(copy.at == "idle" for copy in s.copies)
            and all(write.at == "ended" for write in s.writes)
        )

    def wrong(self, s: State) -> str:
        return "at rest and clean, but the stores differ" if s.primary != s.secondary and self.rests(s) else ""

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writes)):
            yield from self._write(s, i)
        for i in range(len(s.copies)):
            yield from self._reconcile(s, i)
        yield from self._page(s)
        for i in range(len(s.owners)):
            yield from self._life(s, i)
        for i, late in enumerate(s.late):
            rest = s.late[:i] + s.late[i + 1 :]
            yield "never lands", s._replace(late=rest)
            if late.op is not None:
                yield "lands", s._replace(late=rest, primary=after(late.op, s.primary))
            else:
                yield "lands", s._replace(late=rest, secondary=late.value)

    # --- marks and holds -----------------------------------------------------------------

    def _mark(self, s: State, hint: tuple[int, Value] | None = None) -> State:
        """A new mark: hints of earlier marks are of no use any more."""
        hints = self._stale(s)
        if hint is not None:
            hints = put(hints, hint[0], (hint[1], True))
        return s._replace(dirty=True, hints=hints)

    def _stale(self, s: State) -> tuple[tuple[Value, bool] | None, ...]:
        """A hint whose mark is gone can never be used, so it need not be part of the state; unless that rule is out."""
        if self.keeps("hint-foreign"):
            return (None, None)
        return tuple(None if hint is None else (hint[0], False) for hint in s.hints)

    def _send_late(self, s: State, store: str, what: Value | Op, held: bool = True) -> State:
        late = Late(store, None, what, held) if store == "primary" else Late(store, what, None, held)  # type: ignore[arg-type]
        return s._replace(late=tuple(sorted((*s.late, late), key=repr)))

    def _held(self, s: State) -> bool:
        return self.keeps("no-hold") and any(late.held for late in s.late)

    # --- a write -------------------------------------------------------------------------

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write = s.writes[i]
        if s.owners[write.owner] == "dead":
            return
        who = f"{OWNERS[write.owner]}: "
        if write.at == "new" and s.owners[write.owner] == "up":
            lane_taken = any(w.owner == write.owner and w.at in ("begun", "applied") for w in s.writes)
            if not lane_taken:
                yield who + "BEGIN write", self._begin_write(s, i)
        if write.at == "begun":
            applied = put(s.writes, i, write._replace(at="applied"))
            yield who + "applied", s._replace(primary=after(write.op, s.primary), writes=applied)
            if s.losses_primary:
                lost = self._send_late(s._replace(losses_primary=s.losses_primary - 1), "primary", write.op)
                lost = lost._replace(writes=put(s.writes, i, write._replace(at="ended", open=False)))
                yield who + "answer lost", self._mark(lost) if self.keeps("unknown-is-untouched") else lost
        if write.at == "applied":
            ended = s._replace(writes=put(s.writes, i, write._replace(at="ended", open=False)))
            if write.open:
                yield who + "END write", self._mark(ended, self._hint(write))
            else:
                yield who + "END write, late", self._mark(ended) if self.keeps("late-end-ignored") else ended

    def _begin_write(self, s: State, i: int) -> State:
        write = s.writes[i]
        others = [j for j, other in enumerate(s.writes) if j != i and other.open]
        writes = tuple(w._replace(mixed=True) if j in others else w for j, w in enumerate(s.writes))
        held = bool(s.late) and self.keeps("hint-under-hold")
        uncertain = held or (s.suspect and self.keeps("hint-under-suspect"))
        return s._replace(writes=put(writes, i, write._replace(at="begun", open=True, mixed=bool(others) or uncertain)))

    def _hint(self, write: Write) -> tuple[int, Value] | None:
        if write.mixed and self.keeps("hint-despite-overlap"):
            return None
        if determines(write.op) or not self.keeps("hint-of-partial"):
            return write.owner, after(write.op, (0, 0))
        return None

    # --- a reconciliation ----------------------------------------------------------------

    def _reconcile(self, s: State, i: int) -> Iterator[Step[State]]:
        copy = s.copies[i]
        if s.owners[i] == "dead":
            return
        who = f"{OWNERS[i]}: "
        ready = s.dirty and not self._held(s) and s.owners[i] == "up"
        if copy.at == "idle" and ready and not self.keeps("hold-judged-early"):
            yield who + "picks", s._replace(copies=put(s.copies, i, Copy("picked")))
        elif copy.at == "picked" or (copy.at == "idle" and ready):
            yield who + "BEGIN reconcile", self._begin_reconcile(s, i)
        if copy.at == "begun":
            yield who + "reads", s._replace(copies=put(s.copies, i, copy._replace(at="read", value=s.primary)))
        if copy.at == "read":
            copies = put(s.copies, i, copy._replace(at="written"))
            yield who + "copies", s._replace(secondary=copy.value, copies=copies)
            if s.losses_secondary:
                lost = s._replace(losses_secondary=s.losses_secondary - 1)
                clean = not self.keeps("unclear-is-clean")
                lost = self._send_late(lost, "secondary", copy.value, held=not clean)
                yield who + "copy unclear", self._end_reconcile(lost, i, clean)
        if copy.at == "written":
            yield who + ("END reconcile" if copy.open else "END reconcile, late"), self._end_reconcile(s, i, True)

    def _begin_reconcile(self, s: State, i: int) -> State:
        overlaps = [j for j, other in enumerate(s.copies) if j != i and other.open]
        copies = tuple(c._replace(mixed=True) if j in overlaps else c for j, c in enumerate(s.copies))
        hint = s.hints[i]
        begun = Copy("begun", None, True, bool(overlaps))
        if hint is not None and (hint[1] or not self.keeps("hint-foreign")):
            begun = begun._replace(at="read", value=hint[0])
        page = s.page._replace(marked=s.page.open and self.keeps("page-marks-nothing"))
        return s._replace(
            copies=put(copies, i, begun),
            dirty=not self.keeps("mark-off-at-end"),
            hints=put(self._stale(s), i, None),
            page=page,
        )

    def _end_reconcile(self, s: State, i: int, clear: bool) -> State:
        copy = s.copies[i]
        s = s._replace(copies=put(s.copies, i, Copy()))
        if not copy.open:
            return self._mark(s) if self.keeps("late-end-ignored") else s
        if not clear or (copy.mixed and self.keeps("overlap-ignored")):
            return self._mark(s)
        return s if self.keeps("mark-off-at-end") else s._replace(dirty=False)

    # --- a page --------------------------------------------------------------------------

    def _page(self, s: State) -> Iterator[Step[State]]:
        page = s.page
        if page.at == "done" or s.owners[page.owner] == "dead":
            return
        who = f"{OWNERS[page.owner]}: "
        if page.at == "waiting" and s.owners[page.owner] == "up":
            overlaps = any(copy.open for copy in s.copies) and self.keeps("page-marks-nothing")
            begun = s._replace(page=page._replace(at="begun", open=True, marked=overlaps))
            yield who + "BEGIN page", begun if self.keeps("page-takes-mark") else begun._replace(dirty=False)
        if page.at == "begun":
            yield who + "reads page", s._replace(page=page._replace(at="read", value=s.primary))
        if page.at == "read":
            copied = s._replace(page=page._replace(at="written"))
            yield who + "copies page", copied if page.value is None else copied._replace(secondary=page.value)
            if s.losses_secondary and page.value is not None:
                lost = s._replace(losses_secondary=s.losses_secondary - 1)
                if self.keeps("page-retried"):
                    ended = self._end_page(self._send_late(lost, "secondary", page.value), dirty=True)
                    yield who + "page unclear", ended
                else:  # sent again while the first one may still land; nothing holds the key
                    yield who + "page unclear", self._send_late(lost, "secondary", page.value, held=False)
        if page.at == "written":
            if page.open:
                yield who + "END page", self._end_page(s, page.marked and page.value is not None)
            else:
                yield who + "END page, late", self._end_page(s, page.value is not None)

    @staticmethod
    def _drop_page(s: State, at: str) -> State:
        return s._replace(page=Page(s.page.owner, at))

    def _end_page(self, s: State, dirty: bool) -> State:
        late = not s.page.open
        # An END for a closed interval settles nothing: the cursor stays, and the page is read again.
        s = self._drop_page(s, "waiting" if late else "done")
        return self._mark(s) if dirty and not (late and not self.keeps("late-end-ignored")) else s

    # --- kills and pauses ----------------------------------------------------------------

    def _life(self, s: State, i: int) -> Iterator[Step[State]]:
        who = f"{OWNERS[i]}: "
        status = s.owners[i]
        busy = self._busy(s, i)
        if status == "up" and s.kills and busy:
            yield who + "killed", self._kill(s, i)
        if status == "dead":
            yield who + "found gone", self._close(s._replace(owners=put(s.owners, i, "up")), i)
        if status == "up" and s.pauses and busy:
            yield who + "paused past its lease", self._expire(s, i)
        if status == "expired":
            if not busy or not self.keeps("registers-early"):
                yield who + "registers again", s._replace(owners=put(s.owners, i, "up"), suspect=False)
            if s.kills:
                dead = self._kill(s, i, held=self.keeps("gone-without-hold"))
                gone = dead._replace(owners=put(s.owners, i, "up"), suspect=False)
                gone = self._forget(gone, i)
                yield who + "proven gone", self._mark(gone) if self.keeps("suspect-forgotten") else gone

    @staticmethod
    def _busy(s: State, i: int) -> bool:
        return (
            s.copies[i].at != "idle"
            or (s.page.owner == i and s.page.at not in ("waiting", "done"))
            or any(w.owner == i and w.at in ("begun", "applied") for w in s.writes)
        )

    def _kill(self, s: State, i: int, held: bool = True) -> State:
        """The process is gone with its memory. What it had sent may still land; its intervals are still open."""
        copy, page = s.copies[i], s.page
        for write in s.writes:
            if write.owner == i and write.at == "begun":
                s = self._send_late(s, "primary", write.op, held)
        if copy.at == "read":
            s = self._send_late(s, "secondary", copy.value, held and self.keeps("dead-reconciler-no-hold"))
        if page.owner == i and page.at == "read" and page.value is not None:
            s = self._send_late(s, "secondary", page.value, held and self.keeps("dead-page-forgotten"))
        return s._replace(kills=s.kills - 1, owners=put(s.owners, i, "dead"), hints=put(s.hints, i, None))

    def _close(self, s: State, i: int) -> State:
        """What a dead owner had open is closed as unknown, whatever it was doing."""
        writes = any(w.owner == i and w.open for w in s.writes)
        page = s.page.owner == i and s.page.open and s.page.marked and self.keeps("dead-page-forgotten")
        dirty = (writes and self.keeps("dead-writer-forgotten")) or s.copies[i].open or page
        s = self._forget(s, i)
        return self._mark(s) if dirty else s

    def _forget(self, s: State, i: int) -> State:
        """Nothing of the dead owner is under way any more. Its page will be read again, from the cursor."""
        writes = tuple(
            w._replace(at="ended", open=False) if w.owner == i and w.at in ("begun", "applied") else w for w in s.writes
        )
        s = s._replace(writes=writes, copies=put(s.copies, i, Copy()))
        return self._drop_page(s, "waiting") if s.page.owner == i and s.page.at != "done" else s

    def _expire(self, s: State, i: int) -> State:
        """The lease of a paused owner ends: its intervals are closed, its keys dirty and suspect. It does not know."""
        writes = tuple(w._replace(open=False) if w.owner == i else w for w in s.writes)
        copies = put(s.copies, i, s.copies[i]._replace(open=False, mixed=False))
        page = s.page._replace(open=False, marked=False) if s.page.owner == i else s.page
        s = s._replace(pauses=s.pauses - 1, owners=put(s.owners, i, "expired"), suspect=True)
        return self._mark(s._replace(writes=writes, copies=copies, page=page))


def _starts(full: bool) -> Iterator[State]:
    """Bounded: the operations that matter, and pairs of faults only without a page. Full: pairs with it, more writes.

    The two owners are alike, so a page among writes of both need be in one of them only.
    """
    singles = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 1, 1))
    pairs = ((2, 0, 0, 0), (0, 2, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 1, 0), (0, 1, 0, 1), (1, 0, 0, 1))
    kinds = ("upsert", "delete", "conditional") if full else ("upsert", "conditional")
    for faults in singles + pairs:
        for owners in ((0,), (0, 1), (0, 0), (0, 0, 1)) if full else ((0,), (0, 1)):
            with_patch = (*kinds, "patch") if full and len(owners) < 3 else kinds
            for combination in itertools.product(with_patch, repeat=len(owners)):
                pairing = zip(owners, combination, strict=True)
                writes = tuple(Write(owner, (kind, n + 1)) for n, (owner, kind) in enumerate(pairing))
                yield _world(None, writes, Page(), faults)
                if "patch" in combination or (len(owners) > 1 and not full) or (faults in pairs and not full):
                    continue
                for page_owner in {(0,): (0, 1), (0, 0): (0, 1), (0, 1): (1,)}.get(owners, ()):
                    yield _world(OLD, writes, Page(page_owner, "waiting"), faults)


def _world(primary: Value, writes: tuple[Write, ...], page: Page, faults: tuple[int, int, int, int]) -> State:
    lost_primary, lost_secondary, kills, pauses = faults
    return State(
        primary,
        None,
        writes,
        (Copy(), Copy()),
        page,
        losses_primary=lost_primary,
        losses_secondary=lost_secondary,
        kills=kills,
        pauses=pauses,
    )
