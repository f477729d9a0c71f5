"""R9 without servers: what commits, what is rolled back, and who says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from transactions.site import COMMITTED, LOST, ROLLED_BACK, Environ, Site, Surprise, answering, stream
from wsgidb import ConnectionReturned, Database, DatabaseUnavailable


@pytest.fixture
def database(fakedb: FakeDB) -> Iterator[Database]:
    with Database(creator=fakedb.connect, transaction="request") as made:
        yield made


@pytest.fixture
def site(fakedb: FakeDB, database: Database) -> Site:
    return Site(fakedb, database)


class TestVeto:
    @pytest.mark.parametrize(
        ("status", "end"),
        [
            *((status, COMMITTED) for status in ("200 OK", "204 No Content", "303 See Other", "304 Not Modified")),
            *((status, ROLLED_BACK) for status in ("400 Bad Request", "404 Not Found", "500 Oh", "999 Unheard of")),
        ],
    )
    def test_a_status_of_400_and_above_is_rolled_back(self, site: Site, status: str, end: list[str]) -> None:
        """R9: without a commit_veto; and sent as it is."""
        site.handler = answering([b"x"], status=status)
        site.serve()
        assert site.seen == [*end, status, "x"]
        assert site.is_whole

    @pytest.mark.parametrize(("answer", "end"), [(True, ROLLED_BACK), (False, COMMITTED), ("yes", ROLLED_BACK)])
    def test_a_veto_of_ones_own_replaces_it(
        self, fakedb: FakeDB, database: Database, answer: object, end: list[str]
    ) -> None:
        """R9: it is asked once, of environ, status and headers, when all that the handler does is done."""
        asked: list[Any] = []

        def veto(environ: Environ, *args: Any) -> object:
            asked.append((environ["PATH_INFO"], *args, own.seen))
            return answer

        own = Site(fakedb, database, commit_veto=veto)
        own.handler = answering(stream(b"x"), 1, "500 Oh")
        own.serve(path="/a")
        assert asked == [("/a", "500 Oh", [("Content-Length", "1")], ["INSERT"])]
        assert own.seen == [*end, "500 Oh", "x"]

    @pytest.mark.parametrize(
        ("body", "length", "sent"),
        [([b"abcd"], None, []), (stream(b"abcd"), 4, []), (stream(b"ab", b"cd"), 4, ["200 OK", "ab"])],
    )
    def test_a_veto_that_raises_is_a_request_that_failed(
        self, fakedb: FakeDB, database: Database, body: Any, length: int | None, sent: list[str]
    ) -> None:
        """R9: rolled back, and its exception surfaces, the same object."""
        error = Surprise("veto")

        def veto(*args: Any) -> bool:
            raise error

        site = Site(fakedb, database, commit_veto=veto)
        site.handler = answering(body, length)
        with pytest.raises(Surprise) as caught:
            site.serve()

        assert caught.value is error
        assert site.seen == ["INSERT", *sent, "rollback"]
        assert site.is_whole

    def test_no_start_response_is_no_success(self, site: Site) -> None:
        """R9: nothing says that the request was well, so it is not committed."""

        def handler(environ: Environ, start_response: Any) -> Any:
            environ["db.conn"].cursor().execute("INSERT")
            return [b"x"]

        site.handler = handler
        site.call()
        assert site.seen == ROLLED_BACK


class TestHandlersOwn:
    def test_close_ends_the_proxy_and_loses_nothing(self, site: Site) -> None:
        """R9: the transaction is still the request's, committed at its end."""

        def handler(environ: Environ, start_response: Any) -> Any:
            conn = environ["db.conn"]
            conn.cursor().execute("INSERT")
            conn.close()
            with pytest.raises(ConnectionReturned):
                conn.cursor()
            conn.close()
            assert site.seen == ["INSERT"]
            assert site.database.stats().leased == 1
            start_response("200 OK", [])
            return []

        site.handler = handler
        site.serve()
        assert site.seen == [*COMMITTED, "200 OK"]
        assert site.is_whole

    def test_close_and_then_an_exception_rolls_back(self, site: Site) -> None:
        """R9: whoever closed its connection has not thereby committed."""

        def handler(environ: Environ, start_response: Any) -> Any:
            environ["db.conn"].cursor().execute("INSERT")
            environ["db.conn"].close()
            raise Surprise

        site.handler = handler
        with pytest.raises(Surprise):
            site.serve()
        assert site.seen == ROLLED_BACK
        assert site.is_whole

    @pytest.mark.parametrize("name", ["commit", "rollback"])
    def test_commit_and_rollback_are_the_drivers(self, site: Site, name: str) -> None:
        """R9: a handler may settle a part by itself; the rest is the request's."""

        def handler(environ: Environ, start_response: Any) -> Any:
            getattr(environ["db.conn"], name)()
            environ["db.conn"].cursor().execute("INSERT")
            start_response("200 OK", [])
            return []

        site.handler = handler
        site.serve()
        assert site.seen == [name, *COMMITTED, "200 OK"]


