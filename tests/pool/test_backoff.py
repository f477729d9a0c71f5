"""S5: the back-off by itself, which decides when a failing server may be tried again."""

from __future__ import annotations

import pytest

from support.clock import Clock
from wsgidb.pool.backoff import FIRST, LAST, Attempt, Backoff


@pytest.fixture
def backoff(clock: Clock) -> Backoff:
    return Backoff(clock)


def begun(backoff: Backoff) -> Attempt:
    """An attempt that was granted."""
    attempt = Attempt()
    assert backoff.begin(attempt), "held back"
    return attempt


def refused(backoff: Backoff) -> bool:
    return not backoff.begin(Attempt())


def fail(backoff: Backoff) -> bool:
    """Connect and fail; returns whether that began an outage."""
    return backoff.failed(begun(backoff), "refused")


def probing(backoff: Backoff, clock: Clock) -> Attempt:
    """The probe of an outage that has lasted for some time."""
    fail(backoff)
    clock.advance(LAST)
    return begun(backoff)


def test_nothing_is_held_back_while_all_is_well(backoff: Backoff) -> None:
    """S5: as long as connects succeed any number of them may run at once."""
    attempts = [begun(backoff) for _ in range(3)]
    assert not backoff.holds()
    assert backoff.succeeded() is None, "no outage ended"
    assert backoff.cause is None
    assert len(attempts) == 3


def test_failure_holds_until_the_interval_has_passed(backoff: Backoff, clock: Clock) -> None:
    """S5: after a failed connect none starts for at least half of the first interval, and one does after all of it."""
    assert fail(backoff) is True
    clock.advance(FIRST / 2 - 0.001)
    assert backoff.holds()
    assert refused(backoff)
    assert backoff.cause == "refused"
    clock.advance(FIRST / 2 + 0.001)
    assert not backoff.holds()
    begun(backoff)


def test_one_prober_at_a_time(backoff: Backoff, clock: Clock) -> None:
    """S5: while a probe is under way no other starts, however long it takes."""
    probe = probing(backoff, clock)
    clock.advance(100 * LAST)
    assert backoff.holds()
    assert refused(backoff)
    assert backoff.failed(probe, "timed out") is False, "the same outage"
    assert backoff.cause == "timed out"
    clock.advance(LAST)
    begun(backoff)


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
    attempts = [begun(backoff) for _ in range(10)]
    assert [backoff.failed(attempt, "refused") for attempt in attempts] == [True] + [False] * 9
    clock.advance(FIRST)
    assert not backoff.holds()


def test_an_attempt_that_ends_otherwise_tells_nothing(backoff: Backoff, clock: Clock) -> None:
    """S5: a connect that its caller's deadline cut short begins no outage, and as a probe lets another one probe."""
    backoff.ended(begun(backoff))
    assert not backoff.holds()
    probe = probing(backoff, clock)
    backoff.ended(probe)
    assert not backoff.holds()
    begun(backoff)


def test_a_probe_that_is_lost_is_over(backoff: Backoff, clock: Clock) -> None:
    """S5: an attempt that was interrupted before it could tell how it ended does not hold back others for ever."""
    probe = probing(backoff, clock)
    assert backoff.holds()
    del probe
    assert not backoff.holds()
    begun(backoff)


def test_late_ordinary_connect_does_not_end_a_probe(backoff: Backoff, clock: Clock) -> None:
    """S5: a connect from before the outage that is cut short, or fails, during a probe lets no second prober in."""
    early = [begun(backoff), begun(backoff)]
    probe = probing(backoff, clock)
    backoff.ended(early[0])
    assert refused(backoff)
    backoff.failed(early[1], "refused")
    assert refused(backoff)
    backoff.ended(probe)


def test_success_of_a_connect_from_before_ends_the_outage(backoff: Backoff, clock: Clock) -> None:
    """S5: any connect that succeeds proves that the server is back, so that the back-off ends at once."""
    begun(backoff)
    fail(backoff)
    assert backoff.holds()
    assert backoff.succeeded() is not None
    assert not backoff.holds()
    begun(backoff)


def test_straggler_after_the_outage_begins_a_new_one(backoff: Backoff, clock: Clock) -> None:
    """S5: a connect from before that fails after the server's return holds others for the first interval only."""
    early = begun(backoff)
    fail(backoff)
    clock.advance(FIRST)
    begun(backoff)
    assert backoff.succeeded() is not None
    assert backoff.failed(early, "refused") is True
    assert backoff.holds()
    clock.advance(FIRST)
    begun(backoff)


def test_recovery_takes_a_second_at_the_most() -> None:
    """S5: the longest interval is one second, as the documents promise, and the first a tenth at most."""
    assert LAST <= 1.0
    assert FIRST <= 0.1


def test_success_ends_the_outage(backoff: Backoff, clock: Clock) -> None:
    """S5: one success and everything may connect again; the next outage begins anew, with the first interval."""
    for _ in range(8):
        fail(backoff)
        clock.advance(LAST)
    begun(backoff)
    assert backoff.succeeded() == (8 * LAST, 8), "the seconds that the outage lasted, and its failures"
    assert backoff.cause is None
    attempts = [begun(backoff), begun(backoff)]
    assert fail(backoff) is True
    clock.advance(FIRST)
    assert not backoff.holds()
    assert len(attempts) == 2


def test_when_to_look_again(backoff: Backoff, clock: Clock) -> None:
    """S5: waiting callers are told when the next try is due; while one is under way, to look again in a while."""
    assert backoff.held_until() == 0
    backoff.failed(Attempt(), "x")
    due = backoff.held_until()
    assert clock() < due <= clock() + FIRST
    clock.advance(due - clock())
    assert backoff.held_until() == 0
    probe = begun(backoff)
    assert backoff.held_until() == clock() + LAST
    backoff.ended(probe)
    assert backoff.held_until() == 0
