"""What stands in the journal: the records, and their form as bytes. Pure.

A record has a *position*, its place in the journal's total order. An interval has two records: one that
begins it and one that ends it, and the end names the position of the begin. Keys are ids within one
collection of one route; vectors and payloads never stand here. An *owner* is a process that has the journal open.

Everything the program knows about the two stores (which key is dirty, held, parked; how far the backfill has
come) is the fold of these records; see ledger.py.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from proxy.dialects import Outcome
from proxy.model import PointId, Side

# Phases that change what becomes of a write; migration/phases.py has all of them.
DIRECT = "direct"  # to the source alone, not journalled
DUAL_WRITE = "dual-write"
CUTOVER = "cutover"
COMPLETE = "complete"  # to the target alone, not journalled


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`route` and `collection` (resolved name on the source; "" where the record is about the whole route)."""

    route: str
    collection: str = ""


class Begin(Record, frozen=True, kw_only=True):
    """Opens an interval."""

    owner: str


class End(Record, frozen=True, kw_only=True):
    """Closes the interval that `begin` opened."""

    begin: int


# --- writes --------------------------------------------------------------------------------


class BeginWrite(Begin, frozen=True, tag="W"):
    ids: tuple[PointId, ...]
    primary: Side


class EndWrite(End, frozen=True, tag="w"):
    """`hold_seconds` > 0: the request may still land on the primary for that long. `whole`: the write determines all of
    its points."""

    outcome: Outcome
    acknowledged: bool = False
    hold_seconds: float = 0.0
    whole: bool = False


# --- reconciliations -----------------------------------------------------------------------


class BeginReconcile(Begin, frozen=True, tag="R"):
    ids: tuple[PointId, ...]
    secondary: Side
    recovery: bool = False  # from the old primary to the new one: `secondary` is the new primary


class Parking(msgspec.Struct, frozen=True, array_like=True):
    """Why the secondary cannot hold a point, and how large the point is."""

    reason: str
    size_bytes: int


class EndReconcile(End, frozen=True, tag="r"):
    """What is in neither list ended clean. `unclear` ids are dirty and held for `hold_seconds`."""

    dirty: tuple[PointId, ...] = ()
    unclear: tuple[PointId, ...] = ()
    parked: tuple[tuple[PointId, Parking], ...] = ()
    hold_seconds: float = 0.0


# --- backfill pages ------------------------------------------------------------------------


class BeginPage(Begin, frozen=True, tag="P"):
    """A wildcard: its keys are known at its end."""

    secondary: Side
    job: str


class EndPage(End, frozen=True, tag="p"):
    """One record names the page's keys and where the next page starts (`done`: there is none)."""

    ids: tuple[PointId, ...]
    next: PointId | None
    done: bool
    dirty: tuple[PointId, ...] = ()
    unclear: tuple[PointId, ...] = ()
    parked: tuple[tuple[PointId, Parking], ...] = ()
    hold_seconds: float = 0.0


# --- scopes: writes by filter, writes of unknown reach, definitions --------------------------


class BeginScope(Begin, frozen=True, tag="S"):
    """A collection-wide interval. `definition`: DDL; else a write whose keys only the primary knows."""

    primary: Side
    definition: bool = False


class NameKeys(Record, frozen=True, tag="n"):
    """Keys that an open scope may touch; a scope may name them in several records."""

    begin: int
    ids: tuple[PointId, ...]


class EndScope(End, frozen=True, tag="s"):
    """`sweep`: why the collection has to be swept now ("" if it need not); `equal`: a definition after which
    both stores are known to hold nothing (created empty, or dropped); `gone`: the secondary has no such collection
    any more."""

    outcome: Outcome
    acknowledged: bool = False
    hold_seconds: float = 0.0
    sweep: str = ""
    equal: bool = False
    gone: bool = False


# --- the end of an owner -----------------------------------------------------------------------


class Close(End, frozen=True, tag="c"):
    """Closes an interval whose owner is gone: its last request may still land for `hold_seconds`."""

    hold_seconds: float


class Join(Record, frozen=True, kw_only=True, tag="j+"):
    """A process has opened the journal."""

    owner: str


class Leave(Record, frozen=True, kw_only=True, tag="j-"):
    """A process has closed the journal, or is proven gone and all its intervals are closed."""

    owner: str


# --- single records ----------------------------------------------------------------------------


class Release(Record, frozen=True, tag="h"):
    """The hold that the record at `hold` set has run out."""

    hold: int


class HoldSide(Record, frozen=True, tag="H"):
    """A request that may touch any key may still land on `side` for `hold_seconds`. `copy`: it is one of ours."""

    side: Side
    hold_seconds: float
    copy: bool = True


class Mark(Record, frozen=True, tag="m"):
    """Keys found different (verify, sweep): dirty."""

    ids: tuple[PointId, ...]


class Collapse(Record, frozen=True, tag="x"):
    """The dirty set is past its cap: forget the marks, sweep the collection."""


class Claim(Record, frozen=True, tag="q"):
    """The secondary's collection is this route's own: it was made for it, found empty, or adopted."""


class ParkCollection(Record, frozen=True, tag="k"):
    """The secondary cannot have the collection, for `reason`: reads and writes of it stay with the primary until a
    `Claim`, or until it is dropped or made anew."""

    reason: str


class Unswept(Record, frozen=True, tag="u"):
    """The collection has to be swept, for `reason`. `unverified`: and verified. `behind_all`: why the primary may lack
    any key, "" if it does not."""

    reason: str
    unverified: bool = False
    behind_all: str = ""


