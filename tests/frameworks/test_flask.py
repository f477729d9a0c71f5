"""Flask's particulars: the tutorial's `get_db()` with its teardown, in an application that keeps both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, g, request

from cities import list_cities
from frameworks.kit import FRAMEWORKS, Framework
from frameworks.sites import InProcess
from wsgidb import DatabaseMiddleware, get_connection
from wsgidb.errors import ConnectionReturned


@pytest.fixture
def framework() -> Framework:
    return FRAMEWORKS["flask"]


@pytest.fixture
def tutorial(make_site: Callable[..., InProcess]) -> InProcess:
    """The site of an application as the tutorial has it: only where the connection comes from is new."""
    site = make_site()
    app = Flask(__name__)
    app.wsgi_app = DatabaseMiddleware(app.wsgi_app, site.database)  # type: ignore[method-assign]

    def get_db() -> Any:
        if "db" not in g:
            g.db = get_connection(request.environ)
        return g.db

    @app.teardown_appcontext
    def close_db(error: BaseException | None = None) -> None:
        db = g.pop("db", None)
        if db is not None:
            db.close()

    @app.get("/page")
    def page() -> str:
        get_db().execute("INSERT INTO city VALUES (900, 'Lagado', '')")
        return "done"

    @app.get("/stream")
    def stream() -> Iterator[bytes]:
        return list_cities(get_db())

    site.application = app
    return site


def test_the_tutorials_teardown_does_no_harm_to_a_page(tutorial: InProcess) -> None:
    """The request is one transaction all the same: `close()` ends the handler's use, and settles nothing."""
    assert tutorial.request("GET", "/page").text == "done"
    assert tutorial.has("Lagado")


def test_the_tutorials_teardown_comes_before_a_stream(tutorial: InProcess) -> None:
    """Flask tears down when the view has returned: a stream finds its connection closed. It needs no teardown."""
    with pytest.raises(ConnectionReturned):
        tutorial.request("GET", "/stream")
