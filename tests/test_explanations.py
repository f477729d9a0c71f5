"""The pages that explain something say what is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from flask import Flask, Response, abort, request

from support.fakedb import FakeDB
from support.wsgi import Call, environment
from wsgidb import Database, DatabaseMiddleware, get_connection

DOCS = Path(__file__).parents[1] / "docs"


def test_the_picture_of_a_request_has_the_steps_of_the_page() -> None:
    """The picture and the page have the same eight steps, in this order; both modes have a colour for each class."""
    picture = (DOCS / "life.svg").read_text()
    numbers = [each.text for each in ElementTree.fromstring(picture).iter() if each.get("class") == "dot-text"]
    steps = re.findall(r"^## (\d+)\. ", (DOCS / "life.md").read_text(), re.MULTILINE)
    assert numbers == steps == [str(number) for number in range(1, 9)]
    light, _, dark = picture.partition("@media (prefers-color-scheme: dark)")
    dark = dark.partition("</style>")[0]
    for name in ("card", "soft", "head", "life", "run", "held", "go", "tip", "over"):
        for style in (light, dark):
            assert re.search(rf"\.{name}\b[^}}]*#[0-9a-f]{{6}}", style), name


class TestCommitAtTheEnd:
    """What docs/commit-at-the-end.md says of Flask's teardown, and of wsgidb in its place."""

    @pytest.fixture
    def app(self) -> Flask:
        app = Flask(__name__)
        app.config["PROPAGATE_EXCEPTIONS"] = False

        @app.get("/aborts")
        def aborts() -> str:
            write()
            abort(409)

        @app.get("/handled")
        def handled() -> str:
            write()
            raise LookupError

        @app.errorhandler(LookupError)
        def of_a_lookup(error: LookupError) -> tuple[str, int]:
            return "not here", 404

        @app.get("/fails")
        def fails() -> str:
            write()
            raise ArithmeticError

        @app.get("/page")
        def page() -> str:
            write()
            return "done"

        @app.get("/stream")
        def stream() -> Response:
            conn = request.environ.get("db.conn")
            return Response(chunk for chunk in (write(conn), "second"))

        def write(conn: Any = None) -> str:
            conn = conn or (get_connection(request.environ) if "db.conn" in request.environ else None)
            if conn is not None:
                conn.cursor().execute("INSERT")
            return "first"

        return app

    @pytest.fixture
    def database(self, fakedb: FakeDB) -> Iterator[Database]:
        with Database(creator=fakedb.connect, transaction="request") as made:
            yield made

    @pytest.mark.parametrize(
        ("path", "status", "told"),
        [("/aborts", 409, None), ("/handled", 404, None), ("/fails", 500, ArithmeticError), ("/page", 200, None)],
    )
    def test_an_error_that_became_a_page(self, app: Flask, path: str, status: int, told: type | None) -> None:
        """Teardown gets None for an error that was handled, as for a success."""
        heard: list[Any] = []
        app.teardown_appcontext(heard.append)
        assert app.test_client().get(path).status_code == status
        assert [error if error is None else type(error) for error in heard] == [told]

    @pytest.mark.parametrize(
        ("path", "commits"), [("/aborts", 0), ("/handled", 0), ("/fails", 0), ("/page", 1), ("/stream", 1)]
    )
    def test_the_status_decides(self, app: Flask, database: Database, fakedb: FakeDB, path: str, commits: int) -> None:
        """With wsgidb only what the client sees as a success is committed."""
        Call(DatabaseMiddleware(app, database), path).read()
        assert fakedb.count("commit") == commits

    def test_a_commit_in_teardown_that_fails(self, app: Flask) -> None:
        """It comes after start_response, and no error handler of the application gets what it raises."""
        started: list[str] = []

        @app.errorhandler(RuntimeError)
        def of_the_commit(error: RuntimeError) -> tuple[str, int]:
            return "sorry", 500

        @app.teardown_appcontext
        def commit(error: BaseException | None) -> None:
            raise RuntimeError("the commit has failed")

        with pytest.raises(RuntimeError, match="the commit has failed"):
            app.wsgi_app(environment("/page"), lambda status, *_: started.append(status))  # type: ignore[arg-type]
        assert started == ["200 OK"]

    def test_a_commit_of_wsgidb_that_fails(self, app: Flask, database: Database, fakedb: FakeDB) -> None:
        """The client gets a 500."""
        fakedb.fail("commit", FakeDB.OperationalError("no"))
        call = Call(DatabaseMiddleware(app, database), "/page")
        assert [status for status, *_ in call.started] == ["500 Internal Server Error"]

    def test_a_stream(self, app: Flask) -> None:
        """Teardown comes before the first chunk."""
        order: list[str] = []
        app.teardown_appcontext(lambda error: order.append("teardown"))
        for chunk in Call(app, "/stream").body:
            order.append(chunk.decode())
        assert order == ["teardown", "first", "second"]
