"""Some cells of the matrix, one for each kind of fault, on engines of this module. `make faults` plays them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.grpc import UpsertPoints

from examples.engines import MilvusLite
from proxy.dialects.qdrant import grpc_upserts, rest_upserts
from proxy.model import CollectionSpec, Metric, VectorSpec
from proxy.replication.hints import Hints, Keeping, left_by
from tests.faults.cells import cells
from tests.faults.load import DIM, point
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


def test_what_is_written_between_them_is_large_enough_to_go_on_as_it_came() -> None:
    size = _CELLS[BETWEEN_QDRANTS[0]].size
    written = [point(key, {"turn": 1, "kind": "fresh", **size.payload}) for key in range(size.fresh)]
    by_rest = models.PointsList(points=written).model_dump_json(exclude_unset=True).encode()
    by_grpc = UpsertPoints(collection_name="c", points=list(map(RestToGrpc.convert_point_struct, written)))
    keeping = Keeping(CollectionSpec({"": VectorSpec(DIM, Metric.COSINE)}), normalizes_cosine=False, takes_native=True)
    for upsert in (rest_upserts.unread_upsert("c", by_rest), grpc_upserts.unread_upsert(by_grpc.SerializeToString())):
        assert upsert is not None
        hints = Hints(64 * 1024 * 1024)
        hints.put(5, left_by(upsert), keeping, upsert)
        assert hints.has_whole(5)


def check(grounds: Grounds, name: str) -> None:
    if (cell := _CELLS.get(name)) is None:
        pytest.skip("no C compiler to build the failing disk with")
    result = Result(cell)
    run(grounds, cell, result)
    assert result.sound, result
