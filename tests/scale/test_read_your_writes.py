"""R15: a client sees what it has written, however far replicas lag; one that has written nothing reads from them."""

from __future__ import annotations

from typing import Any

import pytest

from scale.clients import Client
from scale.conftest import Make, url_of
from scale.notes import application, port, run, write
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware

pytestmark = pytest.mark.server


@pytest.fixture(params=["manual", "request", "autocommit"])
def transaction(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_reads_go_to_the_replicas_in_turn(make: Make, servers: Any, n: int) -> None:
    """Without a position each replica gets every second request, and no header is added."""
    client = Client(make())
    seen = [client.read(n) for _ in range(4)]
    ports = [replica.port for replica in servers.replicas]
    assert sorted(port for _, port in seen) == sorted(ports * 2)
    assert not client.cookies
    assert [name for name, _ in client.headers] == ["Content-Type", "Content-Length"]


@pytest.mark.parametrize(
    ("transaction", "keeps"), [("manual", "header"), ("request", "cookies"), ("autocommit", "cookies")]
)
def test_a_write_is_seen_at_once_and_then_on_the_replicas(
    make: Make, servers: Any, n: int, transaction: str, keeps: str
) -> None:
    """While no replica has the write the primary serves its client; then the replicas do. Others stay on replicas."""
    app = make(transaction=transaction)
    client, other = Client(app, keeps), Client(app, keeps)
    for replica in servers.replicas:
        replica.pause()
    assert client.write(n) == ("found", servers.primary.port)
    assert [client.read(n) for _ in range(3)] == [("found", servers.primary.port)] * 3
    assert {other.read(n)[0] for _ in range(3)} == {"missing"}
    servers.replicas[0].resume()
    until(servers.replicas[0].has_caught_up, what="the first replica")
    assert {client.read(n) for _ in range(4)} == {("found", servers.replicas[0].port)}
    assert "Wsgidb-Position" in dict(client.headers), "it is prolonged while a replica does not have the write"
    servers.replicas[1].resume()
    servers.caught_up()
    assert {client.read(n) for _ in range(4)} == {("found", replica.port) for replica in servers.replicas}
    assert "Wsgidb-Position" not in dict(client.headers)


def test_the_first_use_decides(make: Make, servers: Any, n: int) -> None:
    """With acquire=first-use and server_timing it is the same, and the header is the replica's."""
    client = Client(make(acquire="first-use", server_timing=True, transaction="request"))
    servers.replicas[0].pause()
    servers.replicas[1].pause()
    client.write(n)
    assert client.read(n) == ("found", servers.primary.port)
    servers.replicas[0].resume()
    servers.replicas[1].resume()
    servers.caught_up()
    assert client.read(n)[0] == "found"
    assert client.read(n)[1] in [replica.port for replica in servers.replicas]
    assert [name for name, _ in client.headers].count("Server-Timing") == 1


def test_a_request_that_reads_may_write_with_the_connection_of_the_primary(
    make: Make, servers: Any, n: int, transaction: str
) -> None:
    """environ["db.primary"] is committed and told of like any write, whether db.conn is a replica's or not."""
    client = Client(make(transaction=transaction))
    for replica in servers.replicas:
        replica.pause()
    found = client.ask("GET", f"/both/{n}")
    assert found[1] in [replica.port for replica in servers.replicas]
    assert client.read(n) == ("found", servers.primary.port)
    assert client.ask("GET", f"/both/{n + 1_000_000}")[1] == servers.primary.port
    assert client.read(n + 1_000_000) == ("found", servers.primary.port)


def test_both_keys_are_one_connection_where_the_request_may_write(make: Make, n: int) -> None:
    """A transaction is not torn apart."""
    seen: list[bool] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["db.primary"] is environ["db.conn"])
        return application(environ, start_response)

    client = Client(make(app))
    client.write(n)
    client.read(n)
    assert seen == [True, False]


