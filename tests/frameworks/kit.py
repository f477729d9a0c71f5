"""The frameworks, each with its example, its own test client, and what a user must know about it.

A new framework is one more entry in `FRAMEWORKS`, an example, and a factor in tox.ini.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from frameworks import clients
from wsgidb import DatabaseMiddleware


@dataclass(frozen=True)
class Framework:
    """One framework, and its cells in docs/compatibility.md that tests fill by what they see."""

    name: str
    """Its factor in tox.ini."""
    title: str
    package: str | None
    """What pip calls it."""
    client: clients.Client
    tested_by: str
    """That client, as the page calls it."""
    environ: str = 'request.environ["db.conn"]'
    """How the example gets the connection."""
    raises: bool = False
    """Whether a handler's exception reaches the middleware; else it becomes the framework's own 500."""
    wrapper: bool = True
    """Whether a download is the server's file wrapper, so that the server can use sendfile."""
    length: bool = True
    """Whether a page is complete when it leaves the framework: a list, or one chunk and its length."""
    application: Callable[[ModuleType], Any] = lambda module: module.application
    """The WSGI application of the example: what a server is given."""
    middleware: Callable[[Any], DatabaseMiddleware] = lambda application: application
    """The middleware in that application."""

    @property
    def module(self) -> str:
        """Its example."""
        return "plain_wsgi" if self.package is None else f"{self.name}_app"

    @property
    def page(self) -> str:
        """Its page in docs/howto."""
        return "werkzeug" if self.package is None else self.name

    def load(self) -> Any:
        """The example's application, made anew, with the settings that the environment has now."""
        sys.modules.pop(self.module, None)
        return self.application(import_module(self.module))


def _around(module: ModuleType) -> DatabaseMiddleware:
    """What paste.ini does."""
    return DatabaseMiddleware(module.main({}), transaction="request")


WEBTEST = "WebTest"
FRAMEWORKS = {
    each.name: each
    for each in (
        Framework(
            *("wsgi", "plain WSGI", None, clients.bare, "`wsgiref.validate`", 'environ["db.conn"]'),
            raises=True,
        ),
        Framework("werkzeug", "Werkzeug", "Werkzeug", clients.werkzeug, "`werkzeug.test.Client`", raises=True),
        Framework(
            *("flask", "Flask", "Flask", clients.flask, "`app.test_client()`", "get_connection(request.environ)"),
            application=lambda module: module.app,
            middleware=lambda app: app.wsgi_app,
        ),
        Framework("bottle", "Bottle", "bottle", clients.webtest, WEBTEST),
        Framework(
            *("falcon", "Falcon", "falcon", clients.falcon, "`falcon.testing.TestClient`", 'req.env["db.conn"]'),
        ),
        Framework("pyramid", "Pyramid", "pyramid", clients.webtest, WEBTEST, raises=True, application=_around),
        Framework("django", "Django", "Django", clients.webtest, f"{WEBTEST}; `django.test.Client`"),
        Framework(
            *("cherrypy", "CherryPy", "CherryPy", clients.webtest, WEBTEST),
            environ="get_connection(cherrypy.request.wsgi_environ)",
            wrapper=False,
        ),
        Framework(
            *("webpy", "web.py", "web.py", clients.webtest, f"{WEBTEST}; `app.request()`", 'web.ctx.env["db.conn"]'),
            wrapper=False,
            length=False,
        ),
    )
}

NAMES = [os.environ["FRAMEWORK"]] if os.environ.get("FRAMEWORK") else list(FRAMEWORKS)
"""Those to be tested."""
