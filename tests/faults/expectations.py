"""What clients may be told, fault by fault. Pure; the one place to change when the product's promises do.

What is right for a store depends on its part: a fault of the secondary must not show at all (policy `primary`). In
phase `direct` nothing is journalled and nothing is listed before a write by filter, so those refusals cannot come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from tests.faults.told import Kind

Side = Literal["source", "target", "either"]  # either: the primary moves to and fro meanwhile

_DOWN = frozenset({Kind.NO_PROXY, Kind.BROKEN})
_UNSENT = frozenset({Kind.UNLISTED})
_AWAY = frozenset({Kind.UNAVAILABLE, Kind.UNASKED})
# The waits of a process have run out by the time that it goes on: for answers, and for names without which nothing is
# asked.
_STOPPED = _UNSENT | {Kind.UNCLEAR, Kind.UNASKED}

# What is under way when it strikes is unclear.
OF_THE_PRIMARY: Mapping[str, frozenset[Kind]] = {
    "kill -9": _UNSENT | _AWAY | {Kind.UNCLEAR},
    "stopped": _UNSENT | _AWAY | {Kind.UNCLEAR},
    "refused": _UNSENT | _AWAY | {Kind.UNCLEAR},
    "reset after sent": _UNSENT | {Kind.UNCLEAR},
    "reset after applied": _UNSENT | {Kind.UNCLEAR},
    "answers late": _UNSENT | _AWAY | {Kind.UNCLEAR},
    "slow": frozenset(),
    "429": _UNSENT | {Kind.THROTTLED, Kind.UNCLEAR},
    "503": _UNSENT | {Kind.OVERLOADED, Kind.UNCLEAR},
}
OF_THE_PROXY: Mapping[str, frozenset[Kind]] = {
    "journal disk full": frozenset({Kind.JOURNAL}),
    "journal fsync fails": frozenset({Kind.JOURNAL}),
    "journal fsync slow": frozenset(),
    "journal read-only": frozenset({Kind.JOURNAL}),
    "journal log truncated": _DOWN,
    "journal database truncated": _DOWN,
    "proxy kill -9": _DOWN,  # at any moment and at each hook
    "proxy stopped": _STOPPED | {Kind.UNAVAILABLE},
    "proxy disk full": frozenset({Kind.JOURNAL}),
    "owners one of 2 killed": _DOWN,
    "owners one of 2 stopped": _STOPPED | {Kind.JOURNAL},
    "owners one of 3 killed": _DOWN,
    "owners one of 3 stopped": _STOPPED | {Kind.JOURNAL},
}
# clients may be told something, and need not
_UNFELT = frozenset({"proxy stopped", "owners one of 2 stopped", "owners one of 3 stopped"})
_NOT_DIRECT = frozenset({Kind.JOURNAL, Kind.UNLISTED})


# Where the target is the primary, partial updates rewrite whole points, so nothing is written to a key while a request
# of unknown outcome may still land on it. While the primary is being moved, writes wait for the decision.
_WHOLE_POINTS = frozenset({Kind.LANDING, Kind.IN_PART})
# A new connection to a Milvus begins with a handshake, before which no write is sent.
_HANDSHAKE = _AWAY
_UNDECIDED = frozenset({Kind.MOVING})
_QUIET = frozenset({"journal fsync slow"})
_WITH_A_HANGING_TARGET = frozenset({"journal log truncated"})  # so that something is known that can be lost


def allowed(fault: str, mirrored: bool, primary: Side = "source") -> frozenset[Kind]:
    """`fault`: its name, "<area> <what>". A hook at which the proxy is killed counts as `proxy kill -9`."""
    area, _, what = fault.partition(" ")
    if area in ("source", "target"):
        kinds = OF_THE_PRIMARY[what] if primary in (area, "either") else frozenset()
    else:
        kinds = OF_THE_PROXY[fault.partition(" at ")[0]]
    if fault in _WITH_A_HANGING_TARGET and primary != "source":
        kinds |= OF_THE_PRIMARY["stopped"]
    if kinds and primary != "source":
        kinds |= _WHOLE_POINTS | (_HANDSHAKE if area == "target" else frozenset())
    if primary == "either" and fault not in _QUIET:
        kinds |= _UNDECIDED
    return kinds if mirrored else kinds - _NOT_DIRECT


def wrong(told: Iterable[tuple[Kind, str]], right: frozenset[Kind]) -> list[str]:
    """The errors that were not right, a line each."""
    return [f"{kind.value}: {text}" for kind, text in told if kind not in right]


def missed(fault: str, told: Iterable[tuple[Kind, str]], right: frozenset[Kind]) -> bool:
    """Whether the fault should have been felt by clients, and was not."""
    felt = right - _UNDECIDED
    return fault not in _UNFELT and bool(felt) and not any(True for _ in told)
