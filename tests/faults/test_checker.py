"""The checker, the sorting of errors and the table of expectations, on made-up histories."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from tests.faults.cells import cells, impossible, why_not
from tests.faults.checker import Attempt, Findings, check, possible
from tests.faults.expectations import OF_THE_PRIMARY, OF_THE_PROXY, allowed, missed, wrong
from tests.faults.injection import FAULTS
from tests.faults.phases import PHASES
from tests.faults.told import Kind, kind_of
from tests.support.stand_ins import MARK

ONE, TWO, THREE = {"turn": 1}, {"turn": 2}, {"turn": 3}


def found(history: list[Attempt], there: Any, before: Any = None) -> Findings:
    first = {} if before is None else {7: before}
    return check("source", first, {7: history}, {} if there is None else {7: there})


def counts(findings: Findings) -> tuple[int, int, int]:
    return len(findings.lost), len(findings.resurrected), len(findings.lies)


# --- what a key may hold ------------------------------------------------------------------------------


def test_the_last_acknowledged_write_is_there() -> None:
    history = [Attempt(ONE, Kind.DONE), Attempt(TWO, Kind.DONE)]
    assert counts(found(history, TWO)) == (0, 0, 0)
    assert counts(found(history, ONE)) == (1, 0, 0)
    assert counts(found(history, None)) == (1, 0, 0)


def test_a_write_of_unknown_outcome_may_be_there_or_not_but_nothing_else() -> None:
    history = [Attempt(ONE, Kind.DONE), Attempt(TWO, Kind.UNCLEAR)]
    assert possible(None, history) == [ONE, TWO]
    assert counts(found(history, ONE)) == (0, 0, 0)
    assert counts(found(history, TWO)) == (0, 0, 0)
    assert counts(found(history, THREE)) == (1, 0, 0)
    assert counts(found(history, None)) == (1, 0, 0)


def test_an_older_write_of_unknown_outcome_may_have_landed_late() -> None:
    assert counts(found([Attempt(ONE, Kind.UNCLEAR), Attempt(TWO, Kind.DONE)], ONE)) == (0, 0, 0)


def test_a_deleted_key_that_is_there_is_resurrected() -> None:
    history = [Attempt(ONE, Kind.DONE), Attempt(None, Kind.DONE)]
    assert counts(found(history, None)) == (0, 0, 0)
    assert counts(found(history, ONE)) == (0, 1, 0)


@pytest.mark.parametrize("kind", [Kind.UNAVAILABLE, Kind.UNASKED, Kind.JOURNAL, Kind.UNLISTED, Kind.NO_PROXY])
def test_a_refused_write_that_is_there_is_a_lie(kind: Kind) -> None:
    history = [Attempt(ONE, Kind.DONE), Attempt(TWO, kind)]
    assert counts(found(history, ONE)) == (0, 0, 0)
    assert counts(found(history, TWO)) == (0, 0, 1)


def test_what_was_there_before_stays_until_it_is_written() -> None:
    assert counts(found([], ONE, before=ONE)) == (0, 0, 0)
    assert counts(found([], None, before=ONE)) == (1, 0, 0)
    assert counts(found([Attempt(None, Kind.DONE)], None, before=ONE)) == (0, 0, 0)


def test_a_point_that_nobody_wrote_is_a_finding() -> None:
    assert counts(check("source", {}, {}, {9: ONE})) == (0, 0, 1)


# --- what clients were told ---------------------------------------------------------------------------


def rest(status: int, text: str, **headers: str) -> UnexpectedResponse:
    return UnexpectedResponse(status, "", text.encode(), httpx.Headers(headers))


class Call(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self._code, self._text = code, text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text


UNAVAILABLE, DEADLINE = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
_JOURNAL = "the write was refused because it could not be journalled: disk full"
_LISTING = "the write was refused: the primary did not list what matches (127.0.0.1:1 takes no connections)"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (rest(502, "http://x takes no connections"), Kind.UNAVAILABLE),
        (rest(502, "127.0.0.1:1 took no call within 1.000 s"), Kind.UNAVAILABLE),
        (
            rest(502, "the aliases could not be read, so nothing was asked: x"),
            Kind.UNASKED,
        ),
        (rest(504, "Timeout: http://x was silent"), Kind.UNCLEAR),
        (rest(503, _JOURNAL, **{"retry-after": "1"}), Kind.JOURNAL),
        (rest(503, _JOURNAL), Kind.WRONG),  # it does not say when to come back
        (rest(503, _LISTING, **{"retry-after": "1"}), Kind.UNLISTED),
        (rest(503, MARK, **{"retry-after": "1"}), Kind.OVERLOADED),
        (rest(502, f"127.0.0.1:1 answered Connect with gRPC status 14: {MARK}"), Kind.OVERLOADED),
        (rest(429, MARK), Kind.THROTTLED),
        (rest(500, "Service internal error: bug"), Kind.WRONG),
        (ResourceExhaustedResponse(MARK, 1), Kind.THROTTLED),
        (ResponseHandlingException(httpx.ConnectError("refused")), Kind.NO_PROXY),
        (ResponseHandlingException(httpx.ReadError("reset")), Kind.BROKEN),
        (ResponseHandlingException(httpx.ReadTimeout("slow")), Kind.WRONG),
        (Call(UNAVAILABLE, "127.0.0.1:1 takes no connections (failed to connect to all addresses)"), Kind.UNAVAILABLE),
        (Call(UNAVAILABLE, _JOURNAL), Kind.JOURNAL),
        (Call(UNAVAILABLE, _LISTING), Kind.UNLISTED),
        (Call(UNAVAILABLE, f"Service internal error: {MARK}"), Kind.OVERLOADED),
        (Call(UNAVAILABLE, "failed to connect to all addresses; last error"), Kind.NO_PROXY),
        (Call(UNAVAILABLE, "Socket closed"), Kind.BROKEN),
        (Call(DEADLINE, "Timeout: 127.0.0.1:1 gave no answer"), Kind.UNCLEAR),
        (Call(DEADLINE, "Deadline Exceeded"), Kind.WRONG),
        (ValueError("a bug"), Kind.WRONG),
    ],
)
def test_errors_are_sorted_by_what_they_say(error: Exception, kind: Kind) -> None:
    assert kind_of(error) is kind


def test_a_fault_of_the_secondary_may_not_show() -> None:
    right = allowed("target kill -9", mirrored=True)
    assert right == frozenset()
    assert wrong([(Kind.UNCLEAR, "504")], right) == ["outcome unknown: 504"]
    assert allowed("source kill -9", mirrored=True, primary="target") == frozenset()
    assert Kind.UNCLEAR in allowed("target kill -9", mirrored=True, primary="target")


def test_what_is_not_mirrored_is_not_journalled() -> None:
    assert allowed("owners one of 2 stopped", mirrored=True) == {
        Kind.UNLISTED,
        Kind.UNCLEAR,
        Kind.UNASKED,
        Kind.JOURNAL,
    }
    assert allowed("journal disk full", mirrored=True) == {Kind.JOURNAL}
    assert allowed("journal disk full", mirrored=False) == frozenset()


def test_a_fault_that_nobody_felt_has_missed() -> None:
    felt = [(Kind.UNCLEAR, "504")]
    for fault, told, missing in (
        ("source kill -9", [], True),
        ("source kill -9", felt, False),
        ("source slow", [], False),
        ("target kill -9", [], False),
        ("proxy stopped", [], False),
    ):
        assert missed(fault, told, allowed(fault, mirrored=True)) is missing


def test_every_fault_has_its_expectation_and_every_expectation_a_fault() -> None:
    names = {fault.name for fault in FAULTS}
    assert all(allowed(name, mirrored=True) is not None for name in names)
    assert {name for name in OF_THE_PROXY if name not in names} == set()
    assert {f"source {what}" for what in OF_THE_PRIMARY} <= names


def test_every_cell_exists_or_has_a_reason() -> None:
    there = {cell.name for cell in cells()}
    missing = {f"{fault.name} / {phase.name}" for fault in FAULTS for phase in PHASES if why_not(fault, phase)}
    assert there | missing == {f"{fault.name} / {phase.name}" for fault in FAULTS for phase in PHASES}
    assert missing <= set(impossible())
