"""Several hosts: their order, their shares of the deadline, what is remembered of them, and what is asked."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest

from drivers.world import Site
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import DatabaseUnavailable
from wsgidb.drivers import memory
from wsgidb.drivers.activity import Activity


@pytest.fixture(autouse=True)
def unshortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is shortened at random."""
    monkeypatch.setattr(memory, "_shortened", lambda seconds: seconds)


def site(clock: Clock, hosts: dict[str, str], query: str = "", **options: Any) -> Site:
    return Site(clock, hosts, query, **{"strategy": "per-request", "connect_timeout": 3, **options})


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of these hosts. What other tests have left may be collected now, and be logged, too."""
    return [text.partition(": ")[2] for text in caplog.messages if text.startswith("world://")]


def test_hosts_are_tried_in_order(clock: Clock) -> None:
    """The first one serves while it works, and with `any` nothing is asked."""
    world = site(clock, {"a": "ok", "b": "ok"})
    assert [world.new() for _ in range(3)] == ["a"] * 3
    assert world.seen() == (["a"] * 3, [])


def test_failed_host_comes_last(clock: Clock) -> None:
    """One attempt finds out; the others begin with the next host, until its time is over, which grows."""
    world = site(clock, {"a": "refused", "b": "ok"})
    assert [world.new() for _ in range(3)] == ["b"] * 3
    assert world.seen() == (["a", "b", "b", "b"], [])
    for seconds in (1, 2, 4, 8, 16, 30, 30):
        clock.advance(seconds - 0.1)
        world.new()
        assert world.seen() == (["b"], [])
        clock.advance(0.1)
        world.new()
        assert world.seen() == (["a", "b"], [])
    clock.advance(30)
    world.hosts["a"] = "ok"
    assert [world.new() for _ in range(2)] == ["a", "a"]
    world.hosts["a"] = "refused"
    world.new()
    world.seen()
    clock.advance(1)
    world.new()
    assert world.seen() == (["a", "b"], []), "its failures are counted anew"


def test_frozen_host_costs_its_share_once(clock: Clock) -> None:
    """Of three hosts one that says nothing costs a third of connect_timeout, and then nothing."""
    world = site(clock, {"a": "frozen", "b": "ok", "c": "ok"})
    began = clock()
    assert world.new() == "b"
    assert clock() - began == pytest.approx(1)
    assert [world.new() for _ in range(5)] == ["b"] * 5
    assert clock() - began == pytest.approx(1)
    clock.advance(1)
    began = clock()
    assert [world.new() for _ in range(5)] == ["b"] * 5
    assert clock() - began == pytest.approx(0.5), "to find out whether it works again takes one of them half a second"


def test_failure_while_it_comes_last_does_not_count(clock: Clock) -> None:
    """A host that is tried only because all others fail, too, comes last for no longer because of that."""
    world = site(clock, {"a": "refused", "b": "ok"})
    world.new()
    world.hosts["b"] = "refused"
    for _ in range(5):
        with pytest.raises(Exception, match="refused"):
            world.database._driver.connect(clock() + 3)
    clock.advance(1)
    world.hosts.update(a="ok", b="ok")
    world.seen()
    assert world.database._driver.connect(clock() + 3).args[0] == "a"
    assert world.seen() == (["a"], [])


def test_shares_are_of_what_is_left(clock: Clock) -> None:
    """What one host did not need the others have."""
    world = site(clock, {"a": "refused", "b": "frozen", "c": "frozen"})
    began = clock()
    with pytest.raises(DatabaseUnavailable) as caught:
        world.new()
    assert clock() - began == pytest.approx(3)
    assert caught.value.text == (
        "cannot connect: NoHostError: a:1: OperationalError: refused; b:1: OperationalError: timed out; "
        "c:1: OperationalError: timed out"
    )
    assert world.seen() == (["a", "b", "c"], [])


def test_one_connection_tries_a_failed_host_again(clock: Clock) -> None:
    """While one finds out whether a frozen host works again, the others do not wait for it, too."""
    world = site(clock, {"a": "frozen", "b": "ok"})
    world.new()
    clock.advance(1)
    seen: list[str] = []
    driver = world.database._driver
    driver.hosts = {"a": "frozen", "b": "ok"}  # type: ignore[attr-defined]
    opened = driver._open  # type: ignore[attr-defined]

    def slow(arguments: dict[str, Any], deadline: float) -> Any:
        if arguments["host"] == "a" and not seen:
            seen.append(world.new())  # what another thread gets meanwhile
        return opened(arguments, deadline)

    driver._open = slow  # type: ignore[attr-defined]
    world.seen()
    world.new()
    assert seen == ["b"]
    assert world.seen() == (["b", "a", "b"], [])


def test_deadline_that_is_too_short_blames_no_host(clock: Clock) -> None:
    """A time-out within less than a fair share says nothing about a host."""
    world = site(clock, {"a": "frozen", "b": "ok"})
    driver = world.database._driver
    for _ in range(2):
        driver.connect(clock() + 1)
    assert world.seen() == (["a", "b"] * 2, [])
    for _ in range(2):
        driver.connect(clock() + 3)
    assert world.seen() == (["a", "b", "b"], [])
    world.hosts["b"] = "refused"
    with pytest.raises(Exception, match="timed out"):
        driver.connect(clock() + 3)
    world.hosts["a"] = "ok"
    driver.connect(clock() + 3)
    assert world.seen() == (["b", "a", "a"], []), "both failed, and the failure of a is the older one"


def test_back_off_begins_when_all_have_failed(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Until then a failed host is no failed connect; then no host is tried before the interval is over."""
    world = site(clock, {"a": "refused", "b": "ok"})
    world.new()
    assert world.database.stats().connect_failures == 0
    world.hosts["b"] = "refused"
    with pytest.raises(DatabaseUnavailable, match=r"^cannot connect: NoHostError: a:1: .*; b:1: "):
        world.new()
    world.seen()
    with pytest.raises(DatabaseUnavailable, match=r"^not connecting again yet"):
        world.new()
    assert world.seen() == ([], [])
    assert world.database.stats().connect_failures == 1
    clock.advance(0.05)
    world.hosts["b"] = "ok"
    assert world.new() == "b"
    assert "cannot connect" in caplog.text
    assert "connected again" in caplog.text


