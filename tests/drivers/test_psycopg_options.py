"""psycopg's options: what the url and connect_args may hold, TLS, sockets, and the names it relies on."""

from __future__ import annotations

import inspect
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme

from drivers.cases import run, soon
from drivers.deadlines import driver_of
from support.postgresql import PASSWORDS, PostgreSQL
from wsgidb import ConfigError, Database
from wsgidb.drivers.psycopg.connection import PRIVATE_NAMES, Connection
from wsgidb.drivers.psycopg.driver import Psycopg
from wsgidb.drivers.psycopg.statements import COPIED, ENDINGS, NOTIFIES, QUERIES

URL = "postgresql://guest@127.0.0.1:1/test"
server = pytest.mark.server


def connected(url: str, **options: Any) -> Any:
    return closing(driver_of(url, **options).connect(soon()))


def test_short_form() -> None:
    """url: postgresql:// is psycopg."""
    assert type(driver_of(URL)) is Psycopg


@server
def test_login_with_a_password(postgresql: PostgreSQL) -> None:
    """url: a password with special characters arrives as it is; a wrong one is refused, and not shown."""
    with connected(postgresql.url("app")) as conn:
        assert run(conn, "SELECT current_user") == [("app",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed") as caught:
        driver_of(postgresql.url("app", password="wrong-one")).connect(soon())
    assert "wrong-one" not in str(caught.value)
    with connected(postgresql.url("app", password="old"), connect_args={"password": PASSWORDS["app"]}) as conn:
        assert conn.info.password == PASSWORDS["app"]


@server
def test_unix_socket(postgresql: PostgreSQL) -> None:
    """url: a directory as host is that of the server's socket, in the query or percent-encoded."""
    directory = str(postgresql.directory)
    for url in (
        f"postgresql://guest@/test?host={directory}&application_name=me",
        f"postgresql://guest@{directory.replace('/', '%2F')}/test?application_name=me",
    ):
        with connected(url, connect_args={"port": postgresql.port}) as conn:
            assert run(conn, "SELECT inet_client_addr(), current_setting('application_name')") == [(None, "me")]


@server
def test_values_of_the_query_are_converted(postgresql: PostgreSQL) -> None:
    """url: numbers are numbers, and classes and functions of psycopg's are given by name."""
    url = postgresql.url(prepare_threshold="none", row_factory="dict_row", cursor_factory="ClientCursor")
    with connected(url) as conn:
        assert conn.prepare_threshold is None
        assert run(conn, "SELECT 1 AS one") == [{"one": 1}]
        assert isinstance(conn.cursor(), psycopg.ClientCursor)
    with connected(postgresql.url(prepare_threshold="7")) as conn:
        assert conn.prepare_threshold == 7


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("autocommit=1", "use wsgidb's option transaction"),
        ("connect_timeout=1", "use wsgidb's option connect_timeout"),
        ("sslmode=require", "use wsgidb's option ssl_mode"),
        ("sslrootcert=/ca", "use wsgidb's option ssl_ca"),
        ("sslkey=/key", "use wsgidb's option ssl_key"),
        ("user=me", "belongs before the url's question mark"),
        ("host=other", "belongs before the url's question mark"),
        ("aplication_name=x", "did you mean 'application_name'"),
        ("prepare_threshold=five", "takes a whole number or none, got 'five'"),
        ("row_factory=rows", "has no row factory 'rows'"),
        ("cursor_factory=Connection", "has no cursor class 'Connection'"),
        ("context=x", "use connect_args"),
    ],
)
def test_bad_query(query: str, expected: str) -> None:
    """Bad input: an option that is wsgidb's own, mistyped, or of a bad value is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=expected) as caught:
        driver_of(f"{URL}?{query}")
    assert str(caught.value).startswith(query.partition("=")[0])


def test_bad_connect_args() -> None:
    """Bad input: the same in connect_args."""
    with pytest.raises(ConfigError, match="autocommit"):
        driver_of(URL, connect_args={"autocommit": True})


def test_no_host() -> None:
    """Bad input: libpq's defaults are not guessed at."""
    with pytest.raises(ConfigError, match="names no host"):
        driver_of("postgresql:///test")


def test_unreadable_certificate(tmp_path: Path) -> None:
    """Bad input: a file that cannot be read is named at start-up."""
    with pytest.raises(ConfigError, match="ssl_ca: cannot be read"):
        driver_of(URL, ssl_mode="verify_ca", ssl_ca=str(tmp_path / "none"))


def test_unknown_host() -> None:
    """R1: a host that does not exist is the driver's error."""
    with pytest.raises(psycopg.OperationalError, match=r"no-such-host\.invalid"):
        driver_of("postgresql://guest@no-such-host.invalid/test").connect(soon())


