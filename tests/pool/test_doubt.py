"""One error that means "read-only" or "not ready" speaks for all connections: each is asked once, none is flushed."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import pytest

from drivers.world import Site
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import DatabaseUnavailable
from wsgidb.drivers.activity import Activity

SIGN = "server read-only or not ready"


def filled(clock: Clock, hosts: dict[str, str], query: str = "", size: int = 4, **options: Any) -> Site:
    """So many idle connections, which were used just now."""
    site = Site(clock, hosts, query, **{"strategy": "pooled", "pool_size": size, **options})
    lease_all(site, size)
    site.seen()
    return site


def lease_all(site: Site, connections: int = 4) -> list[str]:
    """Lease so many connections at once, and tell their hosts."""
    with ExitStack() as stack:
        leases: list[Any] = [stack.enter_context(site.database.connection()) for _ in range(connections)]
        return [lease.args[0] for lease in leases]


def fail(site: Site, text: str = "read-only") -> None:
    """A request whose statement fails so."""
    site.db.fail("execute", FakeDB.OperationalError(text))
    with suppress(FakeDB.OperationalError), site.database.connection() as conn:
        conn.cursor().execute("INSERT")


def test_each_is_asked_once_and_fit_ones_stay(clock: Clock) -> None:
    """Ask, don't flush: of four connections three are as good as before, though they are trusted without a ping."""
    site = filled(clock, {"a": "ok"})
    fail(site)
    assert lease_all(site) == ["a"] * 4
    assert site.seen() == (["a"], ["a"] * 4), "three, and the new one in place of the one that failed"
    lease_all(site)
    assert site.seen() == ([], [])
    stats = site.database.stats()
    assert (stats.discards, stats.pings, stats.connects) == ({SIGN: 1}, 3, 5)


def test_others_are_left_when_their_server_is_read_only(clock: Clock) -> None:
    """The address leads to another server now: one write has failed, and no other does."""
    where = {"host": "a"}
    site = filled(clock, {"a": "ok", "b": "ok"}, connect_args=lambda: where)
    site.hosts["a"] = "read-only"
    where["host"] = "b"
    fail(site)
    assert lease_all(site) == ["b"] * 4
    assert site.seen() == (["b"] * 4, ["a", "b", "a", "a"]), "what is found once need not be asked again"
    assert site.database.stats().discards == {SIGN: 1, "no longer fit": 3}


def test_no_other_server_takes_writes(clock: Clock) -> None:
    """Where connecting again leads to a server that is read-only, too, all others are kept, for those who read."""
    site = filled(clock, {"a": "ok"})
    site.hosts["a"] = "read-only"
    fail(site)
    lease_all(site)
    attempts, asked = site.seen()
    assert len(attempts) == 2, "one in place of the one that failed, and one that was tried"
    lease_all(site)
    assert site.seen() == ([], [])
    assert site.database.stats().discards == {SIGN: 1, "no longer fit": 1}
    assert asked.count("a") == 4


def test_not_ready_is_no_connection_for_anybody(clock: Clock) -> None:
    """A server that is not ready for any statement is left, and connecting to it fails until it is."""
    site = filled(clock, {"a": "ok"})
    site.hosts["a"] = "not ready"
    fail(site, "not ready")
    with pytest.raises(DatabaseUnavailable, match=r"last failure to connect: OperationalError: not ready [(]"):
        lease_all(site, 1)
    assert site.database.stats().discards == {SIGN: 1, "no longer fit": 3}
    assert (len(site.attempts), site.db.open_now) == (1, 0)
    site.hosts["a"] = "ok"
    clock.advance(0.05)
    site.seen()
    assert lease_all(site) == ["a"] * 4
    assert site.seen() == (["a"] * 4, ["a"]), "the first one proves it"


def test_answer_of_one_connection_is_no_new_sign(clock: Clock) -> None:
    """A server that is asked and is not ready says so by the same error; the others are asked once all the same."""
    where = {"host": "b"}
    site = Site(clock, {"a": "ok", "b": "ok"}, strategy="pooled", pool_size=4, connect_args=lambda: where)
    with ExitStack() as stack:
        for host in ("b", "a", "b", "a"):
            where["host"] = host
            stack.enter_context(site.database.connection())
    site.hosts["a"], where["host"] = "not ready", "b"
    site.database._engine.classify(Activity(), FakeDB.OperationalError("not ready"))
    site.seen()
    assert lease_all(site) == ["b"] * 4
    _, asked = site.seen()
    assert asked.count("a") == 2
    lease_all(site)
    assert site.seen() == ([], [])
    assert site.database.stats().errors == 0


def test_two_signs_at_once(clock: Clock) -> None:
    """One says read-only, and the next one not ready, before anything could be asked: writes are in doubt, too."""
    where = {"host": "a"}
    site = filled(clock, {"a": "ok", "b": "ok"}, connect_args=lambda: where)
    site.hosts["a"], where["host"] = "read-only", "b"
    for text in ("read-only", "not ready"):
        site.database._engine.classify(Activity(), FakeDB.OperationalError(text))
    assert lease_all(site) == ["b"] * 4


