"""The frameworks, and for each what its example is, what its own test client is, and what a user must know of it.

A new framework is one more entry in `FRAMEWORKS`, an example, and a factor in tox.ini.
"""

from __future__ import annotations

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
    """One framework, and its cells in docs/frameworks.md that tests fill by what they see."""

    name: str
    """Its factor in tox.ini."""
    title: str
    package: str | None
    """What pip calls it."""
    client: clients.Client
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

    def load(self) -> Any:
        """The example's application, made anew, with the settings that the environment has now."""
        sys.modules.pop(self.module, None)
        return self.application(import_module(self.module))


def _around(module: ModuleType) -> DatabaseMiddleware:
    """What paste.ini does."""
    return DatabaseMiddleware(module.main({}), transaction="request")


FRAMEWORKS = {
    each.name: each
    for each in (
        Framework("wsgi", "plain WSGI", None, clients.bare, raises=True),
        Framework("werkzeug", "Werkzeug", "Werkzeug", clients.werkzeug, raises=True),
        Framework(
            *("flask", "Flask", "Flask", clients.flask),
            application=lambda module: module.app,
            middleware=lambda app: app.wsgi_app,
        ),
        Framework("bottle", "Bottle", "bottle", clients.webtest),
        Framework("falcon", "Falcon", "falcon", clients.falcon),
        Framework("pyramid", "Pyramid", "pyramid", clients.webtest, raises=True, application=_around),
        Framework("django", "Django", "Django", clients.webtest),
        Framework("cherrypy", "CherryPy", "CherryPy", clients.webtest, wrapper=False),
        Framework("webpy", "web.py", "web.py", clients.webtest, wrapper=False, length=False),
    )
}
