"""What there is: every fault in every phase, and for what cannot exist the reason.

The engines are the Qdrant emulator (Qdrant's own engine behind our front) and Milvus Lite; the full Milvus server
plays those faults of the target that concern the program itself: killed, stopped, slow. A second Qdrant as the target
plays all that are of a route that mirrors, if it is asked to (`--target qdrant`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.faults.injection import FAULTS, FLIP_HOOKS, PAGE_HOOKS, WRITE_HOOKS, Fault, needs_compiler
from tests.faults.load import Size
from tests.faults.phases import PHASES, Phase

Engine = Literal["lite", "milvus", "qdrant"]
ENGINES: dict[Engine, str] = {"lite": "Milvus Lite", "milvus": "Milvus 2.3.5", "qdrant": "Qdrant"}
_WITH_FULL_MILVUS = ("target kill -9", "target stopped", "target slow")
_LARGE = Size({"text": "as large as what is sent on as it came" * 54}, group=33, fresh=33)


@dataclass(frozen=True)
class Cell:
    fault: Fault
    phase: Phase
    engine: Engine = "lite"

    @property
    def fault_name(self) -> str:
        return self.fault.name + ("" if self.engine == "lite" else f" ({ENGINES[self.engine]})")

    @property
    def area(self) -> str:
        return self.fault.area

    @property
    def size(self) -> Size:
        """A second Qdrant gets large requests as they came."""
        return _LARGE if self.engine == "qdrant" else Size()

    @property
    def name(self) -> str:
        """What `--only` looks into."""
        return f"{self.fault_name} / {self.phase.name}"


def cells(engine: Engine = "lite") -> Iterator[Cell]:
    """Those that exist."""
    for fault in FAULTS:
        if engine == "milvus" and fault.name not in _WITH_FULL_MILVUS:
            continue
        for phase in PHASES:
            if why_not(fault, phase) is None and (engine == "lite" or phase.mirrored):
                yield Cell(fault, phase, engine)


def why_not(fault: Fault, phase: Phase) -> str | None:
    """Why the cell cannot exist; None if it can."""
    hook = getattr(fault, "hook", "")
    if needs_compiler(fault):
        return "no C compiler to build the failing disk with"
    if fault.area == "owners" and not phase.mirrored:
        return "there is no journal to share while nothing is mirrored"
    if hook in PAGE_HOOKS and phase.name != "backfill":
        return "pages are copied by a backfill only"
    if hook in FLIP_HOOKS and phase.name != "cutover":
        return "the primary is not moved"
    if hook in WRITE_HOOKS and not phase.mirrored:
        return "a route that is not mirrored does not journal its writes: the proxy never comes there"
    return None


def impossible() -> dict[str, str]:
    """Cells that cannot exist, and why."""
    named = {
        f"{fault.name} / {phase.name}": reason
        for fault in FAULTS
        for phase in PHASES
        if (reason := why_not(fault, phase)) is not None
    }
    return named | {
        "source: a real Qdrant server": "no package ships one; its own engine behind our front stands in",
        "source and target 429, 503": "the engines never throttle: a stand-in answers in their place, in their form",
        "proxy stopped for longer than its lease": "processes of one machine hold a file lock: there are no leases",
    }
