"""Whether a request that failed was cut on purpose: by the upstream that reset its connection, and by nothing else.

The rules (docs/read.md, docs/write.md):

- An answer whose bytes are not the right ones, or one that says something else than that the connection to the store
  broke, is never excused, whatever was reset at the time. (Not that the store was silent, say: a reset is heard.)
- A write may fail if its connection was reset with it, or with its answer unread: it is sent once. It may also have
  been sent into a connection that the upstream had just reset: then it never arrived, and a reset lies within the time
  that it took, or in the turn of the proxy's event loop before.
- A read is asked again, so it takes two such cuts to make it fail; one, where it had taken longer than the proxy asks
  again after (`reads.STALE_SECONDS`), or where part of its answer had reached the client.
- A write may be refused because an older one of its key may still land, for as long as that is held.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from tests.faults.endurance.messages import WRITES

ASKED_AGAIN_SECONDS = 0.5
_TURN_SECONDS = 0.5  # of the proxy's event loop on a busy machine: a reset is not heard before its end
STARTED = "broke off in the middle of its answer"  # status of a failure
_UNCLEAR = frozenset({"HTTP 504", "DEADLINE_EXCEEDED"})
_BROKE = re.compile(r"gave no answer \(|broke off its answer \(")
_LOST = re.compile(r"\[Errno \d+\]|the connection is gone|the server closed the connection")
_REFUSED = frozenset({"HTTP 503", "UNAVAILABLE"})
_HELD = "an older request may still land"


class ResetConnection(msgspec.Struct, frozen=True):
    """`at`: time.monotonic, the same clock for all processes of a machine. `way`: http or grpc. `numbers`: of the
    requests that were under way on it. `answered`: of those that had been answered on it in the moment before; what the
    other end has not read by then may be lost to it."""

    at: float
    store: str
    way: str
    kind: str
    numbers: list[int]
    answered: list[int] = []


class Failure(msgspec.Struct, frozen=True):
    """A request that got no right answer. `status`: "HTTP 504", a gRPC code, STARTED, or words of the load's own."""

    number: int
    kind: str
    way: str
    keys: list[int]
    began: float
    ended: float
    status: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.number} over {self.way}, sent at {self.began:.3f}, after "
            f"{self.ended - self.began:.3f} s: {self.status}: {self.text}"
        )


class Verdict(StrEnum):
    CUT = "cut by a reset"
    SENT_INTO_RESET = "sent into a reset connection"
    HELD = "refused while held"
    PROBLEM = "not matched"


def judged(
    failures: Sequence[Failure],
    resets: Sequence[ResetConnection],
    arrived: Callable[[int], bool],
    hold_seconds: float,
) -> list[tuple[Failure, Verdict]]:
    """Each with what it is, in the order of their ends. `hold_seconds`: the longest for which a key is held."""
    mine = [reset for reset in resets if reset.store == "source"]
    cuts: dict[int, int] = defaultdict(int)
    for reset in mine:
        for number in reset.numbers:
            cuts[number] += 1
    held_until: dict[int, float] = {}
    found = []
    for failure in sorted(failures, key=lambda one: one.ended):
        lost = sum(failure.number in reset.answered for reset in mine if failure.began <= reset.at <= failure.ended)
        verdict = _judge(failure, mine, cuts[failure.number] + lost, arrived(failure.number), held_until)
        if verdict in (Verdict.CUT, Verdict.SENT_INTO_RESET):
            held_until |= dict.fromkeys(failure.keys, failure.ended + hold_seconds)
        found.append((failure, verdict))
    return found


def _judge(
    failure: Failure,
    resets: Sequence[ResetConnection],
    cuts: int,
    arrived: bool,
    held_until: dict[int, float],
) -> Verdict:
    if failure.status in _REFUSED and _HELD in failure.text:
        is_held = any(failure.began <= held_until.get(key, 0.0) for key in failure.keys)
        return Verdict.HELD if is_held and failure.kind in WRITES else Verdict.PROBLEM
    if not _had_begun(failure) and not (failure.status in _UNCLEAR and _BROKE.search(failure.text)):
        return Verdict.PROBLEM
    unseen = sum(_may_have_taken(reset, failure) for reset in resets)
    if not (cuts or (unseen and not arrived)):
        return Verdict.PROBLEM
    once_is_enough = (
        failure.kind in WRITES or _had_begun(failure) or failure.ended - failure.began > ASKED_AGAIN_SECONDS
    )
    if not once_is_enough and cuts + unseen < 2:
        return Verdict.PROBLEM
    return Verdict.CUT if cuts else Verdict.SENT_INTO_RESET


def _had_begun(failure: Failure) -> bool:
    """Whether part of the answer had reached the client. What ends a call then says no more than how the connection was
    lost."""
    if failure.way != "grpc":
        return failure.status == STARTED
    return failure.kind == "large" and failure.status == "UNAVAILABLE" and bool(_LOST.match(failure.text))


def _may_have_taken(reset: ResetConnection, failure: Failure) -> bool:
    """Whether the request may have been sent into that connection once it was reset. Over HTTP only if that was idle:
    no other is given a second request."""
    if failure.number in (*reset.numbers, *reset.answered):
        return False
    if not failure.began - _TURN_SECONDS <= reset.at <= failure.ended:
        return False
    return reset.way == "grpc" if failure.way == "grpc" else (reset.way, reset.kind) == ("http", "idle")
