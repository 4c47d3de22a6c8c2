"""How far reads look: to the last own write, and strongly whenever something acknowledged may be later."""

from __future__ import annotations

from proxy.dialects.milvus.requests import STRONG, after
from proxy.stores.milvus_horizon import Horizon


def test_reads_are_strong_until_a_write_has_a_stamp() -> None:
    horizon = Horizon()
    assert horizon.guarantee == STRONG
    horizon.write_ended(horizon.write_begins(), 7)
    assert horizon.guarantee == after(7)


def test_the_latest_stamp_counts_whatever_the_order_of_answers() -> None:
    horizon = Horizon()
    first, second = horizon.write_begins(), horizon.write_begins()
    horizon.write_ended(second, 9)
    horizon.write_ended(first, 8)
    assert horizon.guarantee == after(9)


def test_a_write_without_a_stamp_makes_reads_strong() -> None:
    horizon = Horizon()
    horizon.write_ended(horizon.write_begins(), 7)
    horizon.write_ended(horizon.write_begins(), 0)
    assert horizon.is_strong
    horizon.write_ended(horizon.write_begins(), 8)
    assert horizon.guarantee == after(8)


def test_a_write_that_began_before_the_unstamped_one_ended_proves_nothing() -> None:
    horizon = Horizon()
    upsert, delete = horizon.write_begins(), horizon.write_begins()
    horizon.write_ended(delete, 0)
    horizon.write_ended(upsert, 9)
    assert horizon.is_strong
