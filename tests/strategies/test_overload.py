"""S9: at overload the goodput holds, and what cannot be served in time is refused at once. The rules by themselves."""

from __future__ import annotations

import itertools
from math import inf

import pytest

from support.queueing import Simulation, poisson
from wsgidb.strategies.overload import DOUBT, SERVED, Overload

TARGET, INTERVAL = 0.1, 5.0
SIZE = 8


def law(target: float | None = TARGET) -> Overload:
    return Overload(target, INTERVAL)


def hand(rules: Overload, times: int, waited: float, start: float, seconds: float) -> list[bool]:
    """Hand over so many connections, evenly within these seconds, both ends included."""
    step = seconds / (times - 1)
    return [rules.handed(waited, start + number * step, SIZE) for number in range(times)]


@pytest.fixture
def overloaded() -> Overload:
    """The rules in an overload that began at 105."""
    rules = law()
    hand(rules, SERVED, 0.2, 100.0, INTERVAL)
    assert rules.shedding
    return rules


class TestBeginning:
    def test_a_whole_interval(self) -> None:
        """The caller that completes the interval begins the overload, and no other."""
        rules = law()
        said = hand(rules, SERVED, 0.2, 100.0, INTERVAL)
        assert (said.count(True), said[-1], rules.shedding, rules.began) == (1, True, True, 105.0)
        assert not rules.handed(0.2, 106.0, SIZE)

    @pytest.mark.parametrize(
        ("times", "waited", "seconds"),
        [(SERVED, 0.2, INTERVAL - 0.001), (SERVED - 1, 0.2, 3600.0), (10 * SERVED, TARGET, 3600.0)],
        ids=["shorter", "fewer", "not longer than the target"],
    )
    def test_less(self, times: int, waited: float, seconds: float) -> None:
        """A burst that is shorter than the interval, a pool that is merely slow, and waits that are short."""
        rules = law()
        assert not any(hand(rules, times, waited, 100.0, seconds))
        assert not rules.shedding

    @pytest.mark.parametrize("empty", [False, True], ids=["a short wait", "an empty queue"])
    def test_anew(self, empty: bool) -> None:
        """One caller that waited no longer than the target, or came to an empty queue, and the interval begins anew."""
        rules = law()
        hand(rules, SERVED, 0.2, 100.0, INTERVAL - 0.001)
        if empty:
            rules.was_empty()
        else:
            rules.handed(TARGET, 104.9995, SIZE)
        assert not any(hand(rules, SERVED, 0.2, 105.0, INTERVAL - 0.001))
        assert rules.handed(0.2, 110.0, SIZE)

    def test_off(self) -> None:
        """Without a target it never begins."""
        assert not any(hand(law(None), 10 * SERVED, 1e6, 100.0, 1e6))


class TestOverload:
    @pytest.mark.parametrize(("connections", "places"), [(1, 1), (2, 1), (3, 2), (8, 4), (9, 5)])
    def test_places(self, overloaded: Overload, connections: int, places: int) -> None:
        """Half as many callers wait as there are connections, and at least one."""
        refused = [overloaded.refuses(waiting, 106.0, connections) for waiting in range(12)]
        assert refused == [False] * places + [True] * (12 - places)

    @pytest.mark.parametrize(("connections", "times"), [(1, DOUBT), (5, DOUBT), (6, 24), (100, 400)])
    def test_end(self, connections: int, times: int) -> None:
        """It ends once so many connections have come back for which nobody waited."""
        rules = law()
        for number in range(SERVED):
            rules.handed(0.2, 100.0 + number, connections)
        for _ in range(times - 1):
            rules.unawaited()
        assert rules.shedding
        rules.unawaited()
        assert not rules.shedding

    def test_refusals_outweigh_unawaited_connections(self, overloaded: Overload) -> None:
        """It lasts while as many callers are refused as connections come back unawaited, for however long."""
        for number in range(1000):
            overloaded.unawaited()
            assert overloaded.refuses(SIZE, 105.0 + number / 1000, SIZE)
        assert overloaded.shedding

    def test_refusals_are_not_saved_up(self, overloaded: Overload) -> None:
        """However many were refused, it ends as soon as after the first one."""
        assert all(overloaded.refuses(SIZE, 105.0, SIZE) for _ in range(1000))
        for _ in range(4 * SIZE):
            overloaded.unawaited()
        assert not overloaded.shedding

    def test_a_caller_who_waits_is_no_refusal(self, overloaded: Overload) -> None:
        """Only refusals keep it going."""
        for _ in range(4 * SIZE):
            overloaded.unawaited()
            overloaded.refuses(0, 105.0, SIZE)
        assert not overloaded.shedding

    def test_end_unseen(self, overloaded: Overload) -> None:
        """If no connection was handed over for an interval, nothing is known any more, and nobody is refused."""
        overloaded.handed(0.01, 106.0, SIZE)
        assert overloaded.refuses(SIZE, 110.999, SIZE)
        assert not overloaded.refuses(SIZE, 111.0, SIZE)
        assert not overloaded.shedding

    def test_the_next_one_needs_an_interval_again(self, overloaded: Overload) -> None:
        """The end leaves nothing behind."""
        for _ in range(4 * SIZE):
            overloaded.unawaited()
        assert not any(hand(overloaded, SERVED, 0.2, 106.0, INTERVAL - 0.001))
        assert overloaded.handed(0.2, 111.0, SIZE)


