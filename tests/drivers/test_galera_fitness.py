"""A Galera node that is not ready: it accepts logins, answers pings, and refuses what reads a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest

from drivers.cases import run
from support.clock import Clock
from support.datadir import hand_over
from support.galera import Node
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCHEMES = ("mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """The only node of a cluster."""
    alone = Node("alone")
    state = alone.data / "grastate.dat"
    state.write_text(f"version: 2.1\nuuid:    {uuid4()}\nseqno:   0\nsafe_to_bootstrap: 1\n")
    hand_over(state)
    with alone:
        alone.execute("CREATE TABLE test.numbers (n INT PRIMARY KEY)")
        yield alone


@contextmanager
def not_ready(node: Node) -> Iterator[None]:
    """It refuses statements as a node does that has lost its quorum, or is not synchronised yet."""
    node.execute("SET GLOBAL wsrep_reject_queries = ALL")
    try:
        yield
    finally:
        node.execute("SET GLOBAL wsrep_reject_queries = NONE")


def read(database: Database) -> None:
    with database.connection() as conn:
        run(conn, "SELECT n FROM numbers")


def answers(database: Database) -> bool:
    try:
        read(database)
    except DatabaseUnavailable:
        return False
    return True


@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_next_host(node: Node, mariadb: MariaDB, clock: Clock, scheme: str, transaction: Any) -> None:
    """Of two hosts the other one is used, whatever is asked for; and the node as soon as it is ready."""
    with TCPProxy(node.port) as first, TCPProxy(mariadb.port) as second:
        url = f"{scheme}://guest@127.0.0.1:{first.port},127.0.0.1:{second.port}/test"
        for query in ("", "?target_session_attrs=read-write"):
            options: dict[str, Any] = {"strategy": "per-request", "transaction": transaction, "ssl_mode": "disabled"}
            options["clock"] = clock  # by which a node that has failed comes last for the whole test
            before = first.connections, second.connections
            with Database(url + query, **options) as database:
                with not_ready(node):
                    for _ in range(3):
                        with database.connection():
                            pass
                assert (first.connections - before[0], second.connections - before[1]) == (1, 3)
            with Database(url + query, **options) as database:
                read(database)
            assert (first.connections - before[0], second.connections - before[1]) == (2, 3)


@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_error_speaks_for_all(node: Node, scheme: str, transaction: Any) -> None:
    """A single host: one statement fails, and then there is no connection instead of one that is of no use."""
    url = f"{scheme}://guest@127.0.0.1:{node.port}/test"
    with Database(url, transaction=transaction, ssl_mode="disabled") as database:
        with ExitStack() as stack:
            for _ in range(4):
                run(stack.enter_context(database.connection()), "SELECT n FROM numbers")
        with not_ready(node):
            with pytest.raises(Exception, match="1047"):
                read(database)
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable, match="1047"):
                    read(database)
        assert database.stats().discards == {"server read-only or not ready": 1, "no longer fit": 3}
        until(lambda: answers(database), what="the end of the back-off")
        with ExitStack() as stack:
            for _ in range(4):
                run(stack.enter_context(database.connection()), "SELECT n FROM numbers")
