"""Configuration by PasteDeploy: ``use = egg:wsgidb`` in a ``[filter:…]`` or ``[filter-app:…]`` section.

Keys are the options of docs/options.md; with neither url nor creator, the environment is asked.
"""

from __future__ import annotations

from collections.abc import Callable

from .wsgi.middleware import App, DatabaseMiddleware


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[App], DatabaseMiddleware]:
    """``paste.filter_factory``. The section's keys count, the file's [DEFAULT] does not. Raises ConfigError."""

    def wrap(app: App) -> DatabaseMiddleware:
        return DatabaseMiddleware(app, **local_conf)

    return wrap


def filter_app_factory(app: App, global_conf: dict[str, str], **local_conf: str) -> DatabaseMiddleware:
    """``paste.filter_app_factory``. Raises ConfigError."""
    return DatabaseMiddleware(app, **local_conf)