class TestSimulated:
    """The rules with the default options, and requests that arrive at random. Held connections and pauses between
    requests vary at random, too (exponentially), which is worse than what is usual."""

    @pytest.mark.parametrize("size", [1, 2, 10])
    @pytest.mark.parametrize("hold", [0.01, 0.1, 1.0])
    @pytest.mark.parametrize("load", [0.5, 0.8])
    def test_normal_load_loses_nobody(self, size: int, hold: float, load: float) -> None:
        """Exactly those are served that would be without an overload's rules, at the same times."""
        arrivals = list(poisson(load * size / hold, 20_000 * hold / size / load))
        with_rules = Simulation(law(), size, hold).run(arrivals)
        assert with_rules == Simulation(law(None), size, hold).run(arrivals)
        assert with_rules.refused == []

    @pytest.mark.parametrize("burst", [50, 190])
    def test_bursts_lose_nobody(self, burst: int) -> None:
        """Bursts that are served within the interval, again and again, on top of a normal load."""
        steady = poisson(40.0, 600.0)
        bursts = (float(at) for at in range(10, 600, 20) for _ in range(burst))
        outcome = Simulation(law(), SIZE, 0.1, timeout=10).run(sorted(itertools.chain(steady, bursts)))
        assert (outcome.refused, outcome.timed_out) == ([], [])

    @pytest.mark.parametrize("size", [4, 8, 10, 20])
    @pytest.mark.parametrize("load", [2, 10])
    @pytest.mark.parametrize("seed", [0, 2], ids=["held equally long", "held at random"])
    @pytest.mark.parametrize("threads", [8, inf], ids=["few threads", "many threads"])
    def test_overload(self, size: int, load: int, seed: int, threads: float) -> None:
        """Goodput is at least 95 % of what the connections can do, the p99 of those that are served at most twice that
        of an unloaded pool, and refusals come at once. There are eight threads for each connection, or any number."""
        hold = 0.2
        arrivals = poisson(load * size / hold, 130.0)
        outcome = Simulation(law(), size, hold, threads=threads * size, seed=seed).run(arrivals).between(30, 130)
        unloaded = Simulation(law(), size, hold, seed=seed).run(poisson(0.1 * size / hold, 500.0))
        assert len(outcome.served) >= 0.95 * 100 * size / hold
        assert outcome.percentile(0.99) <= 2 * unloaded.percentile(0.99)
        assert all(seconds == 0 for _, seconds in outcome.refused)

    @pytest.mark.parametrize("after", [0.5, 0.8])
    def test_recovery(self, after: float) -> None:
        """Once the load is normal again, nobody is refused from a second later on."""
        arrivals = itertools.chain(poisson(160, 60), poisson(after * 80, 600, start=60))
        outcome = Simulation(law(), SIZE, 0.1).run(arrivals)
        assert outcome.between(30, 60).refused
        assert outcome.between(61, 660).refused == []
