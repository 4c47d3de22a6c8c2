"""What an application counts about its own requests: how many, which failed, how long they took."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

SEARCHES = frozenset({"search", "filtered search", "question"})
WRITES = frozenset({"upsert", "set_payload", "delete"})

_RECENT = 400  # requests that the percentiles are taken from
_FAILURES_KEPT = 30  # kinds of them
_FAILURE_CHARACTERS = 300


class WrongAnswer(Exception):
    """The request succeeded, but what came back cannot be right."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds over `samples` requests; zeros without any."""

    samples: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        p50, p99 = (ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))] for q in (0.5, 0.99))
        return cls(len(ordered), round(p50 * 1e3, 3), round(p99 * 1e3, 3))


@dataclass(frozen=True, slots=True)
class Figures:
    """`operations` and `transports` count requests; `failures` are the first of each kind; `search` and `write` are of
    the latest requests."""

    requests: int = 0
    failed_requests: int = 0
    failures: tuple[str, ...] = ()
    operations: dict[str, int] = field(default_factory=dict)
    transports: dict[str, int] = field(default_factory=dict)
    search: Latency = Latency()
    write: Latency = Latency()
    asked: str = ""  # the latest question in words, and what was found
    found: str = ""
    ended: bool = False

    @property
    def writes(self) -> int:
        return sum(self.operations.get(operation, 0) for operation in WRITES)

    @classmethod
    def load(cls, path: Path) -> Figures:
        """As `Tally.save` wrote it. Raises FileNotFoundError before the first time."""
        values = json.loads(path.read_text())
        latencies = {name: Latency(**values.pop(name)) for name in ("search", "write")}
        return cls(**{**values, "failures": tuple(values["failures"]), **latencies})


class Tally:
    """Shared by all threads of the application."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: Counter[str] = Counter()
        self._transports: Counter[str] = Counter()
        self._failed = 0
        self._failures: dict[str, str] = {}  # the first of each kind
        self._recent = {"search": deque[float](maxlen=_RECENT), "write": deque[float](maxlen=_RECENT)}
        self._question = ("", "")

    @contextmanager
    def request(self, transport: str, operation: str) -> Iterator[None]:
        """Around one request and the checks of its answer. Whatever is raised inside is a failed request, and stays
        inside: the application goes on."""
        began = time.monotonic()
        kind, failure = "", ""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - every kind of failure counts the same; its text is reported
            kind = f"{operation} over {transport}: {type(error).__name__}"
            failure = " ".join(str(error).split())
        seconds = time.monotonic() - began
        with self._lock:
            self._operations[operation] += 1
            self._transports[transport] += 1
            if operation in SEARCHES:
                self._recent["search"].append(seconds)
            elif operation in WRITES:
                self._recent["write"].append(seconds)
            if kind:
                self._failed += 1
                if len(self._failures) < _FAILURES_KEPT:
                    self._failures.setdefault(kind, failure[:_FAILURE_CHARACTERS])

    def answered(self, question: str, answer: str) -> None:
        self._question = (question, answer)

    def figures(self, ended: bool = False) -> Figures:
        with self._lock:
            return Figures(
                requests=self._operations.total(),
                failed_requests=self._failed,
                failures=tuple(f"{kind}: {failure}" for kind, failure in self._failures.items()),
                operations=dict(self._operations),
                transports=dict(self._transports),
                search=Latency.of(list(self._recent["search"])),
                write=Latency.of(list(self._recent["write"])),
                asked=self._question[0],
                found=self._question[1],
                ended=ended,
            )

    def save(self, path: Path, ended: bool = False) -> None:
        """Replace the file in one step, so that a reader never sees half of it."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self.figures(ended))))
        os.replace(draft, path)
