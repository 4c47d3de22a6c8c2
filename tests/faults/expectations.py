"""What clients may be told, fault by fault. Pure; the one place to change when the product's promises do.

A fault of the target must not show at all (policy `primary`). In phase `direct` nothing is journalled and nothing is
listed before a write by filter, so those refusals cannot come either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.faults.told import Kind

# fault -> what may be told. `FELT`: at least one write must have been told something, or the fault has missed.
_DOWN = frozenset({Kind.NO_PROXY, Kind.BROKEN})
_UNSENT = frozenset({Kind.UNLISTED})
ALLOWED: Mapping[str, frozenset[Kind]] = {
    # of the source; what is under way when it strikes is unclear
    "source kill -9": _UNSENT | {Kind.UNAVAILABLE, Kind.UNCLEAR},
    "source stopped": _UNSENT | {Kind.UNAVAILABLE, Kind.UNCLEAR},
    "source refused": _UNSENT | {Kind.UNAVAILABLE, Kind.UNCLEAR},
    "source reset after sent": _UNSENT | {Kind.UNCLEAR},
    "source reset after applied": _UNSENT | {Kind.UNCLEAR},
    "source answers late": _UNSENT | {Kind.UNAVAILABLE, Kind.UNCLEAR},
    "source slow": frozenset(),
    "source 429": _UNSENT | {Kind.THROTTLED, Kind.UNCLEAR},
    "source 503": _UNSENT | {Kind.OVERLOADED, Kind.UNCLEAR},
    # of the target: nothing
    # of the journal
    "journal disk full": frozenset({Kind.JOURNAL}),
    "journal fsync fails": frozenset({Kind.JOURNAL}),
    "journal fsync slow": frozenset(),
    "journal read-only": frozenset({Kind.JOURNAL}),
    "journal log truncated": _DOWN,
    "journal database truncated": _DOWN | {Kind.CANCELLED},  # the one proxy here that is stopped in order
    # of the proxy
    "proxy kill -9": _DOWN,  # at any moment and at each hook
    "proxy stopped": _UNSENT | {Kind.UNCLEAR},
    "proxy disk full": frozenset({Kind.JOURNAL}),
}
_UNFELT = frozenset({"source slow", "journal fsync slow", "proxy stopped"})
_NOT_DIRECT = frozenset({Kind.JOURNAL, Kind.UNLISTED})


def allowed(fault: str, mirrored: bool) -> frozenset[Kind]:
    """`fault`: its name; a hook at which the proxy is killed counts as `proxy kill -9`."""
    kinds = ALLOWED.get(fault.partition(" at ")[0], frozenset())
    return kinds if mirrored else kinds - _NOT_DIRECT


def wrong(fault: str, mirrored: bool, told: Iterable[tuple[Kind, str]]) -> list[str]:
    """The errors that were not right, a line each."""
    right = allowed(fault, mirrored)
    return [f"{kind.value}: {text}" for kind, text in told if kind not in right]


def missed(fault: str, mirrored: bool, told: Iterable[tuple[Kind, str]]) -> bool:
    """Whether the fault should have been felt by clients, and was not."""
    return fault not in _UNFELT and bool(allowed(fault, mirrored)) and not any(True for _ in told)
