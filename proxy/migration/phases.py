"""The life of a route, as a table. Pure.

    direct ─► dual-write ─► backfill ─► verify ─► shadow ─► shift ─► cutover ─► complete

Every step but the last has a way back. The phase stands in the journal; it changes with the command in `command`, and
where there are `gates`, only if they are open (gates.py has what each looks at). A backfill starts dual writes, and a
verify that finds both sides equal ends its phase. The picture in docs/cutover.md is drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.replication.records import COMPLETE, CUTOVER, DIRECT, DUAL_WRITE

BACKFILL, VERIFY, SHADOW, SHIFT = "backfill", "verify", "shadow", "shift"
PHASES = (DIRECT, DUAL_WRITE, BACKFILL, VERIFY, SHADOW, SHIFT, CUTOVER, COMPLETE)


@dataclass(frozen=True, slots=True)
class Transition:
    """`command` brings the route from one phase to another. `does`: what happens then, in one sentence."""

    start: str
    end: str
    command: str
    does: str
    gates: tuple[str, ...] = ()

    @property
    def back(self) -> bool:
        return PHASES.index(self.end) < PHASES.index(self.start)


_REVERSIBLE = ("open", "parked", "collections")

TRANSITIONS = (
    Transition(
        DIRECT,
        DUAL_WRITE,
        "mirror",
        "From now on every write is journalled and reaches the target; what was there before is not copied yet.",
        ("stores", "empty", "bypass"),
    ),
    Transition(DUAL_WRITE, BACKFILL, "backfill", "What was there before is copied, while the application goes on."),
    Transition(BACKFILL, VERIFY, "verify", "Both stores are compared, point by point."),
    Transition(
        VERIFY,
        SHADOW,
        "verify",
        "Both stores hold the same; sampled searches are answered by both and compared.",
        ("verify",),
    ),
    Transition(SHADOW, SHIFT, "weight", "The target answers a part of the reads; raise it step by step to 100."),
    *(
        Transition(early, SHIFT, "weight", "The same, ahead of the proof: reads wait for the backfill all the same.")
        for early in (DUAL_WRITE, BACKFILL, VERIFY)
    ),
    Transition(
        SHIFT,
        CUTOVER,
        "cutover",
        "New writes are held for a moment; once both stores hold the same the target is the primary, and the source "
        "goes on receiving every write.",
        (
            "stores",
            "capable",
            "access",
            "jobs",
            "collections",
            "open",
            "parked",
            "verify",
            "drift",
            "bypass",
            "shadow",
            "reads",
            "aliases",
            "reverse",
        ),
    ),
    Transition(
        CUTOVER,
        COMPLETE,
        "complete",
        "The source receives no more writes. There is no way back: copy from the target if you need one.",
        ("jobs", *_REVERSIBLE),
    ),
    Transition(
        CUTOVER,
        SHIFT,
        "rollback",
        "New writes are held for a moment; once both stores hold the same the source is the primary again.",
        ("stores", "jobs", *_REVERSIBLE),
    ),
    Transition(SHIFT, SHADOW, "rollback", "All reads go to the source, from the next request on.", ()),
    Transition(SHADOW, DIRECT, "rollback", "Writes go to the source alone; the target is left as it is.", ("jobs",)),
    Transition(VERIFY, DIRECT, "rollback", "Writes go to the source alone; the target is left as it is.", ("jobs",)),
    Transition(BACKFILL, DIRECT, "rollback", "Writes go to the source alone; the target is left as it is.", ("jobs",)),
    Transition(
        DUAL_WRITE, DIRECT, "rollback", "Writes go to the source alone; the target is left as it is.", ("jobs",)
    ),
)


def onward(phase: str) -> Transition | None:
    """The step after `phase`; None after the last."""
    return next((step for step in TRANSITIONS if step.start == phase and not step.back), None)


def backward(phase: str) -> Transition | None:
    """The way back from `phase`; None where there is none."""
    return next((step for step in TRANSITIONS if step.start == phase and step.back), None)


def is_past(phase: str, other: str) -> bool:
    return PHASES.index(phase) > PHASES.index(other)


def picture() -> str:
    """The phases as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {_word(DIRECT)}"]
    lines += [f"    {_word(step.start)} --> {_word(step.end)}: {step.command}" for step in TRANSITIONS]
    lines.append(f"    {_word(COMPLETE)} --> [*]")
    return "\n".join(lines)


def _word(phase: str) -> str:
    return phase.replace("-", "_")
