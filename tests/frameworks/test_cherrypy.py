"""CherryPy's particulars: its hooks, and when they run."""

from __future__ import annotations

from collections.abc import Callable

import cherrypy
import pytest

from frameworks.kit import FRAMEWORKS, Framework
from frameworks.sites import InProcess
from wsgidb import DatabaseMiddleware


@pytest.fixture
def framework() -> Framework:
    return FRAMEWORKS["cherrypy"]


def test_hooks_at_the_end_of_a_request_belong_to_it(make_site: Callable[..., InProcess]) -> None:
    """R4: `on_end_request` runs when the body is closed, and what it writes is committed with the rest."""
    site = make_site()

    def log() -> None:
        cherrypy.request.wsgi_environ["db.conn"].execute("INSERT INTO city VALUES (900, 'Balnibarbi', '')")

    class Page:
        @cherrypy.expose  # type: ignore[untyped-decorator]
        def index(self) -> str:
            cherrypy.request.hooks.attach("on_end_request", log)
            return "done"

    site.application = DatabaseMiddleware(cherrypy.Application(Page()), site.database)

    assert site.request("GET", "/").text == "done"
    assert site.has("Balnibarbi")


def test_the_engine_need_not_run(make_site: Callable[..., InProcess]) -> None:
    """Under another server than its own nothing of it is started, and requests are answered all the same."""
    site = make_site()

    assert cherrypy.engine.state == cherrypy.engine.states.STOPPED
    assert site.request("GET", "/?city=London").status == 200
