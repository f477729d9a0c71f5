"""A DB-API driver without a database, which fails, or hangs, exactly where a test says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

Row = tuple[Any, ...]


class Gate:
    """Where a blocked call waits: ``entered`` is set when it got there, ``open()`` lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def wait(self) -> None:
        self.entered.set()
        if not self._opened.wait(60):
            raise AssertionError("a gate was never opened: the test forgot it, or ended early")


class _Plan:
    """What is to happen at the *n*-th next call named *name* (of one connection, or of any)."""

    def __init__(self, name: str, n: int, connection: int | None, error: BaseException | None, gate: Gate | None):
        self.name, self.left, self.connection, self.error, self.gate = name, n, connection, error, gate


class FakeDB:
    """Looks like a DB-API module and counts like a server. ``connect`` is the creator to hand out.

    ``calls`` has every call as ``(connection number, name, sql)`` in order, numbered from 1 (sql is None
    where there is none); the attempt is recorded, also if it fails. ``rows`` is what each SELECT gives.
    """

    apilevel, threadsafety, paramstyle = "2.0", 1, "format"

    class Warning(Exception):
        pass

    class Error(Exception):
        pass

    class InterfaceError(Error):
        pass

    class DatabaseError(Error):
        pass

    class DataError(DatabaseError):
        pass

    class OperationalError(DatabaseError):
        pass

    class IntegrityError(DatabaseError):
        pass

    class InternalError(DatabaseError):
        pass

    class ProgrammingError(DatabaseError):
        pass

    class NotSupportedError(DatabaseError):
        pass

    def __init__(self, rows: Sequence[Row] = ((1,),)) -> None:
        self.rows = list(rows)
        # All of this is guarded by the lock, which is never held while a call fails or waits.
        self._lock = threading.Lock()
        self.calls: list[tuple[int, str, str | None]] = []
        self.connections: list[FakeConnection] = []
        self.opened = self.closed = self.open_now = self.most_open = 0
        self._plans: list[_Plan] = []

    def connect(self, *args: Any, **kwargs: Any) -> FakeConnection:
        """A new connection; fails or waits as planned for "connect". It counts in `most_open` from its begin, in
        `opened` when it has succeeded."""
        with self._lock:
            connection = FakeConnection(self, len(self.connections) + 1, args, kwargs)
            self.connections.append(connection)
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
        try:
            self.call(connection.number, "connect")
        except BaseException:
            with self._lock:
                self.open_now -= 1
            raise
        with self._lock:
            connection.closed = False
            self.opened += 1
        return connection

    def fail(self, name: str, error: BaseException, n: int = 1, connection: int | None = None) -> None:
        """Raise *error* in the *n*-th next call of *name* (of connection number *connection* only, if given)."""
        self._plan(_Plan(name, n, connection, error, None))

    def block(self, name: str, n: int = 1, connection: int | None = None) -> Gate:
        """Hold the *n*-th next call of *name* at the gate that is returned."""
        gate = Gate()
        self._plan(_Plan(name, n, connection, None, gate))
        return gate

    def _plan(self, plan: _Plan) -> None:
        if plan.left < 1:
            raise ValueError("the next call is number 1")
        with self._lock:
            self._plans.append(plan)

    @property
    def pending(self) -> list[str]:
        """The names of planned failures and gates that were not met yet."""
        with self._lock:
            return [plan.name for plan in self._plans]

    def count(self, name: str) -> int:
        """How often *name* was called on all connections."""
        with self._lock:
            return Counter(called for _, called, _ in self.calls)[name]

    def statements(self, connection: int | None = None) -> list[str]:
        """The SQL that was sent, of one connection or all."""
        with self._lock:
            return [sql for number, _, sql in self.calls if sql is not None and connection in (None, number)]

    def call(self, number: int, name: str, sql: str | None = None) -> None:
        """Record a call, then do to it what was planned; plans that meet in one call wait first, then raise."""
        with self._lock:
            self.calls.append((number, name, sql))
            mine = [plan for plan in self._plans if plan.name == name and plan.connection in (None, number)]
            for plan in mine:
                plan.left -= 1
            due = [plan for plan in mine if plan.left == 0]
            self._plans = [plan for plan in self._plans if plan.left > 0]
        for plan in due:
            if plan.gate:
                plan.gate.wait()
        for plan in due:
            if plan.error:
                raise plan.error

    def ended(self) -> None:
        with self._lock:
            self.closed += 1
            self.open_now -= 1


class FakeConnection:
    """``number``, ``args`` and ``kwargs`` tell which one it is; attributes of one's own may be set."""

    def __init__(self, db: FakeDB, number: int, args: Row, kwargs: dict[str, Any]) -> None:
        self.db, self.number, self.args, self.kwargs = db, number, args, kwargs
        self.closed = True  # until connect() has succeeded

    def __repr__(self) -> str:
        return f"<FakeConnection {self.number}{' closed' if self.closed else ''}>"

    def use(self, name: str, sql: str | None = None) -> None:
        if self.closed:
            raise FakeDB.InterfaceError(f"{name}: connection {self.number} is closed")
        self.db.call(self.number, name, sql)

    def cursor(self, *args: Any, **kwargs: Any) -> FakeCursor:
        self.use("cursor")
        return FakeCursor(self)

    def commit(self) -> None:
        self.use("commit")

    def rollback(self) -> None:
        self.use("rollback")

    def ping(self, reconnect: bool = False) -> None:
        self.use("ping")

    def close(self) -> None:
        """Closed even if it was planned to fail, as a socket would be; a second time is an error."""
        try:
            self.use("close")
        finally:
            if not self.closed:
                self.closed = True
                self.db.ended()


class FakeCursor:
    """Gives ``db.rows`` after a SELECT and nothing after anything else."""

    arraysize = 1

    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection
        self.description: list[Row] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.closed = False
        self._rows: list[Row] = []

    def __enter__(self) -> FakeCursor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def use(self, name: str, sql: str | None = None) -> None:
        if self.closed:
            raise FakeDB.InterfaceError(f"{name}: the cursor is closed")
        self.connection.use(name, sql)

    def execute(self, sql: str, args: object = None) -> int:
        self.use("execute", sql)
        selects = sql.lstrip().upper().startswith("SELECT")
        self._rows = list(self.connection.db.rows) if selects else []
        width = len(self._rows[0]) if self._rows else 1
        names = [f"c{number}" for number in range(width)]
        self.description = [(name, *[None] * 6) for name in names] if selects else None
        self.rowcount = len(self._rows) if selects else 1
        return self.rowcount

    def executemany(self, sql: str, args: Sequence[object]) -> int:
        self.use("executemany", sql)
        self._rows, self.description, self.rowcount = [], None, len(args)
        return self.rowcount

    def fetchone(self) -> Row | None:
        self.use("fetchone")
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Row]:
        self.use("fetchmany")
        size = self.arraysize if size is None else size
        taken, self._rows = self._rows[:size], self._rows[size:]
        return taken

    def fetchall(self) -> list[Row]:
        self.use("fetchall")
        taken, self._rows = self._rows, []
        return taken

    def __iter__(self) -> Iterator[Row]:
        return iter(self.fetchone, None)

    def close(self) -> None:
        self.closed = True
