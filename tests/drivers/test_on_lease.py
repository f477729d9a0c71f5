"""The option on_lease: what it sets is the request's, and the next request never sees it, however the request ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from drivers.cases import BROKEN, READ, WRITE, Backend, database, over, run
from support.clock import Clock
from wsgidb import ConnectionReturned, DatabaseMiddleware

Environ = dict[str, Any]
USUAL = "-2000"


class Tenant:
    """A setting of the session, in the words of the backend's server."""

    def __init__(self, backend: Backend) -> None:
        if "mysql" in backend.can:
            self.set, self.get, self.unset = "SET @tenant = {}", "SELECT @tenant", "SET @tenant = NULL"
        elif "postgresql" in backend.can:
            self.set, self.unset = "SELECT set_config('my.tenant', '{}', false)", "RESET my.tenant"
            self.get = "SELECT nullif(current_setting('my.tenant', true), '')"
        else:
            self.set, self.get, self.unset = (
                "PRAGMA cache_size = {}",
                "PRAGMA cache_size",
                f"PRAGMA cache_size = {USUAL}",
            )

    def of(self, conn: Any) -> str | None:
        found = run(conn, self.get)[0][0]
        return None if found in (None, int(USUAL)) else str(found)

    def hook(self, log: list[str] | None = None) -> Callable[[Any, Environ], Iterator[None]]:
        def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
            run(conn, self.set.format(environ["tenant"]))
            yield
            run(conn, self.unset)
            if log is not None:
                log.append(environ["tenant"])

        return on_lease


@pytest.fixture
def tenant(backend: Backend) -> Tenant:
    return Tenant(backend)


def send(
    made: DatabaseMiddleware, tenant: str = "7", body: Callable[[Any], Any] = list, **environ: Any
) -> tuple[str, Any]:
    told: list[str] = []

    def start_response(status: str, *_: Any) -> Callable[[bytes], object]:
        told.append(status)
        return print

    found = made({"tenant": tenant, "PATH_INFO": "/", "REQUEST_METHOD": "GET", **environ}, start_response)
    return (told or [""])[0], body(found)


def app(handler: Callable[[Any], Any], status: str = "200 OK") -> Callable[[Environ, Any], list[bytes]]:
    def application(environ: Environ, start_response: Any) -> list[bytes]:
        text = str(handler(environ["db.conn"])).encode()
        start_response(status, [("Content-Length", str(len(text)))])
        return [text]

    return application


@over()
@pytest.mark.parametrize("acquire", ["request", "first-use"])
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_the_request_has_it_and_the_next_one_has_not(
    backend: Backend, tenant: Tenant, acquire: Any, transaction: Any
) -> None:
    """on_lease, C3: the handler sees what was set for its request; a lease without on_lease sees nothing of it."""
    log: list[str] = []
    with database(backend, transaction=transaction) as made:
        wrapped = DatabaseMiddleware(app(tenant.of), made, on_lease=tenant.hook(log), acquire=acquire)
        for number in ("7", "8"):
            assert send(wrapped, number) == ("200 OK", [number.encode()])
            with made.connection() as conn:
                assert tenant.of(conn) is None
        assert log == ["7", "8"]
        told = made.stats()
    assert (told.connects, told.discards) == (1, {})


def raises(conn: Any) -> None:
    run(conn, WRITE)
    raise LookupError("the handler's")


def fails(conn: Any) -> None:
    run(conn, WRITE)
    run(conn, BROKEN)


def hides_an_error(conn: Any) -> str:
    run(conn, WRITE)
    with pytest.raises(Exception, match="no_such_column"):
        run(conn, BROKEN)
    return ""


def sets_another(tenant: Tenant) -> Callable[[Any], object]:
    return lambda conn: run(conn, tenant.set.format(9))