class TestFirstUse:
    @pytest.fixture
    def lazy(self, fakedb: FakeDB, database: Database) -> Site:
        return Site(fakedb, database, acquire="first-use")

    def test_nothing_used_is_nothing_committed(self, lazy: Site) -> None:
        """R9 with acquire=first-use: no connection at all."""

        def handler(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            return [b"x"]

        lazy.handler = handler
        lazy.serve()
        assert lazy.seen == ["200 OK", "x"]
        assert lazy.fakedb.opened == 0

    @pytest.mark.parametrize(
        ("handler", "seen"),
        [
            (answering([b"x"]), [*COMMITTED, "200 OK", "x"]),
            (answering(stream(b"a", b"b"), 2), ["INSERT", "200 OK", "a", "commit", "rollback", "b"]),
            (answering([b"x"], status="404 No"), [*ROLLED_BACK, "404 No", "x"]),
        ],
    )
    def test_what_was_used_is_settled_as_ever(self, lazy: Site, handler: Any, seen: list[str]) -> None:
        """R9 with acquire=first-use."""
        lazy.handler = handler
        lazy.serve()
        assert lazy.seen == seen
        assert lazy.is_whole

    def test_a_failed_commit_is_a_500(self, lazy: Site) -> None:
        """R9 with acquire=first-use."""
        lazy.handler = answering([b"x"])
        lazy.fakedb.fail("commit", LOST)
        lazy.serve()
        assert lazy.seen == ["INSERT", "commit", "500 Internal Server Error", "Internal Server Error\n"]

    def test_no_connection_is_a_503_although_start_response_was_called(self, lazy: Site) -> None:
        """R1, R9: the held head is replaced."""

        def handler(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            environ["db.conn"].cursor()
            return []

        lazy.handler = handler
        lazy.fakedb.fail("connect", LOST)
        lazy.serve()
        assert [args[0] for args in lazy.started] == ["503 Service Unavailable"]


class TestOutsideOfRequests:
    def test_a_block_that_ends_well_is_committed(self, fakedb: FakeDB, database: Database) -> None:
        """R9: db.connection() is under the same rules."""
        with database.connection() as conn:
            conn.cursor().execute("INSERT")
        assert [name for _, name, _ in fakedb.calls][-2:] == ["commit", "rollback"]

    def test_one_that_raises_is_rolled_back(self, fakedb: FakeDB, database: Database) -> None:
        """R9, R2: and the exception is the block's own."""
        error = Surprise()

        def fail() -> None:
            with database.connection() as conn:
                conn.cursor().execute("INSERT")
                raise error

        with pytest.raises(Surprise) as caught:
            fail()
        assert caught.value is error
        assert (fakedb.count("commit"), fakedb.count("rollback")) == (0, 1)

    def test_a_failed_commit_raises(self, fakedb: FakeDB, database: Database) -> None:
        """R9: what the driver raised, and the connection is discarded."""
        fakedb.fail("commit", LOST)
        with pytest.raises(FakeDB.OperationalError) as caught, database.connection() as conn:
            conn.cursor().execute("INSERT")
        assert caught.value is LOST
        assert (database.stats().leased, database.stats().discards) == (0, {"commit failed": 1})

    def test_close_ends_the_proxy_and_loses_nothing(self, fakedb: FakeDB, database: Database) -> None:
        """R9: the block's end settles."""
        with database.connection() as conn:
            conn.cursor().execute("INSERT")
            conn.close()
        assert fakedb.count("commit") == 1

    def test_no_connection_raises(self, fakedb: FakeDB, database: Database) -> None:
        """R1: there is nobody to give a 503 to."""
        fakedb.fail("connect", LOST)
        with pytest.raises(DatabaseUnavailable), database.connection():
            pytest.fail("never entered")
