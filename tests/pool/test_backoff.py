"""S5, the rule by itself: when a failing server may be tried again."""

from __future__ import annotations

import pytest

from support.clock import Clock
from wsgidb.pool.backoff import FIRST, LAST, Backoff


@pytest.fixture
def backoff(clock: Clock) -> Backoff:
    return Backoff(clock)


def fail(backoff: Backoff) -> bool:
    """Connect and fail; returns whether that began an outage."""
    probe = backoff.begin()
    assert probe is not None, "held back"
    return backoff.failed(probe, "refused")


def test_nothing_is_held_back_while_all_is_well(backoff: Backoff) -> None:
    """S5: as long as connects succeed any number may run at once, and none of them is a probe."""
    assert [backoff.begin() for _ in range(3)] == [False] * 3
    assert not backoff.holds()
    assert backoff.succeeded() is False, "no outage ended"
    assert backoff.cause is None


def test_failure_holds_until_the_interval_has_passed(backoff: Backoff, clock: Clock) -> None:
    """S5: after a failed connect none starts for at least half of the first interval, and one does after all of it."""
    assert fail(backoff) is True
    clock.advance(FIRST / 2 - 0.001)
    assert backoff.holds()
    assert backoff.begin() is None
    assert backoff.cause == "refused"
    clock.advance(FIRST / 2 + 0.001)
    assert not backoff.holds()
    assert backoff.begin() is True


def test_one_prober_at_a_time(backoff: Backoff, clock: Clock) -> None:
    """S5: while a probe is under way no other starts, however long it takes."""
    fail(backoff)
    clock.advance(LAST)
    assert backoff.begin() is True
    clock.advance(100 * LAST)
    assert backoff.holds()
    assert backoff.begin() is None
    assert backoff.failed(True, "timed out") is False, "the same outage"
    assert backoff.cause == "timed out"
    clock.advance(LAST)
    assert backoff.begin() is True


def test_intervals_grow_up_to_the_longest(backoff: Backoff, clock: Clock) -> None:
    """S5: each interval is up to twice the one before, never above the longest, and never below half of that."""
    longest = FIRST
    for _ in range(12):
        clock.advance(LAST)
        fail(backoff)
        clock.advance(longest / 2 - 1e-6)
        assert backoff.holds()
        clock.advance(longest / 2 + 2e-6)
        assert not backoff.holds()
        longest = min(LAST, 2 * longest)
    assert longest == LAST


def test_intervals_vary(clock: Clock) -> None:
    """S5: jitter: processes that failed together do not come back together."""
    many = [Backoff(clock) for _ in range(100)]
    for each in many:
        fail(each)
    clock.advance(FIRST * 3 / 4)
    holding = sum(each.holds() for each in many)
    assert 10 < holding < 90


def test_failures_under_way_together_count_once(backoff: Backoff, clock: Clock) -> None:
    """S5: ten connects that fail at the same time begin one outage, and do not lengthen its first interval."""
    begun = [backoff.begin() for _ in range(10)]
    assert [backoff.failed(bool(probe), "refused") for probe in begun] == [True] + [False] * 9
    clock.advance(FIRST)
    assert not backoff.holds()


def test_connect_cut_short_tells_nothing(backoff: Backoff, clock: Clock) -> None:
    """S5: a connect that its caller's deadline cut short begins no outage, and as a probe lets another one probe."""
    assert backoff.begin() is False
    backoff.cut_short(False)
    assert not backoff.holds()
    fail(backoff)
    clock.advance(LAST)
    assert backoff.begin() is True
    backoff.cut_short(True)
    assert not backoff.holds()
    assert backoff.begin() is True


def test_late_ordinary_connect_does_not_end_a_probe(backoff: Backoff, clock: Clock) -> None:
    """S5: a connect from before the outage that is cut short, or fails, during a probe lets no second prober in."""
    early = [backoff.begin(), backoff.begin()]
    fail(backoff)
    clock.advance(LAST)
    assert backoff.begin() is True
    assert early == [False, False]
    backoff.cut_short(False)
    assert backoff.begin() is None
    backoff.failed(False, "refused")
    assert backoff.begin() is None


def test_success_of_a_connect_from_before_ends_the_outage(backoff: Backoff) -> None:
    """S5: whoever gets through proves that the server is back: nobody has to wait for the interval's end."""
    early = backoff.begin()
    fail(backoff)
    assert backoff.holds()
    assert early is False
    assert backoff.succeeded() is True
    assert not backoff.holds()
    assert backoff.begin() is False


def test_straggler_after_the_outage_begins_a_new_one(backoff: Backoff, clock: Clock) -> None:
    """S5: a connect from before that fails after the server's return holds others for the first interval only."""
    assert backoff.begin() is False
    fail(backoff)
    clock.advance(FIRST)
    assert backoff.begin() is True
    assert backoff.succeeded() is True
    assert backoff.failed(False, "refused") is True
    assert backoff.holds()
    clock.advance(FIRST)
    assert backoff.begin() is True


def test_recovery_takes_a_second_at_the_most() -> None:
    """S5: what the documents promise; and a server that failed once only is tried again in no time."""
    assert LAST <= 1.0
    assert FIRST <= 0.1


def test_success_ends_the_outage(backoff: Backoff, clock: Clock) -> None:
    """S5: one success and everything may connect again; the next outage begins anew, with the first interval."""
    for _ in range(8):
        fail(backoff)
        clock.advance(LAST)
    assert backoff.begin() is True
    assert backoff.succeeded() is True
    assert backoff.cause is None
    assert [backoff.begin(), backoff.begin()] == [False, False]
    assert fail(backoff) is True
    clock.advance(FIRST)
    assert not backoff.holds()


def test_when_to_look_again(backoff: Backoff, clock: Clock) -> None:
    """S5: who waits is told when the next try is due; while one is under way, to look again in a while."""
    assert backoff.held_until() == 0
    backoff.failed(False, "x")
    due = backoff.held_until()
    assert clock() < due <= clock() + FIRST
    clock.advance(due - clock())
    assert backoff.held_until() == 0
    assert backoff.begin() is True
    assert backoff.held_until() == clock() + LAST
    backoff.succeeded()
    assert backoff.held_until() == 0
