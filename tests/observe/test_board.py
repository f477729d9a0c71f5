"""The board: every process of a server can read the statistics of all, also after some have crashed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import limited
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, PoolTimeout
from wsgidb.observe import board
from wsgidb.observe.rows import decode, encode
from wsgidb.pool.stats import Stats

WORKER = """
import sys
sys.path[:0] = {path!r}
from support.fakedb import FakeDB
from wsgidb import Database
database = Database(creator=FakeDB().connect, name="shop", pool_size=3, board={directory!r})
database.lease(("GET", "", "/held"))
for _ in range(4):
    database.lease(("GET", "", "/quick")).close()
database._engine.process.page.write(database.stats)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "board")


@contextmanager
def worker(directory: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds one lease and has ended four."""
    code = WORKER.format(path=sys.path, directory=directory)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def database(fakedb: FakeDB, directory: str) -> Iterator[Database]:
    with Database(creator=fakedb.connect, name="shop", pool_size=2, board=directory, acquire_timeout=60) as made:
        yield made


def use(database: Database) -> None:
    with database.connection():
        pass


def test_all_processes(database: Database, directory: str) -> None:
    """A process reads its own row, and that of another one: who holds what there, and how long leases last."""
    use(database)
    with worker(directory) as other:
        rows, gone = board.read(directory)
        found = {row.stats.pid: row for row in rows["shop"]}
        assert set(found) == {os.getpid(), other.pid}
        theirs = found[other.pid]
        assert (theirs.stats.acquires, theirs.stats.leased, theirs.stats.limit) == (5, 1, 3)
        assert [holder.request for holder in theirs.stats.holders] == ["GET /held"]
        assert theirs.recent.use_times.count == 4
        assert 0 <= theirs.age < 60
        assert gone == {}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_gone(database: Database, directory: str, how: signal.Signals) -> None:
    """Its row is removed, and what it has done stays in the sums, once."""
    with worker(directory) as other:
        other.send_signal(how)
        other.wait(30)
        for _ in range(2):
            rows, gone = board.read(directory)
            assert rows == {}
            assert (gone["shop"].acquires, gone["shop"].leased, gone["shop"].holders) == (5, 0, ())
    with worker(directory) as other:
        other.kill()
        other.wait(30)
        assert board.read(directory)[1]["shop"].acquires == 10
    assert [name for name in os.listdir(directory) if name.endswith(".row")] == []


def test_a_closed_database(database: Database, directory: str) -> None:
    """Its last figures are kept with those that are gone, although the process goes on."""
    use(database)
    use(database)
    database.close()
    rows, gone = board.read(directory)
    assert (rows, gone["shop"].acquires) == ({}, 2)


def test_a_lease_that_outlasts_its_database(database: Database, directory: str) -> None:
    """Giving it back makes no row again."""
    lease = database.lease()
    database.close()
    engine: Any = database._engine
    engine._Published__next = 0.0
    lease.close()
    rows, gone = board.read(directory)
    assert (rows, gone["shop"].acquires) == ({}, 1)


def test_a_forked_child_has_a_row_of_its_own(database: Database, directory: str) -> None:
    """With what it did itself; the parent's row stays, also when the child has ended."""
    use(database)
    inherited, told = os.pipe()
    child = os.fork()
    if child == 0:
        use(database)
        use(database)
        database._engine.process.page.write(database.stats)
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(inherited, 1) == b"x"
        rows, _ = board.read(directory)
        assert {row.stats.pid: row.stats.acquires for row in rows["shop"]} == {os.getpid(): 1, child: 2}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(inherited)
        os.close(told)
    rows, gone = board.read(directory)
    assert ([row.stats.pid for row in rows["shop"]], gone["shop"].acquires) == ([os.getpid()], 2)


def test_a_child_that_did_nothing(database: Database, directory: str) -> None:
    """It leaves nothing on the board, although it closes its Database when it ends."""
    use(database)
    child = os.fork()
    if child == 0:
        database.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    rows, gone = board.read(directory)
    assert (len(rows["shop"]), gone) == (1, {})


def test_at_most_once_a_second(fakedb: FakeDB, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request writes only where the last one that wrote is a second ago, or where the row has leases and its own is
    the last one that ends."""
    written: list[Any] = []

    def write(page: board.Page, stats: Callable[[], Any]) -> None:
        found = stats()
        written.append((found.acquires, found.leased))

    monkeypatch.setattr(board.Page, "write", write)
    clock = Clock()
    with Database(creator=fakedb.connect, board=directory, clock=clock) as database:
        for _ in range(5):
            use(database)
        assert written == [(1, 1), (1, 0)]
        clock.advance(1)
        with database.connection():
            use(database)
            assert written[2:] == [(6, 1)]
        assert written[2:] == [(6, 1), (7, 0)]


def test_a_quiet_process_shows_no_leases(database: Database, directory: str) -> None:
    """However long no other request comes, its row has none that is over."""
    with database.connection():
        (row,) = board.read(directory)[0]["shop"]
        assert (row.stats.leased, len(row.stats.holders)) == (1, 1)
    (row,) = board.read(directory)[0]["shop"]
    assert (row.stats.leased, row.stats.idle, row.stats.holders) == (0, 1, ())


def test_who_waits_is_seen_while_nothing_else_happens(database: Database, directory: str) -> None:
    """Requests that hang release nothing; those that come after them write."""
    engine: Any = database._engine
    thread = threading.Thread(target=use, args=(database,))
    with database.connection(), database.connection():
        thread.start()
        until(lambda: database.stats().waiting == 1, what="the other request to wait")
        engine._Published__next = 0.0
        with limited(database, acquire_timeout=0.01), pytest.raises(PoolTimeout):
            use(database)
        (row,) = board.read(directory)[0]["shop"]
        assert (row.stats.leased, row.stats.waiting, len(row.stats.waiters)) == (2, 1, 1)
    thread.join(30)
    assert not thread.is_alive()


def said_of_boards(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level and the text of each line. What garbage of other tests logs when it is collected is left out."""
    found = ((record.levelname, record.getMessage()) for record in caplog.records)
    return [(level, text) for level, text in found if text.startswith("board: ")]


def failing(error: OSError) -> Callable[..., int]:
    def fail(*args: Any) -> int:
        raise error

    return fail


@pytest.mark.parametrize("what", ["error", "short"])
def test_a_full_disk(
    database: Database, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning, once, and no request notices."""
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "pwrite", failing(full) if what == "error" else lambda file, data, at: len(data) // 2)
    for _ in range(3):
        database._engine._Published__next = 0.0  # type: ignore[attr-defined]
        use(database)
    (warning,) = said_of_boards(caplog)
    assert warning[0] == "WARNING"
    assert "No space left on device" in warning[1]


def test_a_board_that_cannot_be(fakedb: FakeDB, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file in place of the directory: a warning when it is written, and when it is read."""
    path = tmp_path / "file"
    path.write_text("")
    with Database(creator=fakedb.connect, board=str(path)) as database:
        use(database)
    assert board.read(str(path)) == ({}, {})
    assert [level for level, _ in said_of_boards(caplog)] == ["WARNING", "WARNING"]


def test_nothing_there_yet(directory: str, caplog: pytest.LogCaptureFixture) -> None:
    """Before the first request there is no board, which is nothing to warn of."""
    assert board.read(directory) == ({}, {})
    assert said_of_boards(caplog) == []


@pytest.mark.parametrize("content", [b"", b"rubbish", b"wsgidb 2 2 00000000\n{}", b"wsgidb 1 2 00000000\n{}"])
def test_a_row_that_cannot_be_read(
    database: Database, directory: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out, with a warning; the others are there. So is one that is another version's, or incomplete."""
    use(database)
    (Path(directory) / "1-x.row").write_bytes(content)
    rows, _ = board.read(directory)
    assert [row.stats.pid for row in rows["shop"]] == [os.getpid()]
    assert [level for level, _ in said_of_boards(caplog)] == ["WARNING"]


def test_files_that_somebody_has_removed(database: Database, directory: str) -> None:
    """A row that was tidied away is there again at the next write."""
    use(database)
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    database._engine._Published__next = 0.0  # type: ignore[attr-defined]
    use(database)
    assert [row.stats.acquires for row in board.read(directory)[0]["shop"]] == [2]


def test_only_the_user_can_read_it(database: Database, directory: str) -> None:
    """It has the paths of requests."""
    use(database)
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert {os.stat(entry.path).st_mode & 0o777 for entry in os.scandir(directory)} == {0o600}


def test_a_row_is_what_was_written(database: Database, directory: str) -> None:
    """Every field of the statistics comes back."""
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")
        stats: Stats = database.stats()
    (row,) = board.read(directory)[0]["shop"]
    again = decode(encode(stats, row.recent, 0.0), 2.0)
    assert (again.stats, again.recent, again.age) == (stats, row.recent, 2.0)