class Verified(Record, frozen=True, tag="V"):
    """A verify that began at position `began` has found both sides equal."""

    began: int


class Swept(Record, frozen=True, tag="U"):
    """A sweep that began at position `began` has ended: every key was copied, or is marked."""

    began: int


class Bind(Record, frozen=True, tag="b"):
    """Which databases the route's stores are. Where they are others than before, nothing is known of them."""

    source: str
    target: str


class SetPhase(Record, frozen=True, tag="f"):
    """The route's phase. Leaving `direct` holds the primary's keys for `hold_seconds` (un-journalled writes)."""

    phase: str
    hold_seconds: float = 0.0


# --- moving the primary ------------------------------------------------------------------------
# A flip is known by its epoch, the position of its Prepare. The first Commit or Abort of an epoch decides it.


class Prepare(Record, frozen=True, kw_only=True, tag="F"):
    """From here on no process begins a write. `to` is to be the primary."""

    owner: str
    to: Side


class Ready(Record, frozen=True, kw_only=True, tag="y"):
    """`owner` has read Prepare and begins no write until it reads the decision. Or, where `epoch` is the position of a
    SetPhase with which mirroring begins: it sends nothing any more that is not journalled."""

    epoch: int
    owner: str


class Commit(Record, frozen=True, kw_only=True, tag="C"):
    """`to` is the primary, and `phase` the route's. `emergency`: of no epoch (0), whatever is outstanding;
    what may be behind on the new primary is then listed by every ledger."""

    epoch: int
    to: Side
    phase: str
    emergency: bool = False


class Abort(Record, frozen=True, kw_only=True, tag="B"):
    """The primary stays what it is, for `reason`."""

    epoch: int
    reason: str


class Restore(Record, frozen=True, kw_only=True, tag="O"):
    """The journal before this one was lost: what is known of the route from beside it."""

    phase: str
    to: Side


class Recover(Record, frozen=True, kw_only=True, tag="v"):
    """The old primary came back after an emergency. `ids` are settled: copied from it, found gone, or given up."""

    ids: tuple[PointId, ...]


class Note(Record, frozen=True, kw_only=True, tag="N"):
    """The audit log: who did what, when (seconds since 1970), and why."""

    who: str
    what: str
    why: str
    at: float


class SetWeight(Record, frozen=True, tag="o"):
    """An operator's override of the read weight; None takes it back. `wish`: the configured weight it overrides."""

    weight: float | None
    wish: float = 0.0


class SaveJob(Record, frozen=True, tag="j"):
    """The state of a job, as its own JSON-able mapping."""

    job: str
    state: dict[str, Any]


OPENING = (BeginWrite, BeginReconcile, BeginPage, BeginScope)

AnyRecord = (
    BeginWrite
    | EndWrite
    | BeginReconcile
    | EndReconcile
    | BeginPage
    | EndPage
    | BeginScope
    | NameKeys
    | EndScope
    | Close
    | Join
    | Leave
    | Release
    | HoldSide
    | Mark
    | Collapse
    | Claim
    | ParkCollection
    | Unswept
    | Verified
    | Swept
    | Bind
    | Prepare
    | Ready
    | Commit
    | Abort
    | Restore
    | Recover
    | Note
    | SetPhase
    | SetWeight
    | SaveJob
)

# --- bytes ---------------------------------------------------------------------------------------
# Ids keep their type: integers as integers, strings as strings, UUIDs as 16 bytes. msgspec cannot tell a UUID from
# a string inside a union when it reads, so ids pass through `unpack_ids`.

_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")


def pack_ids(ids: tuple[PointId, ...]) -> list[int | bytes | str]:
    return [point_id.bytes if isinstance(point_id, UUID) else point_id for point_id in ids]


def unpack_ids(packed: list[int | bytes | str]) -> tuple[PointId, ...]:
    return tuple(UUID(bytes=part) if isinstance(part, bytes) else part for part in packed)


_KINDS: dict[str, type[Record]] = {str(kind.__struct_config__.tag): kind for kind in AnyRecord.__args__}
_ID_TUPLES = frozenset({"ids", "dirty", "unclear"})


def encode(record: AnyRecord) -> bytes:
    """msgpack: [tag, {field: value}]."""
    fields = msgspec.structs.asdict(record)
    if parked := fields.get("parked"):
        fields["parked"] = [(point_id, parking.reason, parking.size_bytes) for point_id, parking in parked]
    return _ENCODER.encode((record.__struct_config__.tag, fields))


def decode(data: bytes) -> AnyRecord:
    """Raises ValueError (msgspec.DecodeError among them) on anything `encode` did not write."""
    tag, fields = msgspec.msgpack.decode(data)
    kind = _KINDS.get(tag)
    if kind is None:
        raise ValueError(f"journal record of unknown kind {tag!r}: it was written by a newer version")
    for name in _ID_TUPLES & fields.keys():
        fields[name] = unpack_ids(fields[name])
    if fields.get("next") is not None:
        fields["next"] = unpack_ids([fields["next"]])[0]
    if "parked" in fields:
        fields["parked"] = tuple((unpack_ids([i])[0], Parking(reason, size)) for i, reason, size in fields["parked"])
    if "outcome" in fields:
        fields["outcome"] = Outcome(fields["outcome"])
    for name in {"primary", "secondary", "to", "side"} & fields.keys():
        fields[name] = Side(fields[name])
    return kind(**fields)  # type: ignore[return-value]
