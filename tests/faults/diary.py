"""What happened in a long run, and when: a line of JSON each, written at once. Times are seconds since 1970."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.checker import Attempt


class Diary:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def note(self, what: str, **more: Any) -> None:
        self._file.write(json.dumps({"at": round(time.time(), 3), "what": what, **more}) + "\n")

    def note_key(self, key: int, history: Sequence[Attempt], found: Mapping[str, Any]) -> None:
        """All that was attempted with one key, and what each store has (None: nothing)."""
        attempts = [
            {
                "began": round(attempt.began, 3),
                "seconds": round(attempt.ended - attempt.began, 3),
                "told": attempt.kind.value,
                "leaves": attempt.leaves,
            }
            for attempt in history
        ]
        self.note("key", key=key, found=found, attempts=attempts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
