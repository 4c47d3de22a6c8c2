"""`rollback --now` and the return of the old primary: one record makes the other store primary, whatever is under way.

Modelled: one key. The target is primary and the source follows, when the target breaks and COMMIT is appended at any
moment: with writes open, answers lost, a reconciliation towards the source begun, read or timed out. A second proxy
writes at any time and learns of COMMIT late. The operator may say that the target came back: with its data, or wrongly
so. Then the key, if it is on the list of those that may be behind, is copied from it, and the target follows.

Four rules keep that from losing an acknowledged write. A key with a reconciliation open, or held on the new primary,
takes no write until that can no longer land. Listed keys are not reconciled to the old primary before the operator has
said what became of it. A write after COMMIT stands for the key only if it was accepted and says all of the point; else
both versions are reported. And the copy back writes to a *primary*: where its answer is unclear, the first of these
rules holds again.

That the list names held keys needs no rule of its own: a held key is dirty.

Not modelled: leases (flip.py), several keys, how the operator is asked.

Invariants: I3, I5, I6 (nothing that was acknowledged is lost, or the key is on the list), I7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put
from tests.models.points import OLD, Op, Value, after, determines


class Write(NamedTuple):
    proxy: int
    op: Op
    at: str = "new"  # new, begun, ready (its BEGIN is read back), applied, ended
    to: str = ""  # target, source
    follows: bool = False  # its BEGIN follows COMMIT
    mixed: bool = False  # another write overlapped it, or the key was held when it began


class Copy(NamedTuple):
    """A reconciliation, or the copy back from the old primary (`back`)."""

    at: str = "idle"  # idle, begun, read, written
    to: str = ""
    value: Value = None
    back: bool = False


class Late(NamedTuple):
    """A request that may still land: a client's write, or a copied value."""

    store: str
    op: Op | None
    value: Value = None
    held: bool = True


class State(NamedTuple):
    target: Value
    source: Value
    writes: tuple[Write, ...]
    copy: Copy = Copy()
    late: tuple[Late, ...] = ()
    dirty: bool = False
    shows: str = ""  # what the journal shows of the last write on the target: its kind, or "unknown"
    committed: bool = False
    informed: tuple[bool, ...] = (False, False)  # which proxy has read COMMIT
    listed: bool = False  # the key may be behind
    newer: bool = False  # a BEGIN of the key follows COMMIT
    whole: bool = False  # and a write of the whole point that followed it was accepted
    old_primary: str = "unknown"  # what the operator said: unknown, back
    resolved: str = ""  # what became of the listed key: copied, newer (stands), reported
    single: Value = OLD  # what one store would hold that every client's write had reached
    on_source: tuple[Value, bool] | None = (
        None  # what they left on the source since COMMIT, and whether it is all theirs
    )
    emptied: bool = False
    losses: int = 1