# -- TLS

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@server
@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [("disabled", False), ("preferred", True), ("required", True), ("verify_ca", True), ("verify_identity", True)],
)
def test_ssl_mode(tls_postgresql: PostgreSQL, mode: str, encrypted: bool) -> None:
    """ssl_mode: each mode as MySQL's users know it, on a server that offers TLS."""
    options = {"ssl_ca": str(tls_postgresql.ca)} if mode.startswith("verify") else {}
    with connected(tls_postgresql.url(), ssl_mode=mode, **options) as conn:
        assert run(conn, ENCRYPTED) == [(encrypted,)]


@server
@pytest.mark.parametrize("mode", ["required", "verify_ca", "verify_identity"])
def test_ssl_mode_on_a_server_without_tls(postgresql: PostgreSQL, tls_postgresql: PostgreSQL, mode: str) -> None:
    """ssl_mode: required and above never connect in plaintext; preferred does."""
    options = {"ssl_ca": str(tls_postgresql.ca)} if mode.startswith("verify") else {}
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        driver_of(postgresql.url(), ssl_mode=mode, **options).connect(soon())
    with connected(postgresql.url()) as conn:
        assert run(conn, ENCRYPTED) == [(False,)]


@server
def test_ssl_mode_is_enforced_by_looking(postgresql: PostgreSQL) -> None:
    """ssl_mode: libpq ignores it on a Unix socket; a connection that came out without TLS is refused."""
    url = f"postgresql://guest@/test?host={postgresql.directory}"
    with pytest.raises(psycopg.OperationalError, match="without TLS"):
        driver_of(url, ssl_mode="required", connect_args={"port": postgresql.port}).connect(soon())


@server
def test_somebody_elses_certificate(tls_postgresql: PostgreSQL, tmp_path: Path) -> None:
    """ssl_mode: verify_ca refuses a certificate of another authority, verify_identity another host's name."""
    other = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        driver_of(tls_postgresql.url(), ssl_mode="verify_ca", ssl_ca=str(other)).connect(soon())
    arguments = {"host": "another.invalid", "hostaddr": "127.0.0.1"}
    options = {"ssl_ca": str(tls_postgresql.ca), "connect_args": arguments}
    with connected(tls_postgresql.url(), ssl_mode="verify_ca", **options):
        pass
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        driver_of(tls_postgresql.url(), ssl_mode="verify_identity", **options).connect(soon())


# -- errors and names


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.CannotConnectNow(), True),
        (psycopg.errors.ConnectionFailure(), True),
        (psycopg.errors.IdleInTransactionSessionTimeout(), True),
        (psycopg.OperationalError("the connection is closed"), True),
        (psycopg.errors.PipelineAborted("pipeline aborted"), False),
        (psycopg.errors.DeadlockDetected(), False),
        (psycopg.errors.QueryCanceled(), False),
        (psycopg.errors.TooManyConnections(), False),
        (psycopg.ProgrammingError("no result"), False),
        (OSError(), False),
    ],
)
def test_is_disconnect(error: Exception, expected: bool) -> None:
    """is_disconnect: by SQLSTATE, or libpq's own errors, which have none."""
    assert driver_of(URL).is_disconnect(error) is expected


@server
def test_every_private_name_is_there(postgresql: PostgreSQL) -> None:
    """Layout: a psycopg that renames what the driver relies on fails here first."""
    with connected(postgresql.url()) as conn:
        assert isinstance(conn, Connection)
        for owner, names in ((conn, PRIVATE_NAMES["Connection"]), (conn.cursor(), PRIVATE_NAMES["Cursor"])):
            assert [name for name in names if not hasattr(owner, name)] == []
    for name, argument in QUERIES.items():
        assert argument in inspect.signature(getattr(psycopg.ServerCursor, name)).parameters
    for name in ENDINGS:
        assert inspect.isgeneratorfunction(getattr(psycopg.Connection, name))
    for name in (COPIED, NOTIFIES):
        assert inspect.isgeneratorfunction(getattr(psycopg.generators, name))


@server
def test_many_cursors_are_ours(postgresql: PostgreSQL) -> None:
    """adopt: cursors of every kind, and conn.execute()'s, name the lease, and end with it."""
    with Database(postgresql.url(cursor_factory="ClientCursor")) as database, database.connection() as conn:
        cursors = [conn.cursor(), conn.cursor("named"), conn.execute("SELECT 1")]
        assert [cursor.connection is conn for cursor in cursors] == [True] * 3
        assert isinstance(cursors[0], psycopg.ClientCursor)
        assert isinstance(cursors[1], psycopg.ServerCursor)
        cursors[1].close()
