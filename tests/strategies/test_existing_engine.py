"""An application's own SQLAlchemy Engine as the source: requests and the Engine's other users share one pool."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from weakref import WeakSet, ref

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool

from strategies.conftest import MakeDatabase
from strategies.kit import MariaDBBank, Worker, in_child, run
from support.waiting import until
from wsgidb import ConfigError, Database, DatabaseUnavailable, forks

ID = "SELECT CONNECTION_ID()"
MakeEngine = Callable[..., Engine]
EXCEPTIONS = {
    "C4": "the Engine rolls back once more after each request, and each connection is pinged before the request",
    "C5": "the Engine waits and connects with its own timeouts",
    "S3": "the Engine's other users do not wait in the queue",
}
"""The guarantees that an existing Engine makes impossible, with the reason; docs/drivers.md has the same table."""


def impossible(law: str, **more: Any) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, reason=f"{law}: {EXCEPTIONS[law]}", **more)


@pytest.fixture
def engine_of(wired: MariaDBBank) -> Iterator[MakeEngine]:
    """Makes an Engine on MariaDB; disposed of after the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> Engine:
            engine = create_engine(wired.url, connect_args={"ssl_disabled": True}, **options)
            stack.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def shared(make: MakeDatabase) -> Callable[..., Database]:
    """Makes a Database on an Engine."""
    return lambda engine, **options: make(creator=engine, strategy="sqlalchemy", **options)


