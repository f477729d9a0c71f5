"""web.py's particulars: `app.request()`, and pages without a length."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import pytest
import web

from frameworks.kit import FRAMEWORKS, Framework
from frameworks.sites import InProcess
from support.wsgi import Call
from wsgidb import DatabaseMiddleware


@pytest.fixture
def framework() -> Framework:
    return FRAMEWORKS["webpy"]


def test_its_client_needs_to_be_given_a_connection(make_site: Callable[..., InProcess]) -> None:
    """`app.request()` leaves out what `wsgifunc` was given."""
    site = make_site()
    with site.database.connection() as conn:
        response = import_module("webpy_app").app.request("/?city=London", env={"db.conn": conn})

    assert (response.status, response.data) == ("200 OK", b'City "London" is #770')


def test_a_page_that_announces_its_length_is_complete(make_site: Callable[..., InProcess]) -> None:
    """R3: settled before it leaves, like any other framework's."""
    site = make_site()

    class Page:
        def GET(self) -> str:
            web.header("Content-Length", "4")
            web.ctx.env["db.conn"].execute("SELECT 1")
            return "done"

    call = Call(DatabaseMiddleware(web.application(("/", Page)).wsgifunc(), site.database))

    assert site.stats()["leased"] == 0
    assert call.read() == b"done"
