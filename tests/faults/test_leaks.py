"""Leaks: a lease that is held for too long is reported, with the calls that hold it."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from strategies.kit import Worker, in_child
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until_awaited
from support.wsgi import Call
from wsgidb import ConnectionReturned, Database, DatabaseMiddleware, PoolOverloaded
from wsgidb.pool import leaks
from wsgidb.pool.engine import Engine

LIMIT = 10.0

Make = Callable[..., Database]
Lines = Callable[[], list[str]]


@pytest.fixture(params=["per-request", "thread-local", "pooled"])
def make(request: pytest.FixtureRequest, fakedb: FakeDB, clock: Clock) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(**options: Any) -> Database:
            made = Database(creator=fakedb.connect, strategy=request.param, clock=clock, **options)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The log's lines about leases held for too long."""

    def lines() -> list[str]:
        assert {record.levelno for record in caplog.records} <= {logging.WARNING}
        return [text for record in caplog.records if "has held" in (text := record.getMessage())]

    return lines


USE = '    environ["db.conn"].cursor().execute("SELECT 1")'


def streaming(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    environ["db.conn"].cursor().execute("SELECT 1")
    yield b"a"
    yield b"b"


class Inside:
    """A request whose handler goes on in a thread of its own until the block ends."""

    def __init__(self, database: Database, use: Callable[[Any], Any], **options: Any) -> None:
        self.use, self.done = use, threading.Event()
        app = DatabaseMiddleware(self.handle, database, **options)
        self.thread = threading.Thread(target=lambda: Call(app, "/inside").read(), name="a worker", daemon=True)

    def handle(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.use(environ["db.conn"])
        self.go_on()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    def go_on(self) -> None:
        assert self.done.wait(30)

    def __enter__(self) -> Inside:
        self.thread.start()
        until_awaited(self.done)
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join(30)


def run(conn: Any) -> None:
    conn.cursor().execute("SELECT 1")


def nothing(conn: Any) -> None:
    pass


def touch(database: Database) -> None:
    with database.connection():
        pass


def test_a_lease_held_for_too_long_is_logged_once(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: the next acquire reports it; the line has method, path, seconds, and the stack that used it."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database), "/report", REQUEST_METHOD="POST")
    clock.advance(LIMIT)
    for _ in range(3):
        touch(database)
        clock.advance(LIMIT / 2)
    (line,) = lines()
    told = "POST /report: has held a connection of creator for 10.0 s; thread MainThread has used it here:\n"
    assert line.startswith(told)
    assert "in test_a_lease_held_for_too_long_is_logged_once" in line
    assert 'Call(DatabaseMiddleware(streaming, database), "/report"' in line, "the source, too"
    assert line.endswith("in streaming\n" + USE), "the most recent call of the application's last"
    call.read()
    assert len(lines()) == 1


@pytest.mark.parametrize("use", [run, nothing])
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_a_handler_that_goes_on_is_shown_where_it_is_now(
    make: Make, clock: Clock, lines: Lines, use: Callable[[Any], Any], transaction: str
) -> None:
    """leak_after: what a handler waits for counts, whether or not it has used its connection, and not where it did."""
    database = make(leak_after=LIMIT, transaction=transaction)
    with Inside(database, use):
        clock.advance(LIMIT)
        touch(database)
        (line,) = lines()
    assert line.startswith("GET /inside: has held a connection of creator for 10.0 s; thread a worker is here now:\n")
    assert "in handle\n    self.go_on()" in line
    assert "in go_on\n    assert self.done.wait(30)" in line
    assert "conn.cursor()" not in line


def test_a_body_that_goes_on_is_shown_where_it_is_now(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: the same holds for a streamed body, in whatever thread it is iterated, and for that body alone."""
    database = make(leak_after=LIMIT)
    other = Call(DatabaseMiddleware(streaming, database), "/other")
    done = threading.Event()

    def body(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        run(environ["db.conn"])
        yield b"a"
        assert done.wait(30)
        yield b"b"

    call = Call(DatabaseMiddleware(body, database), "/body")
    sender = threading.Thread(target=call.read, name="a sender", daemon=True)
    sender.start()
    try:
        until_awaited(done)
        clock.advance(LIMIT)
        touch(database)
        first, line = lines()
    finally:
        done.set()
        sender.join(30)
    assert first.startswith("GET /other: ")
    assert "; thread MainThread has used it here:\n" in first
    other.read()
    assert line.startswith("GET /body: has held a connection of creator for 10.0 s; thread a sender is here now:\n")
    assert "in body\n    assert done.wait(30)" in line


def test_a_body_that_has_used_nothing(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: where nobody has used a connection, and no thread is inside of the request, there is only where it
    was acquired."""
    database = make(leak_after=LIMIT)

    def body(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        yield b"b"

    call = Call(DatabaseMiddleware(body, database), "/body")
    clock.advance(LIMIT)
    touch(database)
    (line,) = lines()
    assert "; thread MainThread has acquired it here, and nobody has used it:\n" in line
    assert line.endswith("self.body = app(self.environ, self._start_response)"), "without wsgidb's own calls"
    call.read()


def test_a_background_thread_is_shown(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: of several threads that have used a connection the one that came last is shown."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database), "/background")

    def work() -> None:
        run(call.environ["db.conn"])

    worker = threading.Thread(target=work, name="a helper")
    worker.start()
    worker.join(30)
    clock.advance(LIMIT)
    touch(database)
    (line,) = lines()
    assert "; thread a helper has used it here:\n" in line
    assert line.endswith('in run\n    conn.cursor().execute("SELECT 1")')
    assert "in work\n" in line
    call.read()


def test_a_background_thread_in_a_statement_is_shown(make: Make, fakedb: FakeDB, clock: Clock, lines: Lines) -> None:
    """leak_after: a thread that the handler has left is inside of the request while it uses the connection."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database), "/background")
    gate = fakedb.block("commit")
    worker = threading.Thread(target=lambda: call.environ["db.conn"].commit(), name="a helper", daemon=True)
    worker.start()
    try:
        assert gate.entered.wait(10)
        clock.advance(LIMIT)
        touch(database)
        (line,) = lines()
    finally:
        gate.open()
        worker.join(30)
    assert "; thread a helper is here now:\n" in line
    assert "in commit\n" in line
    call.read()


def test_a_late_call_of_an_earlier_request_is_not_shown(fakedb: FakeDB, clock: Clock, lines: Lines) -> None:
    """leak_after: a thread that an earlier request left behind is refused, and does not hold the connection."""
    with Database(creator=fakedb.connect, clock=clock, leak_after=LIMIT) as database:
        with database.connection() as earlier:
            pass
        (slot,) = database._engine.process.open

        def late() -> None:
            with pytest.raises(ConnectionReturned):
                slot.activity.enter(earlier)  # as it does where it was under way when its lease ended

        with database.connection() as conn:
            run(conn)
            worker = threading.Thread(target=late, name="a helper")
            worker.start()
            worker.join(30)
            clock.advance(LIMIT)
        (line,) = lines()
        assert "; thread MainThread has used it here:\n" in line


def test_the_uses_of_earlier_requests_are_forgotten(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: each lease of a connection has a record of its own. The calls that are under way have one list for
    the life of the connection, as a thread may be between two of its lines when a lease begins."""
    database = make(leak_after=LIMIT)
    lists = []
    for use in (run, nothing, run):
        with database.connection() as conn:
            use(conn)
            lists += [slot.activity.users for slot in database._engine.process.open]
            clock.advance(LIMIT)
    assert ["has used it here" in line for line in lines()] == [True, False, True]
    assert len({id(each) for each in lists}) == database.stats().connects


def test_a_thread_is_noted_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """leak_after: further statements of a thread are not noted, as that would take ten times as long."""
    database = make(leak_after=LIMIT)
    noted = []
    note = leaks.Held.note

    def noting(held: leaks.Held, what: str, *args: Any) -> None:
        noted.append(what)
        note(held, what, *args)

    monkeypatch.setattr(leaks.Held, "note", noting)
    with database.connection() as conn:
        for _ in range(5):
            run(conn)
    assert noted == ["has acquired it here, and nobody has used it", "has used it here"]


def test_a_lease_outside_of_a_request(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: the calls that acquired it are the application's own; so are those of an inner lease, where the
    thread is now."""
    database = make(leak_after=LIMIT)
    with database.connection():
        clock.advance(LIMIT)
        touch(database)
    (line,) = lines()
    assert "; thread MainThread has acquired it here, and nobody has used it:\n" in line
    assert "in test_a_lease_outside_of_a_request\n    with database.connection():" in line


def test_nothing_is_kept_of_a_request(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: reports keep no frame and no variable alive: a body that is dropped unclosed ends its lease."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database), "/dropped")
    clock.advance(LIMIT)
    touch(database)
    assert len(lines()) == 1
    del call
    gc.collect()
    assert database.stats().leased == 0


def test_one_that_comes_back_late_reports_itself(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a lease that is overdue when it ends is reported then, though no other request came meanwhile. As
    the handler is over, the stack is that of the use."""
    clock.now = 3.0
    database = make(leak_after=LIMIT)
    with database.connection() as conn:
        run(conn)
        clock.advance(LIMIT)
    (line,) = lines()
    told = "outside of a request: has held a connection of creator for 10.0 s; thread MainThread has used it here:\n"
    assert line.startswith(told)
    assert line.endswith('in run\n    conn.cursor().execute("SELECT 1")')


def test_one_that_comes_back_in_time_is_not_logged(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a lease that ends in time is never reported, nor is the next one because of its time."""
    database = make(leak_after=LIMIT)
    for _ in range(3):
        with database.connection():
            clock.advance(LIMIT - 0.1)
    clock.advance(LIMIT)
    touch(database)
    assert lines() == []


def test_a_first_use_counts_from_then_on(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a request that has no connection yet holds none; the stack is that of the first use."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database, acquire="first-use"), "/late")
    clock.advance(LIMIT - 0.1)
    touch(database)
    assert lines() == []
    clock.advance(0.1)
    touch(database)
    (line,) = lines()
    assert line.startswith("GET /late: ")
    assert "in streaming" in line
    call.read()


def test_an_exhausted_pool_tells_who_has_it(fakedb: FakeDB, clock: Clock, lines: Lines) -> None:
    """leak_after: requests that are refused because of leaks report each of them once, as it becomes one."""
    with Database(creator=fakedb.connect, clock=clock, pool_size=2, max_waiting=0, leak_after=LIMIT) as database:
        calls = []
        for path in ("/one", "/two"):
            calls.append(Call(DatabaseMiddleware(streaming, database), path))
            clock.advance(1)
        clock.advance(LIMIT - 2)
        told = []
        for _ in range(3):
            with pytest.raises(PoolOverloaded), database.connection():
                pass
            told.append([line.partition(":")[0] for line in lines()])
            clock.advance(1)
        assert told == [["GET /one"], ["GET /one", "GET /two"], ["GET /one", "GET /two"]]
        for call in calls:
            call.read()


def test_many_threads_report_it_once(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a lease is reported once, however many threads look at the same moment."""
    database = make(leak_after=LIMIT)
    start = threading.Barrier(8, timeout=10)

    def look() -> None:
        start.wait()
        for _ in range(20):
            touch(database)

    with database.connection():
        clock.advance(LIMIT)
        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(lines()) == 1


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_frames_are_looked_at(
    make: Make, clock: Clock, lines: Lines, collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """leak_after: CPython 3.11 can crash otherwise, and before 3.11.5 it can hang. The application's own choice is
    restored."""
    seen: dict[str, list[bool]] = {"frames": [], "calls": [], "variables": []}

    def watch(where: Any, name: str, what: str) -> None:
        function = getattr(where, name)

        def watched(*args: Any) -> Any:
            if not args or sys._getframe(1).f_code.co_name != "note":  # which looks at its own thread only
                seen[what].append(gc.isenabled())
            return function(*args)

        monkeypatch.setattr(where, name, watched)

    watch(sys, "_current_frames", "frames")
    watch(leaks, "_calls", "calls")
    watch(leaks, "_has", "variables")
    database = make(leak_after=LIMIT)
    enabled = gc.isenabled()
    with Inside(database, run):
        clock.advance(LIMIT)
        (gc.enable if collects else gc.disable)()
        try:
            touch(database)
            restored = gc.isenabled()
        finally:
            (gc.enable if enabled else gc.disable)()
    assert {what: set(found) for what, found in seen.items()} == {what: {False} for what in seen}
    assert (restored, len(lines())) == (collects, 1)


def test_a_fork_while_frames_are_looked_at(
    make: Make, clock: Clock, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """leak_after: a child collects its garbage, and can look itself."""
    look = threading.Event()
    has = leaks._has

    def slowly(*args: Any) -> bool:
        assert look.wait(30)
        return has(*args)

    def look_in_child() -> tuple[bool, bool, bool]:
        look.set()
        gc.disable()
        in_its_own_child = in_child(gc.isenabled)
        gc.enable()
        with leaks._without_collecting():
            inside = gc.isenabled()
        return in_its_own_child, inside, gc.isenabled()

    monkeypatch.setattr(leaks, "_has", slowly)
    assert gc.isenabled()
    database = make(leak_after=LIMIT)
    with database.connection():
        clock.advance(LIMIT)
        worker = Worker(lambda: touch(database))
        until_awaited(look)
        assert not gc.isenabled()
        assert in_child(look_in_child) == [False, False, True]
        look.set()
        worker.outcome()
    assert (gc.isenabled(), len(lines())) == (True, 1)


def test_a_fork_before_and_after_a_look() -> None:
    """leak_after: a child whose parent collects no garbage collects none either."""
    program = textwrap.dedent("""
        import gc, os
        from wsgidb.pool import leaks

        for _ in range(2):
            gc.disable()
            if (child := os.fork()) == 0:
                os._exit(gc.isenabled())
            assert os.waitpid(child, 0)[1] == 0
            gc.enable()
            with leaks._without_collecting():
                pass
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_off_it_is_in_nobodys_way(make: Make) -> None:
    """leak_after: without the option, acquire and release are the plain engine's."""
    assert type(make(telemetry=False)._engine) is Engine
    assert type(make(telemetry=False, leak_after=None)._engine) is Engine
    assert type(make(telemetry=False, leak_after=1)._engine) is not Engine
