"""The endurance run's own parts: what excuses a failed request and what does not, what counts as flat, edits, and
what goes over the wire."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from tests.faults.endurance.edits import EDITS, edited, moments
from tests.faults.endurance.matching import STARTED, Failure, ResetConnection, Verdict, judged
from tests.faults.endurance.messages import (
    FIRST_ID,
    KINDS,
    LAST_ID,
    POINTS,
    grpc_message,
    http_body,
    keys_of,
    number_in_json,
    number_in_message,
    over_grpc,
    over_http,
)
from tests.faults.endurance.run import Endurance
from tests.faults.endurance.tally import Told
from tests.faults.flatness import growth, third

NO_ANSWER = "Timeout: 127.0.0.1:1 gave no answer ([Errno 104] Connection reset by peer); it may have done the work"
SILENT = "Timeout: 127.0.0.1:1 was silent for 5.0 s; it may still do the work"
HELD = "an older request may still land on the key; try again"


def failure(number: int = 7, kind: str = "write", **given: Any) -> Failure:
    told = {"way": "grpc", "keys": [3], "began": 10.0, "ended": 10.2, "status": "DEADLINE_EXCEEDED", "text": NO_ANSWER}
    return Failure(number, kind, **{**told, **given})


def reset(*numbers: int, at: float = 10.1, way: str = "grpc", store: str = "source") -> ResetConnection:
    return ResetConnection(at, store, way, "request", list(numbers))


def idle(at: float = 10.1) -> ResetConnection:
    return ResetConnection(at, "source", "http", "idle", [])


def cut_behind_answer(*numbers: int, at: float = 10.1) -> ResetConnection:
    return ResetConnection(at, "source", "grpc", "idle", [], list(numbers))


def verdict(failed: Failure, *resets: ResetConnection, arrived: bool = True) -> Verdict:
    [(_, found)] = judged([failed], resets, lambda number: arrived, hold_seconds=5)
    return found


# --- matching --------------------------------------------------------------------------------------------


def test_a_write_that_was_cut_may_fail() -> None:
    assert verdict(failure(), reset(6, 7)) is Verdict.CUT
    assert verdict(failure(way="tls", status="HTTP 504"), reset(7, way="http")) is Verdict.CUT


def test_a_write_that_nobody_cut_may_not() -> None:
    assert verdict(failure()) is Verdict.PROBLEM
    assert verdict(failure(), reset(6)) is Verdict.PROBLEM  # it arrived, and was not under way
    assert verdict(failure(), reset(7, store="target")) is Verdict.PROBLEM


@pytest.mark.parametrize(
    "told",
    [
        {"status": "another answer than was given"},
        {"status": "no answer within 10 s", "text": ""},
        {"status": "INTERNAL"},
        {"status": "UNAVAILABLE"},
        {"status": "HTTP 502"},
        {"text": SILENT},
    ],
)
def test_what_no_reset_excuses(told: dict[str, Any]) -> None:
    assert verdict(failure(**told), reset(7), reset(7)) is Verdict.PROBLEM


def test_a_write_sent_into_a_connection_just_reset_never_arrived() -> None:
    assert verdict(failure(), reset(), arrived=False) is Verdict.SENT_INTO_RESET
    assert verdict(failure(), reset(), arrived=True) is Verdict.PROBLEM
    assert verdict(failure(), reset(at=9.6), arrived=False) is Verdict.SENT_INTO_RESET  # nobody had heard of it
    assert verdict(failure(), reset(at=9.4), arrived=False) is Verdict.PROBLEM  # long before it was sent
    assert verdict(failure(), reset(at=10.3), arrived=False) is Verdict.PROBLEM  # after it had failed
    assert verdict(failure(), reset(way="http"), arrived=False) is Verdict.PROBLEM
    over_http = failure(way="http", status="HTTP 504")
    assert verdict(over_http, idle(), arrived=False) is Verdict.SENT_INTO_RESET
    assert verdict(over_http, reset(way="http"), arrived=False) is Verdict.PROBLEM  # another request had that one


def test_an_answer_may_be_lost_with_its_connection_unread() -> None:
    assert verdict(failure(), cut_behind_answer(7)) is Verdict.CUT
    assert verdict(failure(), cut_behind_answer(6)) is Verdict.PROBLEM
    assert verdict(failure(), cut_behind_answer(7, at=9.9)) is Verdict.PROBLEM
    assert verdict(failure(), cut_behind_answer(7, at=10.3)) is Verdict.PROBLEM  # it had failed before
    assert verdict(failure(kind="search"), cut_behind_answer(7)) is Verdict.PROBLEM


def test_a_read_has_to_be_cut_twice() -> None:
    assert verdict(failure(kind="search"), reset(7)) is Verdict.PROBLEM
    assert verdict(failure(kind="search"), reset(7), reset(7)) is Verdict.CUT
    assert verdict(failure(kind="search"), reset(7), reset(), arrived=True) is Verdict.CUT
    assert verdict(failure(kind="fetch"), reset(), arrived=False) is Verdict.PROBLEM
    assert verdict(failure(kind="fetch"), reset(), reset(), arrived=False) is Verdict.SENT_INTO_RESET


def test_a_read_is_not_asked_again_late_or_once_it_has_begun() -> None:
    assert verdict(failure(kind="search", ended=10.6), reset(7)) is Verdict.CUT
    over_http = failure(kind="large", way="http", status=STARTED, text="")
    assert verdict(over_http, reset(7, way="http")) is Verdict.CUT
    assert verdict(over_http) is Verdict.PROBLEM
    lost: dict[str, Any] = {"status": "UNAVAILABLE", "text": "[Errno 104] Connection reset by peer"}
    assert verdict(failure(kind="large", **lost), reset(7)) is Verdict.CUT
    assert verdict(failure(kind="large", **lost)) is Verdict.PROBLEM
    assert verdict(failure(kind="search", **lost), reset(7)) is Verdict.PROBLEM
    refused: dict[str, Any] = {
        "status": "UNAVAILABLE",
        "text": "127.0.0.1:1 takes no calls ([Errno 104] Connection reset by peer)",
    }
    assert verdict(failure(kind="large", **refused), reset(7)) is Verdict.PROBLEM


def test_a_write_is_refused_only_while_its_key_is_held() -> None:
    refused = {"status": "UNAVAILABLE", "text": HELD}
    for key, began, expected in [(3, 15.1, Verdict.HELD), (3, 15.3, Verdict.PROBLEM), (4, 11.0, Verdict.PROBLEM)]:
        later = failure(8, keys=[key], began=began, ended=began + 0.1, **refused)
        assert judged([later, failure()], [reset(7)], lambda number: True, 5)[1] == (later, expected)
    assert judged([failure(), failure(8, began=11, ended=11.1, **refused)], [], lambda number: True, 5)[1][1] is (
        Verdict.PROBLEM  # what was not cut holds nothing
    )


# --- flatness ---------------------------------------------------------------------------------------------


def test_the_last_third_is_held_against_the_second() -> None:
    assert growth("memory", [50, 50, 100, 100, 114, 114]) == []
    assert growth("memory", [50, 50, 100, 100, 116, 116]) == ["memory grew from 100 to 116"]
    assert growth("descriptors", [50, 50, 100, 100, 130, 130], 16) == []
    assert growth("descriptors", [50, 50, 100, 100, 132, 132], 16) == ["descriptors grew from 100 to 132"]


def test_the_end_belongs_to_the_last_third() -> None:
    assert [third([1, 1, 2, 2, 3, 3, 9, 9], number) for number in range(3)] == [1, 2, 9]


# --- edits ---------------------------------------------------------------------------------------------------


def test_every_edit_has_come_before_one_comes_again() -> None:
    made = list(moments(1800, random.Random(1)))
    times = [at for at, _ in made]
    assert all(5 <= after - before <= 20 for before, after in zip([0.0, *times], times, strict=False))
    assert times[-1] < 1800
    kinds = [edit for _, edit in made]
    assert all(set(kinds[start : start + len(EDITS)]) == set(EDITS) for start in range(0, len(kinds) - 6, len(EDITS)))


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit != "certificate"])
def test_an_edit_changes_something_each_time(edit: str) -> None:
    before: dict[str, Any] = {"routes": [{"name": "docs"}], "version": 1}
    for _ in range(5):
        after = edited(before, edit, random.Random(2))
        changed = {key for key in after["routes"][0] if after["routes"][0][key] != before["routes"][0].get(key)}
        assert changed
        assert after["version"] == 1
        if edit == "mistake":
            break
        before = after


# --- what goes over the wire ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [FIRST_ID, 12_345_678, LAST_ID])
def test_a_search_carries_its_number_in_head_or_body(number: int) -> None:
    head, body = over_http("search", number, False), over_http("search", number, True)
    assert f"x-request-id: {number}\r\n".encode() in head.head
    assert b"x-request-id" not in body.head
    assert (number_in_json(head.body), number_in_json(body.body), number_in_json(body.body[:24])) == (0, number, 0)
    prefix = bytes(5)
    plain, numbered = over_grpc("search", number, False).body, over_grpc("search", number, True).body
    assert (number_in_message(prefix + plain), number_in_message(prefix + numbered)) == (0, number)


def test_an_answer_is_of_one_request_only() -> None:
    for kind in KINDS:
        for answer in (http_body, grpc_message):
            assert answer(kind, FIRST_ID) != answer(kind, FIRST_ID + 1)
            assert len(answer(kind, FIRST_ID)) == len(answer(kind, LAST_ID))


def test_writes_say_which_points_they_write() -> None:
    for kind in KINDS:
        number = FIRST_ID + 1_234
        asked = over_http(kind, number, False)
        assert asked.keys == over_grpc(kind, number, False).keys == keys_of(kind, number)
        if kind in ("write", "upsert"):
            written = msgspec.json.decode(asked.body)["points"]
            assert [point["id"] for point in written] == list(asked.keys)
        else:
            assert not asked.keys
    assert {key for number in range(FIRST_ID, FIRST_ID + POINTS) for key in keys_of("write", number)} == set(
        range(POINTS)
    )


# --- what was not tested ---------------------------------------------------------------------------------------


def test_a_run_in_which_nothing_happened_is_a_problem() -> None:
    sent = {f"{kind} {way}": 10_000 for kind in KINDS for way in ("http", "tls", "grpc")}
    found = Endurance(30, 1, told=Told(seconds=1800, sent=sent)).not_tested()
    assert "no search over grpc was answered" in found
    assert "no client broke off: http body by RST" in found
    assert "no connection was reset: grpc answer" in found
    assert "no edit was made: certificate" in found


def test_only_resets_during_the_long_load_say_that_there_were_some() -> None:
    resets = [ResetConnection(at, "source", "grpc", "answer", []) for at in (9.0, 21.0)]
    missing = "no connection was reset: grpc answer"
    assert missing in Endurance(30, 1, resets=resets, began=10.0, ended=20.0).not_tested()
    assert missing not in Endurance(30, 1, resets=resets, began=5.0, ended=20.0).not_tested()


def test_the_capacity_is_the_median_of_several() -> None:
    told = [Told(seconds=2, answered={"search http": answered}) for answered in (30, 10, 12)]
    assert Endurance(1, 1, capacities=told).capacity_rate == 6


def test_whatever_the_load_notes_is_a_problem() -> None:
    told = Told(notes=["odd"], failures_not_kept=3)
    for found in (Endurance(1, 1, capacities=[Told(), told]), Endurance(1, 1, capacity_afterwards=told)):
        assert {"odd", "3 failures more than are looked at"} <= set(found.problems)


def test_a_capacity_is_the_proxys_if_it_was_full() -> None:
    found = [Endurance(1, workers, capacity_cores=cores).what_was_full() for workers, cores in ((1, 0.9), (2, 0.9))]
    assert found == ["the proxy", "not the proxy"]


def test_what_was_not_tested_is_a_problem() -> None:
    found = Endurance(30, 1, told=Told(seconds=1, sent={"search http": 1000}, in_time=1000))
    assert set(found.not_tested()) <= set(found.problems)


def test_what_fell_behind_is_a_problem() -> None:
    told = Told(seconds=10, sent={"search http": 6}, answered={"search http": 6}, in_time=5)
    assert Endurance(0.1, 1, asked_rate=0.6, others=1.5, capacity_others=0.25, told=told).problems == [
        "nothing was sampled",
        "0.5 requests a second were sent where 0.6 were meant (others on this machine used 1.50 cores; 0.25 while the "
        "capacity was measured)",
    ]
