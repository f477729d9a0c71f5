"""Durations are counted in buckets that add up, and from which quantiles and true sums can be told."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgidb.pool.durations import BOUNDS, BUCKETS, DurationCounter, Durations

SECONDS = st.lists(st.floats(0, 2000, allow_nan=False), max_size=50)


def counted(seconds: list[float]) -> Durations:
    counter = DurationCounter()
    for each in seconds:
        counter.add(each)
    return counter.snapshot()


def test_bounds() -> None:
    """They grow by about a quarter each, and hold those that metrics are exported with."""
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert len(BOUNDS) + 1 == BUCKETS
    assert {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10} <= set(BOUNDS)
    assert all(1.2 < high / low < 1.31 for low, high in pairwise(BOUNDS))


@given(SECONDS)
def test_no_duration_is_lost(seconds: list[float]) -> None:
    """Each is counted once, and in the right bucket."""
    found = counted(seconds)
    assert found.count == len(seconds)
    for bound in (0.001, 1.0, 10.0):
        assert found.at_most(bound) == sum(each <= bound for each in seconds)


@given(SECONDS)
def test_values_have_the_true_sum(seconds: list[float]) -> None:
    """What a histogram of single values is given has the true count and sum, and each value is in its bucket."""
    found = counted(seconds)
    values = list(found.values())
    assert sum(count for _, count in values) == len(seconds)
    assert sum(value * count for value, count in values) == pytest.approx(sum(seconds), rel=1e-6, abs=1e-9)
    again = DurationCounter()
    for value, count in values:
        for _ in range(count):
            again.add(min(value * (1 + 1e-12), max([0.0, *seconds])))
    assert sum(again.counts) == len(seconds)


@given(SECONDS, SECONDS)
def test_adding_and_subtracting(first: list[float], second: list[float]) -> None:
    """Snapshots of two connections or processes add up; the difference of two snapshots is what came in between."""
    both = counted(first) + counted(second)
    assert both.counts == counted([*first, *second]).counts
    assert (both - counted(first)).counts == counted(second).counts


def test_a_difference_is_never_negative() -> None:
    """A snapshot may miss what happens at the same moment, so that a later one can have less."""
    assert counted([1]) - counted([1, 2]) == Durations()


def test_quantiles() -> None:
    """The upper bound of the bucket in which the share is reached."""
    found = counted([0.001] * 90 + [0.5] * 9 + [3000])
    assert [found.quantile(share) for share in (0.5, 0.9, 0.95, 0.99, 1)] == [0.001, 0.001, 0.5, 0.5, 1000]
    assert Durations().quantile(0.5) is None
