"""Some cells of the matrix, one for each kind of fault, on engines of this module. `make faults` plays them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.engines import MilvusLite
from tests.faults.cells import cells
from tests.faults.runner import Result, run
from tests.faults.scene import Grounds
from tests.support.qdrant_engines import QdrantEmulator

CHOSEN = (
    "source kill -9 / backfill",
    "source stopped / dual-write",
    "source refused / direct",
    "source reset after sent / verify",
    "source reset after applied / dual-write",
    "source 429 / dual-write",
    "target kill -9 / backfill",
    "target stopped / dual-write",
    "target reset after applied / after cutover",
    "journal disk full / dual-write",
    "journal fsync fails / backfill",
    "proxy kill -9 at reconciliation written / dual-write",
    "proxy stopped / dual-write",
    "owners one of 3 killed / cutover",
)
BETWEEN_QDRANTS = (
    "target reset after applied (Qdrant) / dual-write",
    "proxy kill -9 at reconciliation written (Qdrant) / dual-write",
)
_CELLS = {cell.name: cell for engine in ("lite", "qdrant") for cell in cells(engine)}


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    directory = tmp_path_factory.mktemp("faults")
    with Grounds(directory, MilvusLite(directory / "target", workers=1)) as grounds:
        yield grounds


@pytest.fixture(scope="module")
def between_qdrants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    directory = tmp_path_factory.mktemp("faults")
    with Grounds(directory, QdrantEmulator(directory / "target")) as grounds:
        yield grounds


@pytest.mark.parametrize("name", CHOSEN)
def test_nothing_is_lost_and_nothing_wrong_is_told(grounds: Grounds, name: str) -> None:
    check(grounds, name)


@pytest.mark.parametrize("name", BETWEEN_QDRANTS)
def test_nor_between_two_of_one_vendor(between_qdrants: Grounds, name: str) -> None:
    check(between_qdrants, name)


def check(grounds: Grounds, name: str) -> None:
    if (cell := _CELLS.get(name)) is None:
        pytest.skip("no C compiler to build the failing disk with")
    result = Result(cell)
    run(grounds, cell, result)
    assert result.sound, result
