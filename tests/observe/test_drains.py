"""Drains that are asked for on the board: each process that has connections does each of them, once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from strategies.kit import in_child, together
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database
from wsgidb.observe import drains
from wsgidb.observe.drains import FILE, KEPT, ask

BAD = '[{"id": "x", "name": null, "over": -1, "at": "noon"}]'
Make = Callable[..., Database]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "board").mkdir(mode=0o700)
    return str(tmp_path / "board")


@pytest.fixture
def make(fakedb: FakeDB, clock: Clock, directory: str) -> Iterator[Make]:
    """Makes a Database with the board, closed after the test."""
    with ExitStack() as stack:

        def make(name: str = "shop") -> Database:
            made = Database(creator=fakedb.connect, name=name, board=directory, clock=clock, max_idle=None)
            return stack.enter_context(made)

        yield make


def use(database: Database) -> int:
    with database.connection() as conn:
        number: int = conn.number
        return number


def drained(database: Database) -> int:
    return database.stats().retirements.get("drained", 0)


def test_the_next_request_does_it(make: Make, directory: str, clock: Clock) -> None:
    """Before it gets a connection. It is done once, and a second one is another one."""
    database = make()
    assert use(database) == 1
    ask(directory, None, 0)
    clock.advance(1)
    assert [use(database), use(database)] == [2, 2]
    for _ in range(3):
        clock.advance(5)
        assert use(database) == 2
    ask(directory, "other", 0)
    clock.advance(1)
    assert use(database) == 2
    ask(directory, None, 0)
    ask(directory, None, 0)
    clock.advance(1)
    assert use(database) == 3
    assert drained(database) == 2


def test_at_most_once_a_second(make: Make, directory: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of the same second make no call of the operating system for it."""
    database = make()
    looked: list[str] = []
    stat = os.stat

    def counted(path: Any, **options: Any) -> Any:
        looked.append(path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", counted)
    for _ in range(5):
        use(database)
    clock.advance(1)
    for _ in range(5):
        use(database)
    assert looked.count(os.path.join(directory, FILE)) == 2


def test_the_file_is_read_once(make: Make, directory: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is another one."""
    database = make()
    read: list[str] = []

    def reading(path: str) -> list[drains.Asked]:
        read.append(path)
        return []

    monkeypatch.setattr(drains, "_read", reading)
    for number in (1, 2):
        Path(directory, f"{FILE}.new").write_text("[]")
        os.replace(Path(directory, f"{FILE}.new"), Path(directory, FILE))
        for _ in range(3):
            clock.advance(1)
            use(database)
        assert len(read) == number


def test_a_file_in_the_place_of_one_that_was_read(
    make: Make, directory: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another one, also if it has the same inode (ext4 gives it to each second file), and was written in the same
    tick of the clock by which the system stamps files."""
    replace = os.replace

    def in_one_tick(source: str, target: str) -> None:
        if os.stat(source).st_mtime_ns > 10**18:
            os.utime(source, ns=(10**18, 10**18))
        replace(source, target)

    monkeypatch.setattr(os, "replace", in_one_tick)
    monkeypatch.setattr(drains, "time_ns", itertools.count(1).__next__)
    database = make()
    for name in ("other", "another"):
        ask(directory, name, 0)
        clock.advance(1)
        assert use(database) == 1
    for _ in range(2):
        ask(directory, None, 0)
    clock.advance(1)
    assert use(database) == 2


def test_time_counts_from_the_command(
    make: Make, directory: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without requests does it late: its connections are due by then, all at once."""
    database = make()
    database.warm(3)
    now = monotonic()
    ask(directory, None, 60)
    monkeypatch.setattr(drains, "monotonic", lambda: now + 60.5)
    clock.advance(61)
    with database.connection() as one, database.connection() as two, database.connection() as three:
        assert {one.number, two.number, three.number} == {4, 5, 6}
    assert drained(database) == 3


def test_spread(make: Make, directory: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with requests spreads it over the time that is left."""
    database = make()
    database.warm(2)
    now = monotonic()
    monkeypatch.setattr(drains, "monotonic", lambda: now)
    ask(directory, None, 60)
    for _ in range(2):
        clock.advance(30)
        with database.connection(), database.connection():
            pass
    assert 1 <= drained(database) <= 2
    clock.advance(30)
    with database.connection(), database.connection():
        assert drained(database) == 2


def test_a_health_check_does_it_too(make: Make, directory: str, clock: Clock) -> None:
    """Where no requests come."""
    database = make()
    use(database)
    ask(directory, None, 0)
    clock.advance(1)
    assert database.probe()
    assert drained(database) == 1


def test_by_name(make: Make, directory: str, clock: Clock) -> None:
    """Only the pools of that name are drained."""
    shop, other = make("shop"), make("other")
    for database in (shop, other):
        use(database)
    ask(directory, "other", 0)
    clock.advance(1)
    for database in (shop, other):
        use(database)
    assert (drained(shop), drained(other)) == (0, 1)


def test_who_begins_later(make: Make, directory: str, clock: Clock) -> None:
    """A process that begins after the command ignores it."""
    ask(directory, None, 0)
    database = make()
    clock.advance(1)
    assert use(database) == 1
    clock.advance(1)
    assert (use(database), drained(database)) == (1, 0)


def test_forked_children(make: Make, directory: str, clock: Clock) -> None:
    """A child with connections of its own does what is asked for while it lives, once, and nothing that was asked for
    before. Neither counts for its parent, which does it, too."""
    database = make()
    use(database)
    ask(directory, None, 0)

    def child() -> list[int]:
        found = [use(database)]
        clock.advance(1)
        found += [use(database), drained(database)]
        ask(directory, None, 0)
        for _ in range(2):
            clock.advance(1)
            found += [use(database), drained(database)]
        return found

    assert in_child(child) == [2, 2, 0, 3, 1, 3, 1]
    clock.advance(1)
    assert (use(database), drained(database)) == (2, 1)


def test_many_threads(make: Make, directory: str, clock: Clock) -> None:
    """One of them does it."""
    database = make()
    database.warm(4)
    ask(directory, None, 0)
    clock.advance(1)
    together([lambda: [use(database) for _ in range(50)]] * 4)
    told = [event.text for event in database.stats().events if event.kind == "drain"]
    assert told[0] == "connections to be replaced within 0 s: 4"
    assert len([text for text in told if "to be replaced" in text]) == 1


def test_the_file_stays_small(directory: str) -> None:
    """It has the latest ones."""
    for number in range(KEPT + 3):
        ask(directory, f"pool{number}", 1)
    names = [asked.name for asked in drains._read(os.path.join(directory, FILE))]
    assert names == [f"pool{number}" for number in range(3, KEPT + 3)]


def test_only_the_user_can_read_it(directory: str) -> None:
    """Like the rest of the board."""
    ask(directory, None, 1)
    assert {entry.name for entry in os.scandir(directory)} == {FILE, "lock"}
    assert {os.stat(entry.path).st_mode & 0o777 for entry in os.scandir(directory)} == {0o600}


@pytest.mark.parametrize("content", ["rubbish", "{}", '[{"id": "x"}]', "[1]", BAD, BAD.replace("-1", "1")])
def test_a_file_that_cannot_be_read(
    make: Make, directory: str, clock: Clock, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning, once, and no request notices. The next drain makes it anew."""
    database = make()
    use(database)
    Path(directory, FILE).write_text(content)
    for _ in range(3):
        clock.advance(1)
        assert use(database) == 1
    assert len([text for text in caplog.messages if "cannot be read" in text]) == (content != "{}")
    ask(directory, None, 0)
    clock.advance(1)
    assert use(database) == 2


def test_tidied_up(make: Make, directory: str, clock: Clock) -> None:
    """Where the file was removed, the next one counts."""
    database = make()
    use(database)
    ask(directory, None, 0)
    os.unlink(os.path.join(directory, FILE))
    clock.advance(1)
    assert use(database) == 1
    ask(directory, None, 0)
    clock.advance(1)
    assert use(database) == 2