def test_several_writes_under_way(clock: Clock) -> None:
    """Each of them fails, and the first one speaks for all: what was opened since is not asked again."""
    where = {"host": "a"}
    site = filled(clock, {"a": "ok", "b": "ok"}, connect_args=lambda: where)
    with ExitStack() as stack:
        leases: list[Any] = [stack.enter_context(site.database.connection()) for _ in range(3)]
        site.hosts["a"], where["host"] = "read-only", "b"
        fail(site)
        assert lease_all(site, 1) == ["b"]
        for lease in leases:
            site.db.fail("execute", FakeDB.OperationalError("read-only"))
            with suppress(FakeDB.OperationalError):
                lease.cursor().execute("INSERT")
    assert site.seen() == (["b"], ["b"])
    assert lease_all(site) == ["b"] * 4
    assert site.seen() == (["b"] * 3, [])
    assert site.database.stats().discards == {SIGN: 4}


def test_hosts_of_which_another_takes_writes(clock: Clock) -> None:
    """target_session_attrs=read-write: the former primary is asked by each connection, and tried once."""
    site = filled(clock, {"a": "ok", "b": "standby"}, "?target_session_attrs=read-write")
    site.hosts.update(a="standby", b="ok")
    fail(site)
    assert lease_all(site) == ["b"] * 4
    attempts, asked = site.seen()
    assert attempts == ["a", "b", "b", "b", "b"]
    assert asked.count("a") == 4
    assert site.database.stats().discards == {SIGN: 1, "no longer fit": 3}


def test_hosts_without_an_attribute(clock: Clock) -> None:
    """With `any`, writes are what counts from the first write that was refused on."""
    site = filled(clock, {"a": "ok", "b": "ok"})
    site.hosts["a"] = "read-only"
    fail(site)
    assert lease_all(site) == ["b"] * 4


@pytest.mark.parametrize("target", ["standby", "read-only", "prefer-standby"])
def test_refused_write_on_a_standby_is_no_sign(clock: Clock, target: str) -> None:
    """Where a standby is asked for, a refused write is the application's mistake, and its connection is kept."""
    site = filled(clock, {"a": "standby", "b": "standby"}, f"?target_session_attrs={target}")
    fail(site)
    lease_all(site)
    assert site.seen() == ([], [])
    assert site.database.stats().discards == {}
    fail(site, "not ready")
    lease_all(site)
    assert site.database.stats().discards == {SIGN: 1}
    assert len(site.seen()[1]) == 4


def test_promoted_standby_is_left_once_it_is_asked(clock: Clock) -> None:
    """target_session_attrs=standby: what was promoted is no standby any more."""
    site = filled(clock, {"a": "standby", "b": "standby"}, "?target_session_attrs=standby")
    site.hosts["a"] = "ok"
    fail(site, "not ready")
    assert lease_all(site) == ["b"] * 4


def test_switched_off(clock: Clock) -> None:
    """discard_read_only=false: nothing is asked."""
    site = filled(clock, {"a": "read-only"}, discard_read_only=False)
    fail(site)
    lease_all(site)
    assert site.seen() == ([], [])


def test_leased_connections_are_asked_later(clock: Clock) -> None:
    """A connection that is in use at that moment is asked when it is acquired next."""
    site = filled(clock, {"a": "ok"}, size=2)
    with site.database.connection():
        fail(site)
    assert site.seen() == ([], [])
    lease_all(site, 2)
    assert len(site.seen()[1]) == 2


def test_connection_that_is_being_opened(clock: Clock) -> None:
    """It began before that moment, so that it is asked when it is acquired next."""
    site = filled(clock, {"a": "ok"}, size=2, max_idle=5)
    driver: Any = site.database._driver
    opened = driver._open

    def slow(arguments: dict[str, Any], deadline: float) -> Any:
        conn = opened(arguments, deadline)
        clock.advance(1)
        del driver._open
        with site.database.connection():
            fail_here(site)
        return conn

    def fail_here(site: Site) -> None:
        site.database._engine.classify(Activity(), FakeDB.OperationalError("read-only"))

    clock.advance(10)
    driver._open = slow
    lease_all(site, 1)
    site.seen()
    lease_all(site, 2)
    assert len(site.seen()[1]) == 2


def test_a_later_sign_is_asked_about_again(clock: Clock) -> None:
    """Each error marks a moment of its own."""
    site = filled(clock, {"a": "ok"}, size=2)
    for _ in range(3):
        fail(site)
        lease_all(site, 2)
        assert site.seen() == (["a"], ["a"] * 2)
        clock.advance(0.5)


def test_no_answer(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that does not answer the question is as dead as one that does not answer a ping."""
    site = filled(clock, {"a": "ok"}, size=3)
    driver: Any = site.database._driver

    def silent(conn: Any, deadline: float, new: bool) -> Any:
        clock.advance(deadline - clock())
        raise FakeDB.OperationalError("timed out")

    fail(site)
    monkeypatch.setattr(driver, "_look", silent)
    began = clock()
    with suppress(Exception):
        lease_all(site, 1)
    assert clock() - began >= 2
    stats = site.database.stats()
    assert stats.discards == {SIGN: 1, "ping failed": 1}
    assert stats.pings_failed == 1


@pytest.mark.parametrize("strategy", ["thread-local", "sqlalchemy", "dbutils-pooled", "dbutils-persistent"])
def test_every_strategy(clock: Clock, strategy: str) -> None:
    """The connection is asked, whatever keeps it."""
    site = filled(clock, {"a": "ok"}, size=1, strategy=strategy)
    site.database._engine.classify(Activity(), FakeDB.OperationalError("read-only"))
    lease_all(site, 1)
    assert site.seen() == ([], ["a"])
    lease_all(site, 1)
    assert site.seen() == ([], [])