def leaves_rows(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute("SELECT 1 UNION SELECT 2")
    cursor.fetchone()


ENDINGS: dict[str, Callable[[Any], object]] = {
    "raises": raises,
    "fails": fails,
    "hides an error": hides_an_error,
    "closes": lambda conn: conn.close(),
    "commits": lambda conn: (run(conn, WRITE), conn.commit()),
    "rolls back": lambda conn: (run(conn, WRITE), conn.rollback()),
    "leaves rows": leaves_rows,
    "does nothing": lambda conn: None,
}


@over()
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_however_the_handler_ends(backend: Backend, tenant: Tenant, how: str, transaction: Any) -> None:
    """on_lease, C3: whatever a handler does, either the second half has run, or the connection is gone."""
    log: list[str] = []
    with database(backend, transaction=transaction) as made:
        wrapped = DatabaseMiddleware(app(ENDINGS[how]), made, on_lease=tenant.hook(log))
        with pytest.raises(Exception) if how in ("raises", "fails") else nullcontext():  # noqa: PT011
            send(wrapped)
        with made.connection() as conn:
            assert tenant.of(conn) is None
        told = made.stats()
        assert log == ["7"] or sum(told.discards.values()) == 1


@over()
def test_a_client_that_leaves(backend: Backend, tenant: Tenant) -> None:
    """on_lease, R4: the second half runs when the body is closed early, or collected unread."""
    log: list[str] = []

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield str(tenant.of(environ["db.conn"])).encode()
        yield b"never"

    with database(backend) as made:
        wrapped = DatabaseMiddleware(application, made, on_lease=tenant.hook(log))
        assert send(wrapped, body=lambda body: (next(iter(body)), body.close()))[1][0] == b"7"
        assert log == ["7"]
        send(wrapped, "8", body=lambda body: next(iter(body)))  # and forgotten
        assert log == ["7", "8"]
        with made.connection() as conn:
            assert tenant.of(conn) is None
        assert made.stats().connects == 1


@over()
@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_an_error_of_the_hook_is_the_applications(backend: Backend, tenant: Tenant, acquire: Any) -> None:
    """on_lease: what its first half raises propagates as it is, the handler is not called, and the connection is
    cleaned."""
    calls: list[object] = []

    def on_lease(conn: Any, environ: Environ) -> None:
        run(conn, WRITE)
        raise LookupError("no such tenant")

    with database(backend) as made:
        wrapped = DatabaseMiddleware(
            app(lambda conn: calls.append(run(conn, READ))), made, on_lease=on_lease, acquire=acquire
        )
        with pytest.raises(LookupError, match="no such tenant"):
            send(wrapped)
        with made.connection() as conn:
            assert run(conn, READ)[0][0] == 10
        told = made.stats()
    assert calls == []
    assert (told.connects, told.leased, told.discards) == (1, 0, {})


@over()
def test_a_second_half_that_fails_costs_the_connection(
    backend: Backend, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    """on_lease: the response is not harmed, the log tells, and nobody gets the connection."""

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        run(conn, tenant.set.format(7))
        yield
        run(conn, BROKEN)

    with database(backend) as made:
        wrapped = DatabaseMiddleware(app(tenant.of), made, on_lease=on_lease)
        assert send(wrapped) == ("200 OK", [b"7"])
        with made.connection() as conn:
            assert tenant.of(conn) is None
        assert made.stats().discards == {"on_lease failed": 1}
    assert "on_lease failed at the end of GET /: " in caplog.text


@over()
def test_each_half_has_the_connection_alone(backend: Backend, tenant: Tenant) -> None:
    """on_lease, R8: the handler's connection is refused within the hook, and the hook's within the handler; so is a
    thread that one of them has left behind."""
    kept: dict[str, Any] = {}
    refused: list[str] = []

    def attempt(who: str) -> None:
        try:
            run(kept[who], READ)
        except ConnectionReturned:
            refused.append(who)

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        kept["hook"] = conn
        attempt("handler")
        yield
        attempt("handler")
        assert tenant.of(conn) is None
        conn.close()
        assert tenant.of(conn) is None, "close() does nothing"

    def handler(conn: Any) -> None:
        kept["handler"] = conn
        attempt("hook")
        thread = threading.Thread(target=attempt, args=("hook",))
        thread.start()
        thread.join()

    with database(backend) as made:
        kept["handler"] = made.lease()
        kept["handler"].close()
        wrapped = DatabaseMiddleware(app(handler), made, on_lease=on_lease)
        send(wrapped)
        attempt("hook")
        assert refused == ["handler", "hook", "hook", "handler", "hook"]
        assert made.stats().discards == {}


@over()
def test_attributes_that_it_sets_are_put_back(backend: Backend) -> None:
    """on_lease, C3: attributes of the connection that either half sets are put back, as a handler's are."""

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        conn.mine = 1
        yield
        conn.mine = 2

    with database(backend) as made:
        with made.connection() as conn:
            try:
                conn.mine = 0
            except AttributeError:
                pytest.skip("this driver's connection takes no attributes")
        wrapped = DatabaseMiddleware(app(lambda conn: conn.driver_connection.mine), made, on_lease=on_lease)
        assert send(wrapped)[1] == [b"1"]
        with made.connection() as conn:
            assert not hasattr(conn, "mine")
        assert made.stats().discards == {}


@over()
def test_its_writes_are_the_requests(backend: Backend, clock: Clock) -> None:
    """on_lease: what the first half writes is committed with the request, or rolled back with it; what the second half
    writes is committed in any case."""

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        run(conn, "INSERT INTO contract VALUES (2, 20)")
        yield
        run(conn, "UPDATE contract SET n = n + 1 WHERE id = 1")

    with database(backend, transaction="request") as made:
        send(DatabaseMiddleware(app(lambda conn: None, "500 No"), made, on_lease=on_lease))
        assert backend.query("SELECT n FROM contract ORDER BY id") == [(11,)]
        send(DatabaseMiddleware(app(lambda conn: None), made, on_lease=on_lease))
        assert backend.query("SELECT n FROM contract ORDER BY id") == [(12,), (20,)]
        assert made.stats().rolled_back == 0


@over()
@pytest.mark.parametrize("returned", [1, "generator"])
def test_what_it_may_return(backend: Backend, returned: Any) -> None:
    """on_lease: a generator may end without a yield; but two, or another value, are a mistake that shows."""

    def early(conn: Any, environ: Environ) -> Iterator[None]:
        if environ["tenant"] == "7":
            return
        yield
        yield

    with database(backend) as made:
        if returned == 1:
            with pytest.raises(Exception, match="a generator function; it has returned int"):
                send(DatabaseMiddleware(app(lambda conn: None), made, on_lease=lambda conn, environ: 1))
            assert made.stats().discards == {}
        else:
            wrapped = DatabaseMiddleware(app(lambda conn: None), made, on_lease=early)
            assert send(wrapped, "7")[0] == send(wrapped, "8")[0] == "200 OK"
            assert made.stats().discards == {"on_lease failed": 1}
        assert made.stats().leased == 0


@over()
def test_an_interrupted_hook_discards(backend: Backend) -> None:
    """on_lease, R2: what is no Exception, such as a worker's time-out, costs the connection in either half."""

    def first(conn: Any, environ: Environ) -> None:
        raise KeyboardInterrupt

    def second(conn: Any, environ: Environ) -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    with database(backend) as made:
        for hook in (first, second):
            with pytest.raises(KeyboardInterrupt):
                send(DatabaseMiddleware(app(lambda conn: None), made, on_lease=hook))
        assert made.stats().discards == {"interrupted": 2}
        with made.connection() as conn:
            assert run(conn, READ)[0][0] == 10
