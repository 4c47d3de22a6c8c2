"""What a long run writes down."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.checker import Attempt, check
from tests.faults.diary import Diary
from tests.faults.told import Kind


def test_of_a_key_that_is_not_right_all_attempts_are_written_down_with_their_times(tmp_path: Path) -> None:
    history = [Attempt({"turn": 1}, Kind.DONE, 10.0, 10.25), Attempt(None, Kind.UNCLEAR, 11.0, 12.0)]
    findings = check("target", {}, {7: history, 8: [Attempt(None, Kind.DONE)]}, {7: {"turn": 0}, 9: {}})
    assert findings.keys == {7, 9}
    with Diary(tmp_path / "diary.jsonl") as diary:
        diary.note("struck", fault="target kill -9")
        written = diary.path.read_text()  # at once: it is read after a crash
        diary.note_key(7, history, {"target": {"turn": 0}})
    assert json.loads(written).items() >= {"what": "struck", "fault": "target kill -9"}.items()
    told = json.loads(diary.path.read_text().splitlines()[1])
    assert told["at"] >= json.loads(written)["at"] > 0
    assert told["found"] == {"target": {"turn": 0}}
    assert told["attempts"] == [
        {"began": 10.0, "seconds": 0.25, "told": "done", "leaves": {"turn": 1}},
        {"began": 11.0, "seconds": 1.0, "told": "outcome unknown", "leaves": None},
    ]
