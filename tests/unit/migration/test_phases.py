"""The phases of a route as a table: every one is reached, all but the last have a way back, the page shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.migration import gates
from proxy.migration.phases import PHASES, TRANSITIONS, backward, is_past, onward, picture
from proxy.replication.records import COMPLETE, DIRECT

PAGE = (Path(__file__).parents[3] / "docs" / "cutover.md").read_text()


def test_onward_goes_through_all_phases() -> None:
    phase, seen = DIRECT, [DIRECT]
    while (step := onward(phase)) is not None:
        phase = step.end
        seen.append(phase)
    assert seen == list(PHASES)


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != DIRECT])
def test_every_phase_but_the_last_has_a_way_back(phase: str) -> None:
    way = backward(phase)
    if phase == COMPLETE:
        assert way is None
    else:
        assert way is not None
        assert way.command == "rollback"
        assert is_past(phase, way.end)


def test_the_first_phase_has_nothing_to_go_back_to() -> None:
    assert backward(DIRECT) is None


def test_every_way_back_ends_at_the_beginning() -> None:
    for phase in PHASES[:-1]:
        steps = 0
        while (way := backward(phase)) is not None:
            phase, steps = way.end, steps + 1
            assert steps < len(PHASES)
        assert phase == DIRECT


def test_no_two_steps_go_the_same_way() -> None:
    ways = [(step.start, step.end) for step in TRANSITIONS]
    assert len(set(ways)) == len(ways)
    assert {phase for way in ways for phase in way} == set(PHASES)


def test_every_gate_of_the_table_exists_and_every_gate_is_used() -> None:
    assert {name for step in TRANSITIONS for name in step.gates} == set(gates._GATES)


def test_the_page_shows_the_picture_of_the_table() -> None:
    assert re.findall(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL) == [picture()]


def test_the_page_has_a_row_for_every_gate() -> None:
    section = PAGE.split("\n## Gates\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)) == set(gates._GATES)