class Rollback(Model[State]):
    name = "rollback"
    about = "rollback --now amid writes and reconciliations, the list of keys behind, the old primary's return"
    invariants = "I3 I5 I6 I7"
    rules: ClassVar = {
        "begin-not-read-back": "a write is sent only after its BEGIN was read back with no COMMIT before it",
        "open-not-listed": "the list names open keys",
        "dirty-not-listed": "the list names dirty keys",
        "copy-under-way-ignored": "a key whose reconciliation is open takes no write on the new primary before its end",
        "hold-by-role": "holds are per store: a key held on the new primary takes no write before that has run out",
        "listed-overwritten": "listed keys are not reconciled to the old primary before the operator has spoken",
        "return-over-newer": "a key is copied back only if no BEGIN of it follows COMMIT",
        "any-newer-stands": "a write after COMMIT stands only if it was accepted and says all of the point",
        "return-not-exclusive": "the copy back is exclusive: later BEGINs wait",
        "return-before-ends": "the copy back waits until earlier intervals and holds of the key have ended",
        "absent-is-deleted": "a key absent on the returned store is reported, not deleted",
        "any-delete-counts": "the journal shows a delete only if it is the last write and as certain as a hint must be",
    }
    happens = labels(
        "BEGIN write|reads COMMIT|reads back its BEGIN|applied|answer lost|END write|BEGIN reconcile|reads|copies"
        "|copy unclear|END reconcile|lands|never lands|COMMIT|target is back|target is back, empty|BEGIN copy back"
        "|reads back|END copy back|absence reported|both reported|a newer write stands"
    )

    def starts(self, full: bool) -> Iterable[State]:
        other: Op = ("upsert", 3)
        first: tuple[tuple[Op, ...], ...] = ((("upsert", 1),), (("delete", 0),), (("delete", 0), ("upsert", 2)))
        if full:
            first = (*first, (("upsert", 1), ("delete", 0)))
        for ops in first:
            mine = tuple(Write(0, op) for op in ops)
            yield State(OLD, OLD, (*mine, Write(1, other)))
        yield State(OLD, OLD, (Write(0, ("upsert", 1)), Write(1, ("patch", 3))))
        if full:
            yield State(OLD, OLD, (Write(0, ("upsert", 1)), Write(1, other)), losses=2)

    # --- steps ---------------------------------------------------------------------------

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writes)):
            yield from self._write(s, i)
        yield from self._copy(s)
        for i, late in enumerate(s.late):
            rest = s._replace(late=s.late[:i] + s.late[i + 1 :])
            yield "never lands", rest
            yield "lands", self._change(rest, late.store, late.op, late.value)
        if not s.committed:
            dirty = s.dirty and self.keeps("dirty-not-listed")
            listed = dirty or (self._open(s) and self.keeps("open-not-listed"))
            yield "COMMIT", s._replace(committed=True, listed=listed)
        for proxy, informed in enumerate(s.informed):
            if s.committed and not informed:
                yield f"proxy {proxy}: reads COMMIT", s._replace(informed=put(s.informed, proxy, True))
        if s.committed and s.old_primary == "unknown":
            yield "target is back", s._replace(old_primary="back", dirty=True)
            empty = s._replace(old_primary="back", dirty=True, target=None, emptied=True)
            if not any(late.store == "target" for late in s.late) and not self._open(s):
                yield "target is back, empty", empty
        if s.old_primary == "back" and s.listed and not s.resolved:
            yield from self._return(s)

    @staticmethod
    def _open(s: State) -> bool:
        return s.copy.at != "idle" or any(w.at in ("begun", "ready", "applied") for w in s.writes)

    @staticmethod
    def _change(s: State, store: str, op: Op | None, value: Value) -> State:
        """A request reaches a store: a client's (`op`) or a copied value."""
        if op is None:
            return s._replace(target=value) if store == "target" else s._replace(source=value)
        s = s._replace(single=after(op, s.single))
        if store == "target":
            return s._replace(target=after(op, s.target))
        whole = determines(op) or (s.on_source is not None and s.on_source[1])
        return s._replace(source=after(op, s.source), on_source=(after(op, s.source), whole))

    # --- a client's write ----------------------------------------------------------------

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write, who = s.writes[i], f"proxy {s.writes[i].proxy}: "

        def become(now: Write) -> State:
            return s._replace(writes=put(s.writes, i, now))

        lane_taken = any(
            w.proxy == write.proxy and (w.at in ("begun", "ready", "applied") or (w.at == "new" and j < i))
            for j, w in enumerate(s.writes)
            if j != i
        )
        if write.at == "new" and not lane_taken and not (s.copy.back and self.keeps("return-not-exclusive")):
            overlaps = [w.at in ("begun", "ready", "applied") for w in s.writes]
            writes = tuple(w._replace(mixed=w.mixed or open_) for w, open_ in zip(s.writes, overlaps, strict=True))
            mixed = any(overlaps) or any(late.store == "target" for late in s.late)
            begun = write._replace(at="begun", follows=s.committed, mixed=mixed)
            yield who + "BEGIN write", s._replace(writes=put(writes, i, begun), newer=s.newer or s.committed)
        if write.at == "begun":
            follows = write.follows if self.keeps("begin-not-read-back") else s.informed[write.proxy]
            ready = write._replace(at="ready", to="source" if follows else "target")
            if ready.to == "target" or not self._closed_to_writes(s):
                yield who + "reads back its BEGIN", become(ready)
        if write.at == "ready":
            yield who + "applied", self._change(become(write._replace(at="applied")), write.to, write.op, None)
            if s.losses:
                lost = become(write._replace(at="ended"))._replace(losses=s.losses - 1, dirty=True)
                if write.to == "target":
                    lost = lost._replace(shows=self._shows(s, "unknown"))
                yield who + "answer lost", self._send_late(lost, Late(write.to, write.op))
        if write.at == "applied":
            ended = become(write._replace(at="ended"))._replace(dirty=True)
            shows = self._shows(s, "unknown" if write.mixed else write.op[0])
            whole = s.whole or (write.follows and determines(write.op))
            yield (
                who + "END write",
                ended._replace(whole=whole) if write.to == "source" else ended._replace(shows=shows),
            )

    def _shows(self, s: State, kind: str) -> str:
        return "delete" if s.shows == "delete" and not self.keeps("any-delete-counts") else kind

    def _closed_to_writes(self, s: State) -> bool:
        """What was sent towards the new primary when it was the secondary may still land on it."""
        if s.copy.at != "idle" and s.copy.to == "source" and not s.copy.back and self.keeps("copy-under-way-ignored"):
            return True
        return self.keeps("hold-by-role") and any(late.op is None and late.store == "source" for late in s.late)

    @staticmethod
    def _send_late(s: State, late: Late) -> State:
        return s._replace(late=tuple(sorted((*s.late, late), key=repr)))

    # --- reconciliation, in the direction of the moment ------------------------------------

    def _copy(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        if copy.back:
            yield from self._copy_back(s)
            return
        waits = s.committed and s.listed and not s.resolved and self.keeps("listed-overwritten")
        follower_answers = not s.committed or s.old_primary == "back" or not self.keeps("listed-overwritten")
        if copy.at == "idle" and s.dirty and not s.late and not waits and follower_answers:
            yield "BEGIN reconcile", s._replace(dirty=False, copy=Copy("begun", "target" if s.committed else "source"))
        if copy.at == "begun":
            value = s.source if copy.to == "target" else s.target
            yield "reads", s._replace(copy=copy._replace(at="read", value=value))
        if copy.at == "read":
            yield "copies", self._change(s._replace(copy=copy._replace(at="written")), copy.to, None, copy.value)
            if s.losses:
                lost = s._replace(copy=Copy(), losses=s.losses - 1, dirty=True)
                yield "copy unclear", self._send_late(lost, Late(copy.to, None, copy.value))
        if copy.at == "written":
            # One that began before COMMIT says nothing of the new secondary.
            turned = (copy.to == "source") == s.committed
            yield "END reconcile", s._replace(copy=Copy(), dirty=s.dirty or turned)

    # --- the old primary returns -----------------------------------------------------------

    def _return(self, s: State) -> Iterator[Step[State]]:
        if s.copy.back:
            return
        quiet = not s.late and not self._open(s)
        if s.newer and self.keeps("return-over-newer"):
            if s.whole or not self.keeps("any-newer-stands"):
                yield "a newer write stands", s._replace(resolved="newer")
            elif quiet:
                yield "both reported", s._replace(resolved="reported")
            return
        if s.copy.at == "idle" and (quiet or not self.keeps("return-before-ends")):
            yield "BEGIN copy back", s._replace(copy=Copy("begun", "source", None, True))

    def _copy_back(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        if copy.at == "begun":
            deleted = s.shows == "delete" or not self.keeps("absent-is-deleted")
            if s.target is None and not deleted:
                yield "absence reported", s._replace(copy=Copy(), resolved="reported", dirty=True)
            else:
                yield "reads back", s._replace(copy=copy._replace(at="read", value=s.target))
        if copy.at == "read":
            yield "copies", self._change(s._replace(copy=copy._replace(at="written")), "source", None, copy.value)
            if s.losses:
                lost = s._replace(copy=Copy(), losses=s.losses - 1)
                yield "copy unclear", self._send_late(lost, Late("source", None, copy.value))
        if copy.at == "written":
            yield "END copy back", s._replace(copy=Copy(), resolved="copied", dirty=True)

    # --- what must be so -------------------------------------------------------------------

    def rests(self, s: State) -> bool:
        if not s.committed or s.late or s.copy.at != "idle" or any(w.at != "ended" for w in s.writes):
            return False
        return s.old_primary == "unknown" or not (s.dirty or (s.listed and not s.resolved))

    def wrong(self, s: State) -> str:
        if not self.rests(s):
            return ""
        if s.on_source is not None and s.source != s.on_source[0]:
            return "a write that the new primary took was overwritten"
        stands = s.on_source is not None and s.on_source[1]
        if not stands and s.source != s.single and not (s.listed and s.resolved in ("", "reported")):
            return "a write that the old primary took is missing, and the key is not on the list"
        if s.resolved == "copied" and s.emptied and s.source is None and s.single is not None and s.on_source is None:
            return "a point was deleted because the old primary had lost it"
        if s.old_primary == "back" and s.source != s.target:
            return "the old primary follows, at rest and clean, but the stores differ"
        return ""