def test_log_names_the_host_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """One WARNING when a host begins to fail, one when it works again, and one when another host is used."""
    caplog.set_level(logging.WARNING, "wsgidb")
    world = site(clock, {"a": "ok", "b": "ok"})
    world.new()
    world.hosts["a"] = "refused"
    for _ in range(5):
        world.new()
        clock.advance(1)
    world.hosts["a"] = "ok"
    clock.advance(30)
    world.new()
    assert told(caplog) == [
        "host a:1 fails: OperationalError: refused",
        "connecting to host b:1 now, no longer to a:1",
        "host a:1 works again, after 35.0 s",
        "connecting to host a:1 now, no longer to b:1",
    ]


def test_log_names_the_host_of_a_connection(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """If there are several, the lines about a connection that is opened or discarded end with its host."""
    caplog.set_level(logging.DEBUG, "wsgidb")
    for hosts, ending in (({"a": "ok", "b": "ok"}, " (host a:1)"), ({"a": "ok"}, "")):
        world = site(clock, hosts, strategy="pooled")
        with world.database.connection() as conn:
            conn.close()
        world.database._engine.classify(Activity(), FakeDB.OperationalError("not ready"))
        world.hosts["a"] = "not ready"
        with suppress(DatabaseUnavailable):
            world.new()
        opened, discarded, *_ = (text for text in caplog.messages if "opened in" in text or "discarded" in text)
        assert opened.endswith(f" connection opened in 0.000 s{ending}")
        assert discarded.endswith(f" connection discarded: no longer fit: OperationalError: not ready{ending}")
        caplog.clear()


def test_log_names_another_cause(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A host that comes back as a standby is not what it was, but does not work either."""
    world = site(clock, {"a": "refused", "b": "ok"}, "?target_session_attrs=read-write")
    world.new()
    clock.advance(1)
    world.hosts["a"] = "standby"
    world.new()
    assert told(caplog) == [
        "host a:1 fails: OperationalError: refused",
        "host a:1 fails: UnfitServerError: the server is read-only (target_session_attrs=read-write)",
    ]


FIT = {
    "any": {"ok", "read-only", "standby"},
    "read-write": {"ok"},
    "read-only": {"read-only", "standby"},
    "primary": {"ok", "read-only"},
    "standby": {"standby"},
}


@pytest.mark.parametrize("target", FIT)
@pytest.mark.parametrize("kind", ["ok", "read-only", "standby", "not ready"])
def test_what_is_asked_for(clock: Clock, target: str, kind: str) -> None:
    """target_session_attrs: of a single host, a server that is not fit is a failed connect; `any` asks nothing."""
    world = site(clock, {"a": kind}, f"?target_session_attrs={target}")
    if kind in FIT[target] or target == "any":
        assert world.new() == "a"
    else:
        expected = "OperationalError: not ready" if kind == "not ready" else "UnfitServerError: a:1: the server is "
        with pytest.raises(DatabaseUnavailable, match=f"^cannot connect: {expected}"):
            world.new()
        assert world.db.open_now == 0
    assert world.seen() == (["a"], [] if target == "any" else ["a"])


@pytest.mark.parametrize("target", ["read-write", "primary"])
def test_next_host_where_one_is_not_fit(clock: Clock, target: str) -> None:
    """The standby is asked once; then it comes last, and what was opened to it is closed."""
    world = site(clock, {"a": "standby", "b": "not ready", "c": "ok"}, f"?target_session_attrs={target}")
    assert [world.new() for _ in range(3)] == ["c"] * 3
    assert world.seen() == (["a", "b", "c", "c", "c"], ["a", "b", "c", "c", "c"])
    assert world.db.open_now == 0


def test_no_host_is_fit(clock: Clock) -> None:
    """The error names each host and why."""
    world = site(clock, {"a": "standby", "b": "not ready"}, "?target_session_attrs=read-write")
    with pytest.raises(DatabaseUnavailable) as caught:
        world.new()
    assert caught.value.text == (
        "cannot connect: NoHostError: a:1: UnfitServerError: the server is read-only "
        "(target_session_attrs=read-write); b:1: OperationalError: not ready"
    )
    assert world.db.open_now == 0


def test_prefer_standby(clock: Clock) -> None:
    """First a standby of all hosts, then any server; the primary is not asked again while a standby is there."""
    world = site(clock, {"a": "ok", "b": "standby"}, "?target_session_attrs=prefer-standby")
    assert [world.new() for _ in range(2)] == ["b", "b"]
    assert world.seen() == (["a", "b", "b"], ["a", "b", "b"])
    world.hosts["b"] = "frozen"
    began = clock()
    assert [world.new() for _ in range(3)] == ["a"] * 3
    assert clock() - began == pytest.approx(1.5), "a standby that failed lately is not waited for again"
    assert world.db.open_now == 0
    world.hosts["b"] = "standby"
    clock.advance(30)
    world.seen()
    assert world.new() == "b"
    assert world.db.open_now == 0


def test_prefer_standby_that_is_frozen(clock: Clock) -> None:
    """Where a primary was found, a standby is waited for no longer than for its share of all the time."""
    world = site(clock, {"a": "ok", "b": "frozen"}, "?target_session_attrs=prefer-standby")
    began = clock()
    assert world.new() == "a"
    assert clock() - began == pytest.approx(1.5)


def test_prefer_standby_without_one(clock: Clock) -> None:
    """All are asked, one is kept, and no host counts as failed."""
    world = site(clock, {"a": "ok", "b": "ok"}, "?target_session_attrs=prefer-standby")
    with world.database.connection() as conn:
        assert conn.args[0] == "a"
        assert world.db.open_now == 1
    assert world.seen() == (["a", "b"], ["a", "b"])


def test_prefer_standby_of_one_host(clock: Clock) -> None:
    """It is the same as any: nothing is asked."""
    world = site(clock, {"a": "ok"}, "?target_session_attrs=prefer-standby")
    assert world.new() == "a"
    assert world.seen() == (["a"], [])


def test_random_order(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """load_balance_hosts=random: each of the hosts is used; one that failed lately comes last all the same."""
    world = site(clock, {"a": "ok", "b": "ok", "c": "refused"}, "?load_balance_hosts=random")
    assert {world.new() for _ in range(50)} == {"a", "b"}
    attempts, _ = world.seen()
    assert attempts.count("c") == 1
    assert told(caplog) == ["host c:1 fails: OperationalError: refused"]


def test_interrupted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no Exception ends the attempt at once, and leaves nothing open."""
    world = site(clock, {"a": "ok", "b": "ok"}, "?target_session_attrs=prefer-standby")
    driver: Any = world.database._driver
    opened = driver._open

    def interrupted(arguments: dict[str, Any], deadline: float) -> Any:
        if arguments["host"] == "b":
            raise KeyboardInterrupt
        return opened(arguments, deadline)

    monkeypatch.setattr(driver, "_open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        driver.connect(clock() + 3)
    assert world.db.open_now == 0


def test_hosts_of_connect_args(clock: Clock) -> None:
    """A callable of connect_args may name other hosts for each connection, and choose among them."""
    given: dict[str, Any] = {}
    world = site(clock, {"a": "ok", "b": "standby"}, connect_args=lambda: given)
    assert world.new() == "a"
    given.update(host="b,a", target_session_attrs="read-write")
    assert world.new() == "a"
    assert world.seen() == (["a", "b", "a"], ["b", "a"])
