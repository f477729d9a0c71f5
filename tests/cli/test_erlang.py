"""Erlang's formulas: against published values, exact arithmetic, and a simulation."""

from __future__ import annotations

import heapq
import math
import random
from fractions import Fraction

import pytest

from wsgidb.cli.erlang import MOST, queue, smallest


@pytest.mark.parametrize(
    ("load", "use", "connections", "wait_share", "mean_wait"),
    [
        # Gross and Harris, Fundamentals of Queueing Theory: the eye clinic. 6 patients an hour, 20 minutes, 3 doctors.
        (2, 20, 3, 4 / 9, 80 / 9),
        # Hillier and Lieberman, Introduction to Operations Research: the county hospital with a second doctor. 2
        # patients an hour, 20 minutes; a patient waits 1/24 hour.
        (2 / 3, 20, 2, 1 / 6, 60 / 24),
        # The call centre in descriptions of Erlang C: 360 calls in half an hour, 240 seconds, 55 agents.
        (48, 240, 55, 0.239, 8.18),
        # One server: the share of waiting is the load.
        (0.9, 1, 1, 0.9, 9),
    ],
)
def test_textbooks(load: float, use: float, connections: int, wait_share: float, mean_wait: float) -> None:
    """Examples with the results that are printed there."""
    found = queue(load, use, connections)
    assert found.wait_share == pytest.approx(wait_share, rel=2e-3)
    assert found.mean_wait == pytest.approx(mean_wait, rel=2e-3)


@pytest.mark.parametrize(
    ("connections", "load"), [(1, 0.0101), (5, 1.36), (10, 4.46), (15, 8.108), (20, 12.03), (50, 37.90), (100, 84.06)]
)
def test_traffic_tables(connections: int, load: float) -> None:
    """The load with which one call in a hundred is lost, from tables of Erlang B. Erlang C follows from it."""
    busy = load / connections
    assert queue(load, 1, connections).wait_share == pytest.approx(0.01 / (1 - busy * 0.99), rel=5e-3)


@pytest.mark.parametrize(("load", "connections"), [(1, 2), (19, 20), (280, 300), (1990, 2000), (100, 2000)])
def test_exact_arithmetic(load: int, connections: int) -> None:
    """The formula in the form with powers and factorials, in which floating-point numbers would overflow."""
    term, before = Fraction(1), Fraction(0)
    for n in range(connections):
        before += term
        term = term * load / (n + 1)
    waiting = term * connections / (connections - load)
    found = queue(load, 1, connections)
    assert found.wait_share == pytest.approx(float(waiting / (before + waiting)), rel=1e-9)
    assert found.mean_wait == pytest.approx(float(waiting / (before + waiting)) / (connections - load), rel=1e-9)


def simulated(load: float, connections: int, requests: int) -> tuple[float, float]:
    """The share of requests that wait, and their mean wait, with a use of one second."""
    chance = random.Random(1917)
    free, now = [0.0] * connections, 0.0
    late, waited = 0, 0.0
    for _ in range(requests):
        now += chance.expovariate(load)
        begins = max(now, heapq.heappop(free))
        heapq.heappush(free, begins + chance.expovariate(1))
        late += begins > now
        waited += begins - now
    return late / requests, waited / requests


@pytest.mark.parametrize(("load", "connections"), [(1.6, 3), (8, 10), (40, 45)])
def test_a_simulation(load: float, connections: int) -> None:
    """Requests that arrive at random, in one queue for all connections."""
    share, wait = simulated(load, connections, 300_000)
    found = queue(load, 1, connections)
    assert found.wait_share == pytest.approx(share, rel=0.05)
    assert found.mean_wait == pytest.approx(wait, rel=0.1)


@pytest.mark.parametrize("load", [0.001, 0.5, 1.6, 10, 250, 5000])
def test_the_smallest(load: float) -> None:
    """It keeps the targets, and one connection less does not."""
    for wait_share, mean_wait in ((0.01, None), (None, 0.002), (0.2, 0.0001), (1e-300, None)):
        found = smallest(load, 0.1, wait_share, mean_wait)
        assert found is not None
        assert found.wait_share <= (wait_share or 1)
        assert found.mean_wait is not None
        assert found.mean_wait <= (mean_wait or math.inf)
        if found.connections > 1:
            less = queue(load, 0.1, found.connections - 1)
            assert less.wait_share > (wait_share or 1) or (less.mean_wait or math.inf) > (mean_wait or math.inf)


def test_more_than_can_be_served() -> None:
    """Waiting times grow without end if the load is as many connections as there are, or more."""
    assert (queue(3, 1, 3).wait_share, queue(3, 1, 3).mean_wait) == (1.0, None)
    assert queue(3.001, 1, 3).mean_wait is None
    assert queue(2.999, 1, 3).mean_wait is not None


def test_no_pool_is_that_large() -> None:
    """There is an end to it."""
    assert smallest(MOST, 1, 0.01, None) is None
    assert smallest(MOST - 1000, 1, 0.01, None) is not None


def test_next_to_no_load() -> None:
    """One connection is enough, also where numbers become zero."""
    found = smallest(1e-320, 1e-320, 0.01, None)
    assert found is not None
    assert (found.connections, found.mean_wait) == (1, 0)
