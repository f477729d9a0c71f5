"""What counts as lately: what is new since a few minutes ago, and nothing that is older."""

from __future__ import annotations

from dataclasses import replace

from wsgidb.observe.recent import STEP, WINDOW, History
from wsgidb.observe.total import empty
from wsgidb.pool.durations import DurationCounter
from wsgidb.pool.stats import Stats


def told(waits: int) -> Stats:
    """The statistics after this many requests."""
    counter = DurationCounter()
    for _ in range(waits):
        counter.add(0.001)
    seen = counter.snapshot()
    return replace(empty("shop"), wait_times=seen, use_times=seen, queue_times=seen)


def test_at_first_everything_is_lately() -> None:
    """Until the window is full, it begins with the process."""
    history = History(100.0)
    recent = history.recent(told(3), 100.0 + STEP / 2)
    assert (recent.seconds, recent.wait_times.count) == (STEP / 2, 3)
    recent = history.recent(told(5), 100.0 + STEP)
    assert (recent.seconds, recent.wait_times.count) == (STEP, 5)


def test_what_is_older_than_the_window_is_left_out() -> None:
    """Of waits, uses and queueing alike; the window is as long as it says, to one step."""
    history = History(0.0)
    history.recent(told(7), STEP)
    recent = history.recent(told(10), STEP + WINDOW)
    assert recent.seconds == WINDOW
    assert [each.count for each in (recent.wait_times, recent.use_times, recent.queue_times)] == [3, 3, 3]


def test_after_a_long_pause() -> None:
    """What was new before the pause is not lately any more."""
    history = History(0.0)
    history.recent(told(7), STEP)
    history.recent(told(9), 10 * WINDOW)
    recent = history.recent(told(10), 11 * WINDOW)
    assert (recent.seconds, recent.wait_times.count) == (WINDOW, 1)