@pytest.mark.server
class TestShared:
    def test_one_pool(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """What a request checks in the Engine's other users check out, and the other way round."""
        engine = engine_of(pool_size=1, max_overflow=0)
        database = shared(engine)
        seen = []
        for _ in range(2):
            with engine.connect() as own:
                seen.append(own.execute(text(ID)).scalar())
            with database.connection() as conn:
                seen.append(run(conn, ID)[0][0])
                assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
        assert len(set(seen)) == 1

    def test_its_bound(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """S2: no more are asked of the Engine than its pool may give: further requests wait in wsgidb's queue."""
        database = shared(engine_of(pool_size=1, max_overflow=1), pool_size=9, acquire_timeout=0.01)
        with database.connection(), database.connection(), pytest.raises(DatabaseUnavailable, match="2 connections"):
            database.check()
        assert database.stats().connects == 2

    def test_held_by_the_application(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """Where other users of the Engine hold all, its own timeout ends the wait; then there is one again."""
        engine = engine_of(pool_size=1, max_overflow=0, pool_timeout=0.01)
        clock = [0.0]
        database = shared(engine, clock=lambda: clock[0])
        with engine.connect(), pytest.raises(DatabaseUnavailable, match="QueuePool limit"):
            database.check()
        clock[0] = 60.0
        with database.connection() as conn:
            assert run(conn, "SELECT 1") == [(1,)]

    def test_dead_ones(self, engine_of: MakeEngine, shared: Callable[..., Database], wired: MariaDBBank) -> None:
        """C2: of dead connections in the Engine's pool none is handed out, not even right after the last use."""
        engine = engine_of(pool_size=3)
        database = shared(engine)
        with engine.connect() as one, engine.connect() as two, engine.connect() as three:
            for own in (one, two, three):
                own.execute(text("SELECT 1"))
        until(lambda: len(wired.server.processes("guest")) == 3, what="those of earlier tests to end")
        assert wired.server.kill_connections("guest") == 3
        with database.connection() as conn:
            assert run(conn, "SELECT 1") == [(1,)]
        with engine.connect() as own:
            assert own.execute(text("SELECT 1")).scalar() == 1

    def test_new_ones_that_are_no_use(
        self, engine_of: MakeEngine, shared: Callable[..., Database], wired: MariaDBBank
    ) -> None:
        """S5: where not even a new connection can be pinged, a request does not try one after the other."""
        engine = engine_of(pool_size=3)
        database = shared(engine, ping_query="SELECT nothing_known")
        with engine.connect():
            pass
        before = wired.proxy.connections
        with pytest.raises(DatabaseUnavailable, match="nothing_known"), database.connection():
            pass
        assert wired.proxy.connections - before == 2

    def test_broken_in_use(self, engine_of: MakeEngine, shared: Callable[..., Database], wired: MariaDBBank) -> None:
        """C6: a connection that is discarded is invalidated in the Engine's pool, which opens another one."""
        engine = engine_of(pool_size=1, max_overflow=0)
        database = shared(engine)
        former = []

        def interrupted() -> None:
            with database.connection() as conn:
                former.extend(run(conn, ID))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        with engine.connect() as own:
            assert own.execute(text(ID)).scalar() != former[0][0]

    @pytest.mark.parametrize("transaction", ["manual", "autocommit", "request"])
    @pytest.mark.parametrize("level", [None, "AUTOCOMMIT"])
    def test_autocommit_is_restored(
        self, engine_of: MakeEngine, shared: Callable[..., Database], transaction: str, level: str | None
    ) -> None:
        """A request has the autocommit that its configuration says, and leaves the Engine's users theirs."""
        engine = engine_of(pool_size=1, max_overflow=0, **({"isolation_level": level} if level else {}))
        database = shared(engine, transaction=transaction)
        with database.connection() as conn:
            assert run(conn, "SELECT @@autocommit") == [(int(transaction == "autocommit"),)]
            run(conn, f"SET autocommit = {int(transaction != 'autocommit')}")
        with engine.connect() as own:
            assert own.execute(text("SELECT @@autocommit")).scalar() == int(level is not None)

    def test_closing(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """S7: closing the Database leaves the Engine alone: it is the application's."""
        engine = engine_of(pool_size=1, max_overflow=0)
        with shared(engine) as database, database.connection() as conn:
            former = run(conn, ID)
        with engine.connect() as own:
            assert own.execute(text(ID)).scalar() == former[0][0]

    def test_fork(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """S6: a forked child opens connections of its own; those in the parent's pool are left as they are."""
        engine = engine_of(pool_size=1)
        database = shared(engine)

        def session() -> Any:
            with database.connection() as conn:
                return run(conn, ID)[0][0]

        parents = session()
        children = in_child(lambda: [session(), session()])
        assert (len(set(children)), parents in children) == (1, False)
        assert session() == parents

    @pytest.mark.parametrize("used", [True, False])
    def test_child_that_drops_everything(self, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """S6: what the parent has in its pool is not collected in the child: a driver may end the sessions then."""
        if used:  # it learns of the fork by its pid
            monkeypatch.setattr(forks, "_told", WeakSet())
        kept: list[Any] = [create_engine("sqlite:///:memory:", poolclass=QueuePool)]
        kept.append(Database(creator=kept[0], strategy="sqlalchemy"))
        kept[1].check()
        pool = ref(kept[0].pool)

        def child() -> bool:
            if used:
                kept[1].check()
            kept.clear()
            gc.collect()
            return pool() is not None

        try:
            assert in_child(child) is True
        finally:
            kept[0].dispose()

    def test_pid_of_an_ancestor(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """S6: a descendant with the pid that an ancestor had does not use that one's pool."""
        engine = engine_of(pool_size=1)
        database = shared(engine)
        ancestor = os.getpid()

        def session() -> Any:
            with database.connection() as conn:
                return run(conn, ID)[0][0]

        def grandchild() -> Any:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("wsgidb.strategies.sqlalchemy.getpid", lambda: ancestor)
                return session()

        mine = session()
        assert in_child(lambda: in_child(grandchild)) != mine
        assert session() == mine


@pytest.mark.server
class TestImpossible:
    @impossible("C4")
    @pytest.mark.parametrize("reset", ["rollback", None])
    def test_round_trips(
        self, engine_of: MakeEngine, shared: Callable[..., Database], wired: MariaDBBank, reset: Any
    ) -> None:
        """C4: a hot request that only reads costs one ROLLBACK more."""
        database = shared(engine_of(pool_size=1, pool_reset_on_return=reset))
        with database.connection():
            pass
        with wired.proxy.counting() as commands, database.connection() as conn:
            run(conn, "SELECT 2")
        assert commands == ["QUERY SELECT 2", "QUERY ROLLBACK"]

    @impossible("C5", raises=AssertionError)
    def test_deadline(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """C5: a request that gets no connection fails at its acquire_timeout."""
        engine = engine_of(pool_size=1, max_overflow=0, pool_timeout=20)
        database = shared(engine, acquire_timeout=0.01)
        with engine.connect():
            request = Worker(lambda: database.check())
            request.join(0.5)
            ended = not request.is_alive()
        request.join(10)
        assert ended

    @impossible("S3", raises=AssertionError)
    def test_order(self, engine_of: MakeEngine, shared: Callable[..., Database]) -> None:
        """S3: a connection that the application gives back goes to the request that waits for it."""
        engine = engine_of(pool_size=1, max_overflow=0)
        database = shared(engine, acquire_timeout=20)
        waiters: Any = engine.pool._pool.not_empty._waiters  # type: ignore[attr-defined]
        own = engine.connect()
        for _ in range(20):
            before = database.stats().connects
            request = Worker(lambda: database.check())
            until(lambda: len(waiters) == 1, what="the request to wait")
            own.close()
            own = engine.connect()  # a newcomer
            barged_in = database.stats().connects == before
            if barged_in:
                break
        own.close()
        request.outcome()
        assert not barged_in

    def test_the_documents_table(self) -> None:
        """docs/drivers.md names the same guarantees, with the same reasons."""
        section = (Path(__file__).parents[2] / "docs" / "drivers.md").read_text().partition("## An existing Engine")[2]
        found = re.findall(r"^\| (\w\d) \| (.+?) \|", section.partition("\n## ")[0], re.MULTILINE)
        assert dict(found) == EXCEPTIONS


class TestRefused:
    def engine(self) -> Engine:
        return create_engine("sqlite:///never-opened.db")

    @pytest.mark.parametrize("option", [{"connect_args": {"timeout": 1}}, {"init_sql": "SELECT 1"}], ids=repr)
    def test_what_the_engine_does_itself(self, shared: Callable[..., Database], option: dict[str, Any]) -> None:
        """Options for connecting are refused: the Engine makes its connections itself."""
        (name,) = option
        told = f"{name}: the Engine makes its connections itself; give it to create_engine()"
        with pytest.raises(ConfigError, match=f"^{re.escape(told)} [(]"):
            shared(self.engine(), **option)

    @pytest.mark.parametrize("strategy", ["pooled", "per-request", "thread-local", "dbutils-pooled"])
    def test_another_strategy(self, make: MakeDatabase, strategy: str) -> None:
        """Keeping connections of a pool in another pool would keep them from its other users."""
        with pytest.raises(ConfigError, match=f"^creator: .*needs strategy=sqlalchemy, got {strategy} [(]"):
            make(creator=self.engine(), strategy=strategy)

    @pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
    def test_one_connection_for_several(self, shared: Callable[..., Database], pool: Any) -> None:
        """S4: a pool that gives one connection to two users at once is refused."""
        engine = create_engine("sqlite://", poolclass=pool)
        with pytest.raises(ConfigError, match=f"^creator: the Engine's {pool.__name__} gives one connection to sev"):
            shared(engine)

    def test_arguments(self, shared: Callable[..., Database]) -> None:
        """strategy_args are refused: the Engine has its pool already."""
        with pytest.raises(ConfigError, match=r"^strategy_args: strategy sqlalchemy takes none [(]"):
            shared(self.engine(), strategy_args={"use_lifo": True})


def test_sqlite(shared: Callable[..., Database], tmp_path: Path) -> None:
    """On another driver: what a request commits the Engine's users see; the rest is rolled back."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    database = shared(engine)
    with database.connection() as conn:
        assert isinstance(conn, sqlite3.Connection)
        run(conn, "CREATE TABLE city (name TEXT)")
        run(conn, "INSERT INTO city VALUES ('Aarhus')")
        conn.commit()
        run(conn, "INSERT INTO city VALUES ('Odense')")
    with engine.connect() as own:
        assert own.execute(text("SELECT name FROM city")).all() == [("Aarhus",)]
    engine.dispose()