def test_a_head_that_goes_out_before_the_write_keeps_the_client_on_the_primary(
    make: Make, servers: Any, n: int
) -> None:
    """The position is not known yet, so that the client reads from the primary until its cookie expires."""
    client = Client(make(transaction="request"))
    client.write(n, how="early")
    assert client.position == "primary-1"
    servers.caught_up()
    assert {client.read(n) for _ in range(3)} == {("found", servers.primary.port)}
    assert "Set-Cookie" not in dict(client.headers), "it is not prolonged"


@pytest.mark.parametrize("forged", ["0-99999999999999999999_lsn-99999999999999999999", "0-1_no-such-source-1"])
def test_a_forged_position_costs_its_client_the_replicas(make: Make, servers: Any, n: int, forged: str) -> None:
    """Others stay on the replicas."""
    app = make()
    client, other = Client(app, "header"), Client(app)
    client.position = forged
    assert client.read(n) == ("missing", servers.primary.port)
    assert other.read(n)[1] in [replica.port for replica in servers.replicas]


def test_a_malformed_position_is_ignored(make: Make, servers: Any, n: int) -> None:
    client = Client(make(), "header")
    client.position = "0-1'; DROP TABLE notes"
    assert client.read(n)[1] in [replica.port for replica in servers.replicas]


def test_replica_if_decides(make: Make, servers: Any, n: int) -> None:
    """In place of the method."""
    client = Client(make(replica_if=lambda environ: environ["REQUEST_METHOD"] == "REPORT"))
    assert client.read(n) == ("missing", servers.primary.port)
    assert client.ask("REPORT", f"/read/{n}")[1] in [replica.port for replica in servers.replicas]


def test_what_a_function_writes_in_a_select_is_told(make: Make, servers: Any, driver: str, n: int) -> None:
    """Also with autocommit, where no COMMIT tells of it."""
    if driver == "psycopg":
        servers.primary.execute(
            "CREATE FUNCTION noted(INT) RETURNS INT AS 'INSERT INTO notes VALUES ($1) RETURNING n' LANGUAGE SQL"
        )
    else:
        servers.primary.execute(
            "CREATE FUNCTION noted(x INT) RETURNS INT DETERMINISTIC MODIFIES SQL DATA"
            " BEGIN INSERT INTO notes VALUES (x); RETURN x; END"
        )

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            run(environ["db.conn"], "SELECT noted(%s)", n)
        return application({**environ, "PATH_INFO": f"/read/{n}"}, start_response)

    try:
        client = Client(make(app, transaction="autocommit"))
        for replica in servers.replicas:
            replica.pause()
        client.write(n)
        assert client.read(n) == ("found", servers.primary.port)
    finally:
        servers.primary.execute("DROP FUNCTION noted" + ("(INT)" if driver == "psycopg" else ""))


def test_a_lease_that_reads_or_rolls_back_tells_nothing(make: Make, driver: str, n: int) -> None:
    """Who has written nothing gets no position, except that a server of PostgreSQL cannot tell."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"].startswith("/undo"):
            write(environ["db.conn"], n)
            environ["db.conn"].rollback()
        start_response("200 OK", [])
        return [f"x {port(environ['db.conn'])}".encode()]

    made = make(app)
    client = Client(made)
    for how in ("nothing", "undo"):
        client.write(n, how)
        if driver != "psycopg":
            assert not client.cookies


def test_replicas_may_be_databases(make: Make, servers: Any, driver: str, n: int) -> None:
    """They are used as they are, and are not closed with the primary."""


    with Database(url_of(driver, servers.replicas[0]), name="reports") as replica:
        app = make(replicas=[replica])
        assert Client(app).read(n) == ("missing", servers.replicas[0].port)
        app.database.close()
        assert replica.check() < 5
        assert replica.name == "reports"


def test_positions_are_told_by_connections_that_are_older_than_the_middleware(
    make: Make, servers: Any, driver: str, n: int
) -> None:
    """A Database that was in use before is asked where its connections cannot tell."""



    with Database(url_of(driver, servers.primary), pool_size=1) as database:
        database.check()
        app = DatabaseMiddleware(application, database, replicas=[url_of(driver, servers.replicas[0])])
        client = Client(app)
        servers.replicas[0].pause()
        client.write(n)
        assert client.read(n) == ("found", servers.primary.port)
        assert database.stats().connects == 1
