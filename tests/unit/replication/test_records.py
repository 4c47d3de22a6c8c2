"""Every record comes back from its bytes as it went in."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import Outcome
from proxy.model import PointId, Side
from proxy.replication import records as r

IDS = st.lists(st.integers(0, 2**64 - 1) | st.uuids() | st.text(max_size=20), max_size=5).map(tuple)


@given(IDS)
def test_ids_keep_their_type(ids: tuple[PointId, ...]) -> None:
    record = r.BeginWrite(route="docs", collection="c", owner="A", ids=ids, primary=Side.SOURCE)
    back = r.decode(r.encode(record))
    assert back == record
    assert [type(point_id) for point_id in back.ids] == [type(point_id) for point_id in ids]


@pytest.mark.parametrize(
    "record",
    [
        r.EndWrite(route="d", collection="c", begin=3, outcome=Outcome.UNKNOWN, hold_seconds=2.5),
        r.EndReconcile(route="d", collection="c", begin=3, dirty=(1,), parked=((UUID(int=5), r.Parking("big", 9)),)),
        r.EndPage(route="d", collection="c", begin=3, ids=("7", 7), next=UUID(int=1), done=False, unclear=(7,)),
        r.EndPage(route="d", collection="c", begin=3, ids=(), next=None, done=True),
        r.EndScope(route="d", collection="c", begin=3, outcome=Outcome.ACCEPTED, sweep="why"),
        r.SetWeight(route="d", weight=None, wish=5),
        r.SaveJob(route="d", job="j", state={"done": 3, "checkpoint": {"swept": ["c"]}}),
        r.SetPhase(route="d", phase="dual-write", hold_seconds=60.0),
    ],
    ids=lambda record: type(record).__name__,
)
def test_other_records_come_back(record: r.AnyRecord) -> None:
    assert r.decode(r.encode(record)) == record


def test_their_form_stays_what_it_is() -> None:
    """Journals that are on disks by now are read for ever."""
    key = UUID(int=5)
    end = r.EndPage(
        route="d",
        collection="c",
        begin=3,
        ids=(7, "7", key),
        next=key,
        done=False,
        parked=((key, r.Parking("big", 9)), (7, r.Parking("odd", 1))),
    )
    assert msgspec.msgpack.decode(r.encode(end)) == [
        "p",
        {
            "route": "d",
            "collection": "c",
            "begin": 3,
            "ids": [7, "7", key.bytes],
            "next": key.bytes,
            "done": False,
            "dirty": [],
            "unclear": [],
            "parked": [[key.bytes, "big", 9], [7, "odd", 1]],
            "hold_seconds": 0.0,
        },
    ]
    scope = r.EndScope(route="d", collection="c", begin=3, outcome=Outcome.ACCEPTED)
    assert msgspec.msgpack.decode(r.encode(scope))[1]["outcome"] == "accepted"
    begin = r.BeginWrite(route="d", collection="c", owner="A", ids=(1,), primary=Side.SOURCE)
    assert msgspec.msgpack.decode(r.encode(begin)) == [
        "W",
        {"route": "d", "collection": "c", "owner": "A", "ids": [1], "primary": "source"},
    ]


def test_a_record_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="newer version"):
        r.decode(msgspec.msgpack.encode(["??", {}]))
