"""Calls grow while the database is quick, and shrink when it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.supabase.batches import HOLDS_S, BatchSize


def test_calls_follow_the_database() -> None:
    size = BatchSize(100, 500)
    sizes = []
    for _ in range(4):
        size.took(size.now, held_s=0.01)
        sizes.append(size.now)
    assert sizes == [200, 400, 500, 500]
    size.took(500, held_s=2 * HOLDS_S)
    assert size.now == 250
    size.took(250, held_s=60.0)
    assert size.now == 100


@given(st.lists(st.tuples(st.integers(-1, 10_000), st.floats(-1, 1000))))
def test_it_stays_within_its_bounds(calls: list[tuple[int, float]]) -> None:
    size = BatchSize(20, 100)
    for count, held_s in calls:
        size.took(count, held_s)
        assert 20 <= size.now <= 100
